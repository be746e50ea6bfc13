"""How to test a program that uses domindex: on a simulated host in memory, in milliseconds.

python3 -m pytest test_your_program.py
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator

import pytest

import domindex
from domindex import Added, ShutDown, ShutdownReason
from domindex.testing import QUICK, SimulatedHost

# -- the program ---------------------------------------------------------------------------------


def page_on_crash(index: domindex.Index, page: Callable[[str], object]) -> domindex.Subscription:
    """Call `page(name)` when a guest whose name begins with prod- has crashed."""

    def look(event: domindex.Event) -> None:
        match event:
            # Added, if it had crashed before the index first saw it.
            case Added(domain) | ShutDown(domain) if domain.shutdown is ShutdownReason.CRASH:
                page(domain.printable)

    return index.subscribe(
        look,
        events=(Added, ShutDown),
        where=lambda domain: (domain.name or "").startswith("prod-"),
    )


# -- its tests -----------------------------------------------------------------------------------


@pytest.fixture
def host() -> Iterator[SimulatedHost]:
    with SimulatedHost() as host:
        yield host


@pytest.fixture
def index(host: SimulatedHost) -> Iterator[domindex.Index]:
    with host.connect(QUICK) as index:  # QUICK: short intervals
        yield index


@pytest.fixture
def paged() -> queue.Queue[str]:
    return queue.Queue()


def test_a_crash_pages(host: SimulatedHost, index: domindex.Index, paged: queue.Queue[str]) -> None:
    """Wait for what must happen."""
    page_on_crash(index, paged.put)
    host.crash(host.create("prod-db"))
    assert paged.get(timeout=5) == "prod-db"


def test_nothing_else_pages(
    host: SimulatedHost, index: domindex.Index, paged: queue.Queue[str]
) -> None:
    """First make sure that every event was handled. Then look for what must not happen."""
    subscription = page_on_crash(index, paged.put)
    host.crash(host.create("test-db"))
    host.shutdown(host.create("prod-web"))
    host.reboot(host.create("prod-mail"))
    index.refresh()  # the index holds every change
    assert subscription.drain(timeout=5)  # and the program has handled every event
    assert paged.empty()


def test_a_crash_pages_although_xenstored_was_down(
    host: SimulatedHost, index: domindex.Index, paged: queue.Queue[str]
) -> None:
    """The guest crashes meanwhile. The index finds that out afterwards."""
    database = host.create("prod-db")
    page_on_crash(index, paged.put)
    host.stop_xenstored()
    host.crash(database)
    host.start_xenstored()
    assert paged.get(timeout=5) == "prod-db"


def test_a_hostile_name_cannot_forge_the_page(
    host: SimulatedHost, index: domindex.Index, paged: queue.Queue[str]
) -> None:
    """A name may hold any character."""
    page_on_crash(index, paged.put)
    host.crash(host.create(b"prod-\x1b[2J\nall is well\xff"))
    assert paged.get(timeout=5) == r"prod-\x1b[2J\nall is well\udcff"
