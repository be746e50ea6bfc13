"""Handlers in the caller's own loop: what ends them, and who may wait for whom."""

from __future__ import annotations

import os
import threading
import time
import warnings

import pytest

from domindex.errors import Closed
from domindex.events import Added, Event, Ready, Synced
from domindex.index import Index
from domindex.testing import SimulatedHost
from tests.whole.helpers import CALM, LIMIT
from tests.whole.test_dispatch import readable, run


@pytest.fixture
def host() -> SimulatedHost:
    """One kind will do: what differs between them is below all this."""
    return SimulatedHost(idle=True)


def test_close_waits_for_a_call_under_way_in_the_loop(index: Index) -> None:
    """P9: after it returns the handler is not called, nor running, any more."""
    began, go = threading.Event(), threading.Event()
    returned: list[float] = []

    def slow(_: Event) -> None:
        began.set()
        assert go.wait(LIMIT)
        returned.append(time.monotonic())

    subscription = index.subscribe(slow, threaded=False)
    loop = threading.Thread(target=index.dispatch)
    loop.start()
    assert began.wait(LIMIT)
    subscription.close(timeout=0.01)  # not for ever
    assert not returned

    def close() -> None:
        subscription.close()
        returned.append(0.0)

    closer = threading.Thread(target=close)
    closer.start()
    closer.join(0.05)
    assert closer.is_alive()
    go.set()
    closer.join(LIMIT)
    loop.join(LIMIT)
    assert len(returned) == 2
    assert returned[1] == 0.0


@pytest.mark.parametrize("fatal", [KeyboardInterrupt, SystemExit])
def test_what_is_to_end_the_program_ends_dispatch(
    host: SimulatedHost, index: Index, fatal: type[BaseException]
) -> None:
    """Ctrl-C comes to the main thread, whatever runs there just then. Whoever goes on all the
    same misses nothing but that event."""
    heard: list[Event] = []

    def handler(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Added):
            raise fatal

    index.subscribe(handler, threaded=False)
    with pytest.raises(fatal):
        index.dispatch()
    assert readable(index)
    assert index.dispatch() == 2
    assert [type(event) for event in heard] == [Added, Ready, Synced]


def test_other_failures_stay_within(index: Index) -> None:
    """As in a thread: counted, and told to the hook."""
    failed: list[BaseException] = []
    subscription = index.subscribe(
        lambda _: 1 // 0, threaded=False, on_error=lambda _, error: failed.append(error)
    )
    assert index.dispatch() == 3
    assert subscription.errors == 3
    assert [type(error) for error in failed] == [ZeroDivisionError] * 3


def test_drain_in_the_loop_s_own_thread_returns(index: Index) -> None:
    """From the handler of another listener too: it would wait for itself for ever."""
    drained: list[bool] = []
    other = index.subscribe(lambda _: None, threaded=False)
    run(index)
    index.subscribe(lambda _: drained.append(other.drain()), replay=False, threaded=False)
    run(index)
    assert drained == [False]


def test_drain_where_dispatch_has_returned_says_what_is_so(index: Index) -> None:
    """The thread runs no handler any more: also if a handler ended `dispatch`."""

    def ends(event: Event) -> None:
        if isinstance(event, Added):
            raise KeyboardInterrupt

    other = index.subscribe(ends, threaded=False)
    subscription = index.subscribe(lambda _: None, replay=False, threaded=False)
    with pytest.raises(KeyboardInterrupt):
        index.dispatch()
    assert not subscription.drain(0)
    run(index)
    assert subscription.drain(0)
    assert other.wait_synced(0)


def test_closed_listeners_do_not_pile_up(index: Index) -> None:
    """P11: neither in the loop nor in the index, whoever subscribes and closes without end."""
    for _ in range(20):
        index.subscribe(lambda _: None, threaded=False).close()
        index.subscribe(lambda _: None, threaded=False, reboot_grace=60.0)
    for subscription in list(index._body.hub._subscriptions.values()):
        subscription.close()
    loop = index._body.hub.loop()
    assert (loop._runners, index._body.hub._mailboxes, index._body.hub._subscriptions) == (
        [],
        (),
        {},
    )
    index.subscribe(lambda _: None, threaded=False)
    index.close()
    assert (loop._runners, index._body.hub._subscriptions) == ([], {})


def test_a_child_may_be_forked_in_a_handler_in_the_loop(index: Index) -> None:
    """It returns from the handler, and then from `dispatch`."""
    said: list[str] = []

    def handler(_: Event) -> None:
        said.append("parent")
        child = os.fork()
        if child == 0:
            said[:] = ["child"]
        else:
            said.append(str(os.waitpid(child, 0)[1]))

    index.subscribe(handler, replay=False, threaded=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        count = index.dispatch()
    if said == ["child"]:
        os._exit(0 if count == 1 else 1)
    assert (said, count) == (["parent", "0"], 1)


def test_drain_from_another_thread_waits_for_the_loop(host: SimulatedHost, index: Index) -> None:
    """Once it has come to it."""
    heard: list[Event] = []
    subscription = index.subscribe(heard.append, replay=False, threaded=False)
    drained: list[int] = []

    def drain() -> None:
        assert subscription.drain(LIMIT)
        drained.append(len(heard))

    thread = threading.Thread(target=drain)
    thread.start()
    while thread.is_alive():
        readable(index, 0.01)
        index.dispatch()
    assert drained == [1]


def test_the_index_may_be_closed_from_a_handler_in_the_loop(host: SimulatedHost) -> None:
    """Dispatch then returns, and says Closed from then on."""
    index = host.connect(timing=CALM)
    heard: list[Event] = []

    def last(event: Event) -> None:
        heard.append(event)
        index.close()

    index.subscribe(last, threaded=False)
    assert index.dispatch() == 1
    assert len(heard) == 1
    with pytest.raises(Closed):
        index.dispatch()


def test_a_descriptor_that_the_program_has_closed_is_no_fault(index: Index) -> None:
    """P9: one that becomes a daemon closes all that it does not know, and its index later."""
    heard: list[Event] = []
    index.subscribe(heard.append, threaded=False)
    os.close(index.fileno())
    index.refresh()
    index.dispatch()
    index.close()
    assert heard
