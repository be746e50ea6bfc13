"""What a listener may ask for: kinds, domains, what is present, when it has heard it all."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

import pytest

from domindex.domain import Domain, ShutdownReason
from domindex.events import (
    Added,
    DuplicateName,
    DuplicateUuid,
    Event,
    Lost,
    Ready,
    Rebooted,
    Recovered,
    Removed,
    Renamed,
    ShutDown,
    Synced,
)
from domindex.index import Index
from domindex.testing import SimulatedHost
from tests.whole.helpers import CALM, LIMIT, SHARP, eventually

U = UUID(int=1)


@pytest.fixture
def host() -> SimulatedHost:
    """One kind will do: what differs between them is below all this."""
    return SimulatedHost(idle=True)


class Notes:
    """A handler that notes everything it hears but Ready, of which test_ready.py has the tests."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Ready):
            self.events.append(event)

    def short(self) -> list[str]:
        """Each event by its kind and the names it tells of."""
        return [_short(event) for event in self.events]


def _short(event: Event) -> str:
    match event:
        case Added(domain) | Removed(domain) | ShutDown(domain):
            return f"{type(event).__name__} {domain.name}"
        case Renamed(old, new) | Rebooted(old, new):
            return f"{type(event).__name__} {old.name} {new.name}"
    return type(event).__name__


def all_told(host: SimulatedHost, index: Index, **wanted: Any) -> Notes:
    """What a listener that wants this hears of a small history."""
    notes = Notes()
    web = host.create("web", uuid=U)
    index.refresh()
    with index.subscribe(notes, **wanted) as subscription:
        db = host.create("db")
        index.refresh()
        host.rename(db, "web-2")
        index.refresh()
        host.shutdown(web, ShutdownReason.POWEROFF)
        index.refresh()
        host.destroy(web)
        index.refresh()
        assert subscription.drain(LIMIT)
    return notes


def is_web(domain: Domain) -> bool:
    return (domain.name or "").startswith("web")


def test_without_a_wish_everything_is_told(host: SimulatedHost, index: Index) -> None:
    """P8: first all that is there, then that this was all, then what happens."""
    assert all_told(host, index).short() == [
        *("Added Domain-0", "Added web", "Synced", "Added db", "Renamed db web-2"),
        *("ShutDown web", "Renamed web None", "Removed web"),
    ]


def test_only_the_kinds_that_were_asked_for_are_told(host: SimulatedHost, index: Index) -> None:
    """Of what is present too."""
    told = all_told(host, index, events=(Added, Removed)).short()
    assert told == ["Added Domain-0", "Added web", "Added db", "Removed web"]


def test_no_kind_at_all_is_a_wish_too(host: SimulatedHost, index: Index) -> None:
    """Nothing is told but, if it comes to that, a Resync."""
    assert all_told(host, index, events=()).short() == []


def test_only_domains_that_were_asked_for_are_told(host: SimulatedHost, index: Index) -> None:
    """One that becomes one of them is told from its rename on; the line is everybody's."""
    told = all_told(host, index, where=is_web).short()
    ends = ["ShutDown web", "Renamed web None", "Removed web"]
    assert told == ["Added web", "Synced", "Renamed db web-2", *ends]


def test_what_is_present_can_be_left_out(host: SimulatedHost, index: Index) -> None:
    """Synced then comes first."""
    told = all_told(host, index, replay=False).short()
    ends = ["ShutDown web", "Renamed web None", "Removed web"]
    assert told == ["Synced", "Added db", "Renamed db web-2", *ends]


def test_all_wishes_at_once(host: SimulatedHost, index: Index) -> None:
    """Each narrows what is told."""
    told = all_told(host, index, replay=False, where=is_web, events=(Removed, Synced)).short()
    assert told == ["Synced", "Removed web"]


def test_a_wish_that_fails_is_reported_and_the_next_event_comes(
    host: SimulatedHost, index: Index
) -> None:
    """It is called by the listener's own thread: the index does not even notice."""
    failed: list[tuple[Event, BaseException]] = []
    notes = Notes()

    def where(domain: Domain) -> bool:
        assert threading.current_thread().name == "domindex-listener"
        if domain.name is None:
            raise SystemExit(1)
        return is_web(domain)

    with index.subscribe(
        notes, where=where, replay=False, on_error=lambda *told: failed.append(told)
    ) as subscription:
        host.create(None)
        host.create("web")
        index.refresh()
        assert subscription.drain(LIMIT)
        assert subscription.errors == index.stats.listener_errors == 1
    assert notes.short() == ["Synced", "Added web"]
    assert [(type(event), type(error)) for event, error in failed] == [(Added, SystemExit)]


def test_a_late_listener_hears_of_keys_that_are_shared(host: SimulatedHost, index: Index) -> None:
    """P5: after the domains, before Synced; and of each that comes to be, as it does."""
    for name in ("web", "web"):
        host.create(name, uuid=U)
    index.refresh()
    notes = Notes()
    with index.subscribe(notes) as subscription:
        host.create("web")
        index.refresh()
        assert subscription.drain(LIMIT)
    kinds = [type(event) for event in notes.events]
    assert kinds == [*(Added,) * 3, DuplicateName, DuplicateUuid, Synced, Added, DuplicateName]
    last = notes.events[-1]
    assert isinstance(last, DuplicateName)
    assert (last.name, last.domains) == ("web", index.all_by_name("web"))


# -- synced ----------------------------------------------------------------------------------


def test_synced_is_so_once_what_was_there_was_handled(host: SimulatedHost, index: Index) -> None:
    """Not merely queued: a handler at its first event has the others still to come."""
    began, go = threading.Event(), threading.Event()

    def slow(_: Event) -> None:
        began.set()
        assert go.wait(LIMIT)

    with index.subscribe(slow) as subscription:
        assert began.wait(LIMIT)
        assert not subscription.wait_synced(0.01)
        assert not subscription.synced
        go.set()
        assert subscription.wait_synced(LIMIT)
        assert subscription.synced


def test_synced_is_so_though_nobody_asked_to_be_told(index: Index) -> None:
    """Also if the handler fails on it."""
    with index.subscribe(lambda _: None, events=(Removed,)) as subscription:
        assert subscription.wait_synced(LIMIT)
    with index.subscribe(lambda _: 1 // 0) as failing:
        assert failing.wait_synced(LIMIT)


@pytest.mark.parametrize("threaded", [True, False])
@pytest.mark.parametrize("whole", [True, False], ids=["index", "listener"])
def test_whoever_waits_for_synced_is_let_go_by_close(
    host: SimulatedHost, threaded: bool, whole: bool
) -> None:
    """P9: it cannot come any more, and there is no time limit unless one is given."""
    go = threading.Event()
    index = host.connect(timing=CALM)
    subscription = index.subscribe(lambda _: go.wait(LIMIT), threaded=threaded)
    synced: list[bool] = []
    waiter = threading.Thread(target=lambda: synced.append(subscription.wait_synced()))
    waiter.start()
    closer = threading.Thread(target=index.close if whole else subscription.close)
    closer.start()
    eventually(lambda: subscription._mailbox.closed)
    go.set()
    for thread in (closer, waiter):
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert synced == [False]
    assert not subscription.synced
    index.close()


def test_a_listener_that_comes_while_the_line_is_down_is_synced_then_told(
    host: SimulatedHost,
) -> None:
    """Synced, then Lost with what broke, and Recovered when it is back."""
    notes = Notes()
    with host.connect(timing=SHARP) as index:
        host.stop_xenstored()
        eventually(lambda: not index.live)
        with index.subscribe(notes, replay=False) as subscription:
            assert subscription.wait_synced(LIMIT)
            host.start_xenstored()
            index.wait_live(LIMIT)
            eventually(lambda: len(notes.events) == 3)
    assert notes.short() == ["Synced", "Lost", "Recovered"]
    lost, recovered = notes.events[1:]
    assert isinstance(lost, Lost)
    assert isinstance(lost.cause, OSError)
    assert isinstance(recovered, Recovered)


# -- reboots ---------------------------------------------------------------------------------


def test_a_reboot_is_told_as_one_only_to_whoever_asked(host: SimulatedHost, index: Index) -> None:
    """Another listener hears of an end and a beginning; a guest that is turned off ends at once."""
    plain, patient = Notes(), Notes()
    web, db = host.create("web"), host.create("db")
    index.refresh()
    with (
        index.subscribe(plain, replay=False) as one,
        index.subscribe(patient, replay=False, reboot_grace=60.0) as other,
    ):
        host.reboot(web, order="at once")
        host.shutdown(db, ShutdownReason.POWEROFF)
        index.refresh()
        host.destroy(db, order="at once")
        index.refresh()
        assert one.drain(LIMIT)
        assert other.drain(LIMIT)
    assert sorted(plain.short()) == sorted(
        ["Synced", "Removed web", "Added web", "ShutDown db", "Removed db"]
    )
    assert sorted(patient.short()) == sorted(
        ["Synced", "Rebooted web web", "ShutDown db", "Removed db"]
    )


def test_a_reboot_is_neither_an_end_nor_a_beginning(host: SimulatedHost, index: Index) -> None:
    """Whoever chose only these two hears nothing of it: thus one is told of real deaths alone."""
    notes = Notes()
    web = host.create("web")
    index.refresh()
    with index.subscribe(
        notes, replay=False, reboot_grace=60.0, events=(Added, Removed)
    ) as subscription:
        host.reboot(web)
        host.create("db")
        index.refresh()
        assert subscription.drain(LIMIT)
    assert notes.short() == ["Added db"]


def test_a_death_that_was_no_reboot_is_told_in_time(host: SimulatedHost, index: Index) -> None:
    """By itself: nothing else happens that would wake the listener."""
    notes = Notes()
    web = host.create("web")
    index.refresh()
    with index.subscribe(notes, replay=False, reboot_grace=0.02) as subscription:
        host.destroy(web, order="at once")
        index.refresh()
        assert subscription.drain(LIMIT)  # which does not wait for that
        eventually(lambda: len(notes.events) == 2)
    assert notes.short() == ["Synced", "Removed web"]


# -- what is refused -------------------------------------------------------------------------


async def ask_somebody(_: object) -> None:
    """What is called here is not awaited."""


@pytest.mark.parametrize(
    "wish",
    [
        {"queue": 0},
        {"queue": -1},
        {"reboot_grace": -0.1},
        {"reboot_grace": float("nan")},
        {"reboot_grace": float("inf")},
        {"events": Event},
        {"events": ("Added",)},
        {"events": (Added, int)},
        {"where": "web"},
        pytest.param({"where": ask_somebody}, id="a coroutine"),
    ],
    ids=str,
)
def test_a_wish_that_makes_no_sense_is_refused_at_once(index: Index, wish: dict[str, Any]) -> None:
    """Not in the listener's thread, where it would fail at each event; and it leaves nothing."""
    for opens in (lambda **kw: index.subscribe(print, **kw), index.events):
        with pytest.raises((ValueError, TypeError), match=next(iter(wish))):
            opens(**wish)
    assert len(index.stats.listeners) == 0


def test_a_listener_that_cannot_begin_leaves_nothing(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread to be had: what is told would be kept for nobody, for ever."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            index.subscribe(print)
    assert len(index.stats.listeners) == 0
    with index.subscribe(lambda _: None) as subscription:
        assert subscription.wait_synced(LIMIT)
