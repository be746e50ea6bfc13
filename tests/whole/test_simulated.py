"""What the simulated host alone can show: its switches, as an index or a line sees them."""

from __future__ import annotations

import errno
import math
import threading
from typing import Self, TypeVar
from uuid import UUID

import pytest

from domindex import testing
from domindex.core.lives import name_path
from domindex.core.reconcile import SPECIAL
from domindex.errors import (
    AccessDenied,
    HypercallFailed,
    InvalidKey,
    NoSuchDomain,
    NotControlDomain,
    StoreError,
    StoreLost,
)
from domindex.events import Added, Event, Removed, Renamed
from domindex.index import Index
from domindex.options import Timing
from domindex.ports import Hypervisor, Store, Watch, unique_id_of
from domindex.testing import SimulatedHost
from tests.whole.helpers import CALM, LIMIT, Ear

P = TypeVar("P", Hypervisor, Store)

NAMES = Watch(b"/local/domain", b"names")


def taken(store: Store) -> list[Watch]:
    """What has fired until now."""
    return list(store.events())


# -- an end ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["destroy", "zombie", "reboot"])
def test_an_end_is_seen_in_two_steps(host: SimulatedHost, index: Index, end: str) -> None:
    """P8: as libxl does it: every index has seen the domain nameless before it ends."""
    heard: list[Event] = []
    web = host.create("web")
    index.refresh()
    with index.subscribe(heard.append, replay=False, events=(Renamed, Removed)) as subscription:
        getattr(host, end)(web)
        index.refresh()
        assert subscription.drain(LIMIT)
    assert [type(event) for event in heard] == [Renamed, Removed]


def test_a_line_of_this_thread_is_not_waited_for(host: SimulatedHost) -> None:
    """P9: one thread may drive an index and the toolstack."""
    store = host.open_store(1.0)
    web = host.create("web")
    store.watch([Watch(name_path(web), b"one"), *SPECIAL])
    taken(store)
    host.destroy(web)
    assert {watch.token for watch in store.events()} == {b"one", b"release"}
    store.close()


def test_a_line_that_is_held_up_is_waited_for_once(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P9: a watcher that does not get on holds no toolstack up for long."""
    monkeypatch.setattr("domindex.testing._GAP", 0.05)
    store = host.open_store(1.0)
    driver = threading.Thread(target=store.watch, args=(SPECIAL,))
    driver.start()
    driver.join()
    (behind,) = host._stores
    assert behind.is_behind()
    host.destroy(host.create("web"))
    assert behind.late
    assert not behind.is_behind()
    store.close()


def test_a_released_domain_ends_without_an_event(host: SimulatedHost) -> None:
    """And is told of as one that xenstored does not know."""
    store = host.open_store(1.0)
    web = host.create("web")
    store.watch(SPECIAL)
    taken(store)
    host.release(web)
    assert [watch.token for watch in taken(store)] == [b"release"]
    assert store.is_introduced(web) is False
    host.destroy(web)
    assert taken(store) == []


# -- watches with a depth ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("watch_depth", "special", "names"),
    [(False, False, False), (True, True, True), ("paths", False, True)],
)
def test_each_kind_of_server_takes_its_depths(
    watch_depth: bool, special: bool, names: bool
) -> None:
    """C xenstored before and after 4.22, and oxenstored >= 25.2."""
    store = SimulatedHost(watch_depth=watch_depth).open_store(1.0)
    answers = [*store.watch(SPECIAL, depth=1), *store.watch([NAMES], depth=2)]
    assert [answer is None for answer in answers] == [special, special, names]
    assert {answer.errno for answer in answers if answer is not None} <= {errno.EINVAL}


def test_a_depth_tells_of_so_many_levels_and_of_a_removal_once() -> None:
    """As C xenstored: the path that changed; of a removal its root, and each watch below."""
    host = SimulatedHost(watch_depth=True)
    store = host.open_store(1.0)
    store.watch([NAMES], depth=2)
    taken(store)
    web = host.create("web", domid=7)
    home = b"/local/domain/7"
    assert [path for path, _ in taken(store)] == [home, home + b"/vm", home + b"/name"]
    host.write(web, "memory/target", b"1")
    assert taken(store) == []
    store.watch([Watch(home + b"/memory/target", b"below"), Watch(home, b"deep")])
    taken(store)
    host.clear_node(web)
    assert set(taken(store)) == {
        Watch(home, b"names"),
        Watch(home, b"deep"),
        Watch(home + b"/memory/target", b"below"),
    }


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "number"), [("EIO", errno.EIO), ("EACCES", errno.EACCES), ("EQUOTA", None)]
)
def test_a_refused_node_is_refused_alone(error: str, number: int | None) -> None:
    """P9: in its place, with operation and path; until it is allowed again."""
    host = SimulatedHost()
    store = host.open_store(1.0)
    web, db = host.create("web"), host.create("db")
    host.refuse_node(web, error=error)
    refused, read = store.read([name_path(web), name_path(db)])
    (watched,) = store.watch([Watch(name_path(web), b"one")])
    assert read == b"db"
    for answer, operation in ((refused, "READ"), (watched, "WATCH")):
        assert isinstance(answer, StoreError)
        assert (answer.errno, answer.operation) == (number, operation)
        assert answer.path == name_path(web).decode()
    host.allow_node(web)
    assert store.read([name_path(web)]) == [b"web"]
    host.refuse_node(web, operations="WATCH")
    assert store.read([name_path(web)]) == [b"web"]


def test_a_policy_refuses_a_state_or_hides_a_domain() -> None:
    """P12: of that domain alone."""
    host = SimulatedHost(unique_ids=True)
    hypervisor = host.open_hypervisor()
    web, db = host.create("web"), host.create("db")
    host.refuse_state(web)
    with pytest.raises(HypercallFailed) as caught:
        unique_id_of(hypervisor, web)
    assert caught.value.errno == errno.EACCES
    assert unique_id_of(hypervisor, db) is not None
    host.hide(0)
    host.hide(db)
    assert [row.domid for row in hypervisor.list()] == [web]
    assert (hypervisor.get(db), hypervisor.info(db), hypervisor.state(db)) == (None,) * 3
    host.hide(db, False)
    assert [row.domid for row in hypervisor.list()] == [web, db]


# -- other hosts -------------------------------------------------------------------------------


def test_a_host_without_domain_0(host: SimulatedHost) -> None:
    """dom0less: guests begin at 1."""
    bare = SimulatedHost(dom0=False)
    assert bare.open_hypervisor().list() == []
    assert bare.create("web") == 1
    with bare.connect(timing=CALM) as index:
        assert index.domids.keys() == {1}


def test_a_daemon_that_was_started_anew_is_empty(host: SimulatedHost) -> None:
    """It has no names, and was told of no guest."""
    web = host.create("web")
    host.stop_xenstored()
    host.start_xenstored(empty=True)
    store = host.open_store(1.0)
    assert store.read([name_path(web)]) == [None]
    assert (store.is_introduced(web), store.is_introduced(0)) == (False, True)


def test_special_watches_can_be_deaf(host: SimulatedHost) -> None:
    """Set, fired once, and never again; other watches go on."""
    host.deafen_special()
    store = host.open_store(1.0)
    store.watch([*SPECIAL, Watch(name_path(5), b"name")])
    assert len(taken(store)) == 3
    host.create("web", domid=5)
    assert {watch.token for watch in store.events()} == {b"name"}
    host.deafen_special(False)
    host.crash(5)
    assert {watch.token for watch in store.events()} == {b"release"}


def test_cpu_time_is_spent_and_steps_back(host: SimulatedHost) -> None:
    """Never below 0, as it is unsigned."""
    web = host.create("web", type="hvm")
    hypervisor = host.open_hypervisor()

    def cpu_time() -> int:
        row = hypervisor.get(web)
        assert row is not None
        return row.cpu_time

    host.spend(web, 10**12)
    spent = cpu_time()
    assert spent >= 10**12
    host.step_clock(web, 10**11)
    assert 9 * 10**11 <= cpu_time() < spent
    host.step_clock(web, 10**13)
    assert cpu_time() == 0
    with pytest.raises(ValueError, match="below 0"):
        host.spend(web, -1)


def test_what_was_left_over_meets_the_next_domain(host: SimulatedHost) -> None:
    """P1: where a toolstack clears nothing."""
    host.leave_node(7, "ghost")
    host.create(None, domid=7, clear=False)
    assert host.name(7) == b"ghost"
    host.destroy(7, order="xapi")
    host.build(domid=7)
    assert host.name(7) == b"ghost"
    host.destroy(7)
    assert host.name(7) is None


# -- what cannot be ----------------------------------------------------------------------------


def test_a_full_host_says_so_at_once() -> None:
    """P9: and the lock is free again."""
    host = SimulatedHost()
    host._guests = dict.fromkeys(range(0x7FF0), host._guests[0])
    with pytest.raises(HypercallFailed, match="destroy a domain") as caught:
        host.create("one more")
    assert caught.value.errno == errno.ENOMEM
    del host._guests[3]
    assert host.create("web") == 3


def test_a_wrong_domid_or_value_is_an_error(host: SimulatedHost) -> None:
    """P12: it breaks no index, but the test that made it."""
    web = host.create("web")
    for wrong in ("text", 5, bytearray(b"x")):
        with pytest.raises(InvalidKey):
            host.write(web, "data/x", wrong)  # type: ignore[arg-type]
    for path in ("", "/a", "a/", "a//b", "ä"):
        with pytest.raises(InvalidKey):
            host.write(web, path, b"x")
    with pytest.raises(InvalidKey):
        host.create(5)  # type: ignore[arg-type]
    with pytest.raises(InvalidKey):
        host.destroy("web")  # type: ignore[arg-type]
    for call in (host.destroy, host.introduce, host.release, host.crash, host.reboot):
        with pytest.raises(NoSuchDomain):
            call(99)
    with pytest.raises(NoSuchDomain):
        host.write(99, "data/x", b"x")
    with pytest.raises(NoSuchDomain):
        host.rename(99, "x")
    with pytest.raises(ValueError, match="order"):
        host.destroy(web, order="qemu")
    setters = (host.set_memory, host.set_max_memory, host.set_vcpus, host.spend, host.shutdown)
    for setter in setters:
        with pytest.raises(NoSuchDomain):
            setter(99, 1)
        for none in ("1", 1.5, None, True):
            with pytest.raises(TypeError, match="is an int, not"):
                setter(web, none)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="must not be below 0"):
            setter(web, -1)
    for what in ("memory", "max_memory", "vcpus"):
        with pytest.raises(TypeError, match=f"{what} is an int"):
            host.create("db", **{what: "1"})  # type: ignore[arg-type]
    for fault in (host.lose_events, host.double_events, host.halve_lists):
        with pytest.raises(TypeError, match="count is an int"):
            fault("1")  # type: ignore[arg-type]
    assert host.domids() == [web]
    with pytest.raises(ValueError, match="operations"):
        host.refuse_node(web, operations=("RM",))
    with pytest.raises(ValueError, match="watch_depth"):
        SimulatedHost(watch_depth="all")  # type: ignore[arg-type]


def test_guests_have_memory_and_processors(host: SimulatedHost) -> None:
    """512 MiB and one, or what is asked for; they change without an event, and stay at a reboot."""
    web, db = host.create("web"), host.create("db", memory=1 << 30, max_memory=2 << 30, vcpus=4)

    def has(domid: int) -> tuple[int, int, int]:
        info = host.open_hypervisor().info(domid)
        assert info is not None
        return info.memory, info.max_memory, info.vcpus

    assert has(web) == (512 << 20, 512 << 20, 1)
    assert has(db) == (1 << 30, 2 << 30, 4)
    requests = host.requests
    host.set_memory(web, 1 << 29)
    host.set_max_memory(web, 1 << 31)
    host.set_vcpus(web, 2)
    assert has(web) == (1 << 29, 1 << 31, 2)
    assert host.requests == requests
    assert has(host.reboot(db)) == (1 << 30, 2 << 30, 4)
    host.zombie(web)
    assert has(web)[0] == 4096
    host.set_memory(web, 1 << 28)
    assert has(web)[0] == 1 << 28


@pytest.mark.parametrize("seconds", [math.inf, 1e10])
def test_a_wait_may_be_for_ever(host: SimulatedHost, seconds: float) -> None:
    """P9: intervals that are never over are intervals."""
    with host.connect(Timing(probe=seconds, audit=seconds)) as index:
        ear = Ear(index)
        index.subscribe(ear, replay=False, events=(Added,))
        host.create("web", uuid=UUID(int=1))
        ear.until(lambda: ear.events, LIMIT)
        assert index.stats.reconnects == 0


# -- this host or a simulated one ------------------------------------------------------------


class Opened:
    """A host, or one that fails as it is opened, which counts what is open."""

    def __init__(self, hypervisor: Exception | None = None, store: Exception | None = None) -> None:
        self.simulated = SimulatedHost()
        self.errors = hypervisor, store
        self.open = 0

    def __call__(self) -> Self:
        return self  # in place of XenHost

    def open_hypervisor(self) -> Hypervisor:
        return self._counted(self.simulated.open_hypervisor(), self.errors[0])

    def open_store(self, timeout: float) -> Store:
        return self._counted(self.simulated.open_store(timeout), self.errors[1])

    def _counted(self, port: P, error: Exception | None) -> P:
        if error is not None:
            raise error
        self.open += 1
        close = port.close

        def closed() -> None:
            self.open -= 1
            close()

        port.close = closed  # type: ignore[method-assign]
        return port


def test_this_host_if_it_can_be_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is made or said, and what was opened for the test is closed."""
    host = Opened()
    monkeypatch.setattr(testing, "XenHost", host)
    assert testing.host_or_simulate(lambda _: pytest.fail("it is no simulated one")) is host
    assert host.open == 0
    with testing.connect_or_simulate() as index:
        assert [domain.domid for domain in index] == [0]
    assert host.open == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "host",
    [
        Opened(NotControlDomain("this is a guest")),
        Opened(AccessDenied("this is a guest")),
        Opened(store=StoreLost("this is a guest")),
    ],
)
def test_a_simulated_host_else(
    host: Opened, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says why, and the guests are there when the index is."""
    monkeypatch.setattr(testing, "XenHost", host)
    with testing.connect_or_simulate(lambda host: host.create("web")) as index:
        assert index.by_name("web").domid == 1
    assert host.open == 0
    said = "No Xen host can be used here (this is a guest). This is a simulated one."
    assert capsys.readouterr().out.splitlines() == [said]


def test_a_mistake_in_making_the_guests_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the caller's."""
    monkeypatch.setattr(testing, "XenHost", Opened(NotControlDomain("this is a guest")))
    with pytest.raises(NoSuchDomain):
        testing.connect_or_simulate(lambda host: host.crash(7))
