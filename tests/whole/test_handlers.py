"""What a handler may do with the index that called it: everything, without a dead-lock."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from domindex.domain import Domain
from domindex.errors import Closed
from domindex.events import Added, Event
from domindex.index import Index
from domindex.listening.subscription import Subscription
from domindex.testing import SimulatedHost
from tests.whole.helpers import CALM, LIMIT


@pytest.fixture
def host() -> SimulatedHost:
    """One kind will do: what differs between them is below all this."""
    return SimulatedHost(idle=True)


def subscribe_and_wait(index: Index, _: Domain) -> None:
    with index.subscribe(lambda _: None) as other:
        assert other.wait_synced(LIMIT)
        assert other.drain(LIMIT)


def stream(index: Index, domain: Domain) -> None:
    with index.events() as events:
        while True:
            event = events.get(LIMIT)
            if isinstance(event, Added) and event.domain == domain:
                return


def another_thread(index: Index, domain: Domain) -> None:
    """Which asks for what is under the index's lock, while the handler waits for it."""
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(index.find(prefix="web")))
    thread.start()
    thread.join(LIMIT)
    assert found == [(domain,)]


USES: dict[str, Callable[[Index, Domain], object]] = {
    "look up": lambda index, domain: index.by_name("web") is index.domids[domain.domid],
    "verify": lambda index, _: index.by_name("web", verify=True),
    "list": lambda index, _: (list(index), len(index), index.find(), index.snapshot()),
    "refresh": lambda index, _: index.refresh(LIMIT),
    "info": lambda index, domain: index.info(domain.domid),
    "stats": lambda index, _: index.stats,
    "subscribe": subscribe_and_wait,
    "stream": stream,
    "wait for": lambda index, _: index.wait_for(name="web", timeout=LIMIT),
    "wait live": lambda index, _: index.wait_live(LIMIT),
    "add an index": lambda index, _: index.add_index("type", lambda domain: domain.type),
    "another thread": another_thread,
    "fileno": lambda index, _: index.fileno(),
    "dispatch": lambda index, _: index.dispatch(),
}
"""What a handler may want of the index, on hearing of a domain "web"."""


def hears_of_web(
    index: Index, host: SimulatedHost, threaded: bool, what: Callable[[Domain], object]
) -> Subscription:
    """Have a handler do `what` when it hears of "web", and wait until it has."""
    done = threading.Event()

    def handler(event: Event) -> None:
        if isinstance(event, Added) and event.domain.name == "web":
            try:
                what(event.domain)
            finally:
                done.set()

    subscription = index.subscribe(handler, threaded=threaded)
    host.create("web")
    if not threaded:
        index.refresh()
        index.dispatch()
    assert done.wait(LIMIT)
    return subscription


@pytest.mark.parametrize("threaded", [True, False], ids=["thread", "loop"])
@pytest.mark.parametrize("use", list(USES))
def test_a_handler_may_use_the_index(
    host: SimulatedHost, index: Index, use: str, threaded: bool
) -> None:
    """P8: it holds what the handler heard, and never waits for it."""
    subscription = hears_of_web(index, host, threaded, lambda domain: USES[use](index, domain))
    assert subscription.errors == 0
    assert index.stats.listener_errors == 0


@pytest.mark.parametrize("threaded", [True, False], ids=["thread", "loop"])
def test_a_handler_may_wait_for_the_end_of_what_it_heard_of(
    host: SimulatedHost, index: Index, threaded: bool
) -> None:
    """Another listener's events go on meanwhile."""

    def wait(domain: Domain) -> None:
        host.destroy(domain.domid)
        assert index.wait_gone(domain, LIMIT).domain == domain

    assert hears_of_web(index, host, threaded, wait).errors == 0


@pytest.mark.parametrize("threaded", [True, False], ids=["thread", "loop"])
@pytest.mark.parametrize("whose", [("mine",), ("other",), ("mine", "other")], ids="+".join)
def test_a_handler_may_close_listeners(
    host: SimulatedHost, index: Index, whose: tuple[str, ...], threaded: bool
) -> None:
    """Its own too: the call under way is then the last."""
    listeners = {"other": index.subscribe(lambda _: None, threaded=threaded)}
    opened, done = threading.Event(), threading.Event()

    def handler(_: Event) -> None:
        assert opened.wait(LIMIT)
        for name in whose:
            listeners[name].close()
        done.set()

    listeners["mine"] = index.subscribe(handler, threaded=threaded)
    opened.set()
    if not threaded:
        index.dispatch()
    assert done.wait(LIMIT)
    for name in whose:
        assert not listeners[name].drain(LIMIT)
    assert len(index.stats.listeners) == 2 - len(whose)
    assert listeners["mine"].errors == 0


@pytest.mark.parametrize("threaded", [True, False], ids=["thread", "loop"])
@pytest.mark.parametrize("use", [use for use in USES if use not in ("stats", "another thread")])
def test_a_handler_that_closed_the_index_is_told_so(
    host: SimulatedHost, use: str, threaded: bool
) -> None:
    """P9: whatever it asks for then; nothing hangs."""
    index = host.connect(timing=CALM)

    def close(domain: Domain) -> None:
        index.close()
        with pytest.raises(Closed):
            USES[use](index, domain)

    assert hears_of_web(index, host, threaded, close).errors == 0
