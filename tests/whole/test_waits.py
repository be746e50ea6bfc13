"""Waiting for domains to come and go: one look at each change, and always an end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from domindex.domain import Domain, ShutdownReason
from domindex.errors import Ambiguous, Closed, InvalidKey, NoSuchDomain, NotLive, TimedOut
from domindex.events import Event, Lost, Recovered, Removed
from domindex.index import Index
from domindex.testing import SimulatedHost
from tests.core.lives import life
from tests.whole.helpers import CALM, LIMIT, SHARP, eventually
from tests.whole.test_threads import Crew

U = UUID(int=7)
SOON = 0.02


@pytest.fixture
def host() -> SimulatedHost:
    """One kind will do: what differs between them is below all this."""
    return SimulatedHost(idle=True)


class Waiting:
    """A call in a thread of its own, from when it has looked once and found nothing."""

    def __init__(self, index: Index, call: Callable[[], object]) -> None:
        self.result: Any = None
        self._call = call
        self._thread = threading.Thread(target=self._run)
        waiters = len(index._picture.changed._changed._waiters)  # type: ignore[attr-defined]
        self._thread.start()
        eventually(lambda: len(index._picture.changed._changed._waiters) > waiters)  # type: ignore[attr-defined]

    def _run(self) -> None:
        try:
            self.result = self._call()
        except Exception as error:
            self.result = error

    def end(self) -> Any:
        """What it gave or raised."""
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()
        return self.result


def waiting_for(index: Index, **wanted: Any) -> Waiting:
    return Waiting(index, lambda: index.wait_for(**wanted, timeout=LIMIT))


# -- for one to come -------------------------------------------------------------------------

WISHES: list[dict[str, Any]] = [
    *({"name": "web"}, {"name": b"web"}, {"uuid": U}, {"uuid": str(U)}, {"domid": 5}),
    {"where": lambda domain: domain.name == "web"},
    {"name": "web", "uuid": U, "domid": 5, "where": lambda domain: True, "ready": True},
]


@pytest.mark.parametrize("wanted", WISHES, ids=lambda wanted: "+".join(wanted))
def test_one_that_comes_is_found_by_each_key(
    host: SimulatedHost, index: Index, wanted: dict[str, Any]
) -> None:
    """P8: as soon as the index holds it; and one that is there already at once."""
    waiting = waiting_for(index, **wanted)
    host.create("db")
    host.create("web", uuid=U, domid=5)
    assert waiting.end() is index.by_id(5)
    assert index.wait_for(**wanted, timeout=0) is index.by_id(5)


def test_all_that_is_asked_must_hold_of_one_domain(host: SimulatedHost, index: Index) -> None:
    """Not each of another."""
    host.create("web")
    host.create("db", uuid=U)
    index.refresh()
    with pytest.raises(TimedOut):
        index.wait_for(name="web", uuid=U, timeout=SOON)
    with pytest.raises(TimedOut):
        index.wait_for(name="web", where=lambda domain: domain.uuid == U, timeout=SOON)


def test_without_a_key_the_lowest_domid_is_taken(host: SimulatedHost, index: Index) -> None:
    """Several may pass."""
    for domid in (9, 4, 6):
        host.create("web", domid=domid)
    index.refresh()
    assert index.wait_for(where=lambda domain: domain.name == "web").domid == 4


def test_one_that_is_ready_has_its_last_name_and_runs(host: SimulatedHost, index: Index) -> None:
    """A migration: the new one comes under another name, and is renamed at its end."""
    waiting = waiting_for(index, uuid=U, ready=True)
    new = host.create(None, uuid=U)
    for name in ("", "web--incoming"):
        host.rename(new, name)
        index.refresh()
        assert waiting.result is None
        with pytest.raises(TimedOut):
            index.wait_for(uuid=U, ready=True, timeout=0)
    host.rename(new, "web")
    assert waiting.end().name == "web"


@pytest.mark.parametrize(
    ("name", "shutdown", "ready"),
    [
        ("web", None, True),
        ("web--incoming2", None, True),
        (None, None, False),
        ("", None, False),
        ("web--incoming", None, False),
        ("web--migratedaway", None, False),
        ("migrating-web", None, False),
        ("migrating", None, True),
        ("web", ShutdownReason.SUSPEND, False),
        ("web", ShutdownReason.CRASH, False),
    ],
)
def test_what_is_ready(name: str | None, shutdown: ShutdownReason | None, ready: bool) -> None:
    """Named for good, neither saved nor stopped."""
    assert life(1, name, shutdown=shutdown).ready is ready


def test_two_with_the_key_are_ambiguous_once_the_time_is_up(
    host: SimulatedHost, index: Index
) -> None:
    """P5: until then one of them may go, as at the end of a local migration."""
    host.create("web", uuid=U)
    old = host.create("web", uuid=U)
    index.refresh()
    for wanted in ({"name": "web"}, {"uuid": U}):
        with pytest.raises(Ambiguous) as caught:
            index.wait_for(**wanted, timeout=SOON)
        assert len(caught.value.domains) == 2
    assert index.wait_for(name="web", domid=old).domid == old
    waiting = waiting_for(index, name="web")
    host.destroy(old)
    assert waiting.end().domid != old


def test_one_that_does_not_come_is_waited_for_until_the_time_is_up(index: Index) -> None:
    """P9: no longer; a time limit of nothing is one look."""
    for timeout in (SOON, 0, -1):
        with pytest.raises(TimedOut):
            index.wait_for(name="nobody", timeout=timeout)


def test_while_the_line_is_down_it_cannot_be_told(host: SimulatedHost) -> None:
    """P5: it may have come. When the line is back in time, the wait ends well."""
    with host.connect(timing=SHARP) as index:
        host.stop_xenstored()
        eventually(lambda: not index.live)
        for call in (
            lambda: index.wait_for(name="web", timeout=SOON),
            lambda: index.wait_live(SOON),
            lambda: index.wait_generation(99, SOON),
            lambda: index.wait_for(domain=index.by_id(0), name="web", timeout=SOON),
            lambda: index.wait_gone(index.by_id(0), SOON),
            lambda: index.wait_stopped(index.by_id(0), SOON),
        ):
            with pytest.raises(NotLive):
                call()
        waiting = waiting_for(index, name="web")
        live = Waiting(index, lambda: index.wait_live(LIMIT))
        host.create("web")
        host.start_xenstored()
        assert waiting.end().name == "web"
        assert live.end() is None
        assert index.live


@pytest.mark.parametrize(
    "wanted",
    [
        *({}, {"ready": True}, {"name": 7}, {"uuid": "web"}, {"domid": "7"}, {"domid": 99999}),
        *({"domain": "web"}, {"domain": 0}),
    ],
    ids=str,
)
def test_a_wish_that_makes_no_sense_is_refused_at_once(
    index: Index, wanted: dict[str, Any]
) -> None:
    """Not when the time is up."""
    with pytest.raises(InvalidKey):
        index.wait_for(**wanted, timeout=60)


def test_a_life_is_given_by_its_record(index: Index) -> None:
    """A domid or a name may be another's by then."""
    for wait in (index.wait_gone, index.wait_stopped):
        with pytest.raises(InvalidKey):
            wait("web", 60)  # type: ignore[arg-type]


def test_a_wait_on_one_life_ends_with_it(host: SimulatedHost, index: Index) -> None:
    """P9: at once, also where another life has taken the domid and the name."""
    host.create("web", domid=5)
    index.refresh()
    web = index.by_id(5)
    waiting = waiting_for(index, domain=web, where=lambda domain: domain.name != "web")
    host.destroy(5, order="at once")
    host.create("web", domid=5)
    index.refresh()
    assert isinstance(waiting.end(), NoSuchDomain)
    new = index.by_id(5)
    assert index.wait_for(domain=new, name="web", domid=5, uuid=new.uuid, timeout=0) is new
    for other in ({"name": "db"}, {"domid": 6}, {"uuid": U}):
        with pytest.raises(TimedOut):
            index.wait_for(domain=new, timeout=0, **other)


def test_why_one_stopped_is_known_after_its_end(host: SimulatedHost, index: Index) -> None:
    """Also where the given record is older, or newer, than what is remembered of the end."""
    web, db = host.create("web"), host.create("db")
    index.refresh()
    running = index.by_id(web), index.by_id(db)
    host.shutdown(web, ShutdownReason.SUSPEND)
    index.refresh()
    suspended = index.by_id(web)
    assert index.wait_stopped(suspended, 0) is ShutdownReason.SUSPEND
    host.resume(web)
    index.refresh()
    with pytest.raises(TimedOut, match="still runs"):
        index.wait_stopped(suspended, 0)
    host.shutdown(web, ShutdownReason.POWEROFF)
    index.refresh()
    for domid in (web, db):
        host.destroy(domid)
    index.refresh()
    assert index.wait_stopped(running[0], 0) is ShutdownReason.POWEROFF
    assert index.wait_stopped(suspended, 0) is ShutdownReason.POWEROFF
    with pytest.raises(NoSuchDomain):
        index.wait_stopped(running[1], 0)
    index.close()
    with pytest.raises(Closed):
        index.wait_stopped(running[0], 0)


def test_what_where_raises_ends_the_wait(host: SimulatedHost, index: Index) -> None:
    """In the thread of whoever waits; the index does not notice."""
    with pytest.raises(ZeroDivisionError):
        index.wait_for(where=lambda _: 1 // 0, timeout=LIMIT)
    assert index.live


def test_one_that_comes_and_goes_again_and_again(host: SimulatedHost, index: Index) -> None:
    """Each life is waited for, and its end, however they follow each other."""
    lives = set()
    for number in range(20):
        came = waiting_for(index, name="web")
        domid = host.create("web", domid=number % 2 + 1)
        domain = came.end()
        lives.add(domain.life)
        gone = Waiting(index, partial(index.wait_gone, domain, LIMIT))
        host.destroy(domid)
        assert gone.end() == Removed(domain)
    assert len(lives) == 20


def test_a_wait_looks_once_at_each_change_and_never_between(
    host: SimulatedHost, index: Index
) -> None:
    """P11: no polling, however long it takes."""
    looks: list[int] = []

    def where(domain: Domain) -> bool:
        if domain.domid == 0:
            looks.append(index.generation)
        return domain.name == "web"

    generation = index.generation
    told: list[Event] = []  # a machine that is held up for seconds is a loss, and its end one more
    index.subscribe(told.append, events=(Lost, Recovered), replay=False)
    waiting = waiting_for(index, where=where)
    for number in range(5):
        host.create(f"vm-{number}")
        index.refresh()
        eventually(lambda number=number: len(looks) > number + 1)  # type: ignore[misc]
    with pytest.raises(TimedOut):  # meanwhile nothing happens, and nothing is looked at
        index.wait_for(name="nobody", timeout=0.05)
    host.create("web")
    waiting.end()
    assert sorted(set(looks)) == [generation + number for number in range(7)]
    assert len(looks) <= 7 + len(told)


def test_many_threads_may_wait(host: SimulatedHost, index: Index) -> None:
    """Each for its own; all are done when the last has come."""
    waits = [waiting_for(index, name=f"vm-{number % 10}") for number in range(30)]
    made = [host.create(f"vm-{number}") for number in range(10)]
    assert [wait.end().domid for wait in waits] == made * 3


def test_a_handler_may_wait(host: SimulatedHost, index: Index) -> None:
    """P8: the index never waits for it, so what it waits for can come."""
    found: list[Domain] = []

    def handler(_: Event) -> None:
        found.append(index.wait_for(name="web", timeout=LIMIT))

    with index.subscribe(handler, replay=False) as subscription:
        host.create("web")
        assert subscription.drain(LIMIT)
        assert subscription.errors == 0
    assert found[0].name == "web"


# -- the others ------------------------------------------------------------------------------


def test_a_generation_is_waited_for(host: SimulatedHost, index: Index) -> None:
    """At least that."""
    wanted = index.generation + 2
    waiting = Waiting(index, lambda: index.wait_generation(wanted, LIMIT))
    host.create("a")
    index.refresh()
    assert waiting.result is None
    host.create("b")
    assert waiting.end() >= wanted
    assert index.wait_generation(0, 0) == index.generation
    with pytest.raises(TimedOut):
        index.wait_generation(99, SOON)


WAITS: dict[str, Callable[[Index], object]] = {
    "wait_for": lambda index: index.wait_for(name="nobody"),
    "wait_gone": lambda index: index.wait_gone(index.by_id(0)),
    "wait_generation": lambda index: index.wait_generation(99),
}


@pytest.mark.parametrize("wait", list(WAITS))
def test_close_ends_every_wait(host: SimulatedHost, wait: str) -> None:
    """P9: with Closed, at once; and none begins after it."""
    index = host.connect(timing=CALM)
    waits = [Waiting(index, lambda: WAITS[wait](index)) for _ in range(4)]
    index.close()
    for waiting in waits:
        assert isinstance(waiting.end(), Closed)
    with pytest.raises(Closed):
        WAITS[wait](index)


def test_close_ends_the_wait_for_the_line(host: SimulatedHost) -> None:
    """Of wait_live, and of look-ups that wait for it."""
    host.create("web")
    index = host.connect(timing=SHARP, stale="wait")
    host.stop_xenstored()
    eventually(lambda: not index.live)
    waits = [Waiting(index, index.wait_live), Waiting(index, lambda: index.by_name("web"))]
    index.close()
    for waiting in waits:
        assert isinstance(waiting.end(), Closed)


def test_waits_and_changes_from_many_threads_at_once(host: SimulatedHost, index: Index) -> None:
    """None is missed: each thread sees each of its domains come and go."""
    crew = Crew()

    def follow(number: int) -> None:
        for turn in range(10):
            name = f"vm-{number}-{turn}"
            domid = host.create(name)
            domain = index.wait_for(name=name, timeout=LIMIT)
            assert domain.domid == domid
            host.destroy(domid)
            assert index.wait_gone(domain, LIMIT).domain.life == domain.life

    for number in range(4):
        crew.start(lambda number=number: follow(number), again=False)  # type: ignore[misc]
    crew.join()
