"""How to test a program that uses domindex: on a whole host in memory, in milliseconds.

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
    """Call `page(name)` for each guest called prod-something that has crashed."""

    def look(event: domindex.Event) -> None:
        match event:
            # Added: it had crashed already when the index first saw it.
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
    with host.connect(QUICK) as index:  # QUICK: what takes seconds on a real host, in hundredths
        yield index


@pytest.fixture
def paged() -> queue.Queue[str]:
    return queue.Queue()


def test_a_crash_pages(host: SimulatedHost, index: domindex.Index, paged: queue.Queue[str]) -> None:
    """What must happen is waited for."""
    page_on_crash(index, paged.put)
    host.crash(host.create("prod-db"))
    assert paged.get(timeout=5) == "prod-db"


def test_nothing_else_pages(
    host: SimulatedHost, index: domindex.Index, paged: queue.Queue[str]
) -> None:
    """What must not happen is looked for once everything has been heard."""
    subscription = page_on_crash(index, paged.put)
    host.crash(host.create("test-db"))
    host.shutdown(host.create("prod-web"))
    host.reboot(host.create("prod-mail"))
    index.refresh()  # the index holds all of it
    assert subscription.drain(timeout=5)  # and the program has heard it
    assert paged.empty()


def test_a_crash_pages_that_nobody_could_see(
    host: SimulatedHost, index: domindex.Index, paged: queue.Queue[str]
) -> None:
    """xenstored is away while a guest crashes."""
    database = host.create("prod-db")
    page_on_crash(index, paged.put)
    host.stop_xenstored()
    host.crash(database)
    host.start_xenstored()
    assert paged.get(timeout=5) == "prod-db"


def test_a_hostile_name_cannot_forge_the_page(
    host: SimulatedHost, index: domindex.Index, paged: queue.Queue[str]
) -> None:
    """Whoever names a guest may put anything there."""
    page_on_crash(index, paged.put)
    host.crash(host.create(b"prod-\x1b[2J\nall is well\xff"))
    assert paged.get(timeout=5) == r"prod-\x1b[2J\nall is well\udcff"
