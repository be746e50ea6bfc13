"""Nodes that are read once: of that life and no other, in one go, whatever else goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from domindex.domain import Domain
from domindex.errors import Closed, InvalidKey, NoSuchDomain, NotLive, StoreError, TimedOut
from domindex.index import Index
from domindex.testing import SimulatedHost
from tests.whole.helpers import CALM, LIMIT, SHARP, Meddler, eventually

TARGET, OTHER = "memory/target", "device-model-domid"
ASKED = {"read", "get", "list", "state", "barrier", "watch"}
U = UUID(int=7)


@pytest.fixture
def web(host: SimulatedHost, index: Index) -> Domain:
    domid = host.create("web", uuid=U)
    host.write(domid, TARGET, b"1024")
    index.refresh()
    return index.by_id(domid)


def test_values_by_path(host: SimulatedHost, index: Index, web: Domain) -> None:
    """Bytes as they are, also none at all; None where there is no node; no paths, no values."""
    host.write(web.domid, "data", b"")
    assert index.read(web, TARGET) == {TARGET: b"1024"}
    found = index.read(web, OTHER, TARGET, "data")
    assert [*found.items()] == [(OTHER, None), (TARGET, b"1024"), ("data", b"")]
    assert index.read(web) == {}


@pytest.mark.parametrize("count", [1, 5])
def test_one_round_trip_and_one_hypercall_or_two(host: SimulatedHost, count: int) -> None:
    """P11: for all paths together."""
    meddler = Meddler(host)
    domid = host.create("web")
    with Index(meddler, CALM) as index:
        index.start(LIMIT)
        index.refresh()
        record = index.by_id(domid)
        meddler.calls.clear()
        index.read(record, *(f"data/{number}" for number in range(count)))
        ids = ["state"] if index.capabilities.unique_ids else []
        assert [call for call in meddler.calls if call in ASKED] == ["read", "get", *ids]


def test_of_a_life_that_has_ended(host: SimulatedHost, index: Index, web: Domain) -> None:
    """P3: said at once where the index knows it, and after the hypervisor was asked where not."""
    host.destroy(web.domid, order="at once")
    host.create("web", domid=web.domid)
    with pytest.raises(NoSuchDomain):
        index.read(web, TARGET)
    index.refresh()
    with pytest.raises(NoSuchDomain):
        index.read(web, TARGET)
    assert index.read(index.by_id(web.domid), TARGET) == {TARGET: None}


@pytest.mark.parametrize("uuid", [U, UUID(int=8)], ids=["same uuid", "another"])
@pytest.mark.parametrize("when", ["before read", "read"])
def test_no_value_of_the_next_life(host: SimulatedHost, when: str, uuid: UUID) -> None:
    """P1: the domid was given to another domain while it was read."""
    if uuid == U and not host._unique_ids:
        pytest.skip("before Xen 4.21 a life with the same uuid is told by the events alone")
    meddler = Meddler(host)
    domid = host.create("web", uuid=U)

    def reuse() -> None:
        host.destroy(domid, order="at once")
        host.create("db", domid=domid, uuid=uuid)
        host.write(domid, TARGET, b"2048")

    with Index(meddler, CALM) as index:
        index.start(LIMIT)
        record = index.by_id(domid)
        meddler.meddle[when] = reuse
        with pytest.raises(NoSuchDomain):
            index.read(record, TARGET)
        index.refresh()
        assert index.read(index.by_id(domid), TARGET) == {TARGET: b"2048"}


def test_of_a_life_whose_handle_has_changed(host: SimulatedHost) -> None:
    """P3: it is the same one, as the watch of its name was silent."""
    meddler = Meddler(host)
    domid = host.create("web", uuid=U)
    host.write(domid, TARGET, b"1024")
    with Index(meddler, CALM) as index:
        index.start(LIMIT)
        record = index.by_id(domid)
        meddler.meddle["read"] = lambda: host.change_handle(domid, UUID(int=8))
        assert index.read(record, TARGET) == {TARGET: b"1024"}
        assert index.by_id(domid).uuid == UUID(int=8)


def test_what_xenstored_refuses(host: SimulatedHost, index: Index, web: Domain) -> None:
    """P9: it is said to who asked, with its path, and concerns nobody else."""
    host.refuse_node(web.domid, OTHER, "EACCES")
    refusals = index.stats.refusals
    with pytest.raises(StoreError) as caught:
        index.read(web, TARGET, OTHER)
    assert caught.value.path == f"/local/domain/{web.domid}/{OTHER}"
    assert caught.value.operation == "READ"
    assert index.read(web, TARGET) == {TARGET: b"1024"}
    assert index.live
    assert index.stats.refusals == refusals  # those are of what the index needs itself


def test_while_the_line_is_down() -> None:
    """P5, P9: it waits for the line, and says so where it waited in vain."""
    host = SimulatedHost()
    domid = host.create("web")
    host.write(domid, TARGET, b"1024")
    with host.connect(timing=SHARP) as index:
        web = index.by_id(domid)
        host.stop_xenstored()
        eventually(lambda: not index.live)
        with pytest.raises(NotLive):
            index.read(web, TARGET, timeout=0.01)
        assert not index._body.watcher._requests.readings  # nobody waits for it any more
        found, reader = in_a_thread(lambda: index.read(web, TARGET))
        eventually(lambda: index._body.watcher._requests.readings)
        host.start_xenstored()
        reader.join(LIMIT)
        assert found == [{TARGET: b"1024"}]


@pytest.mark.parametrize("fault", ["cut_line", "deafen_line"])
def test_a_line_that_breaks_amid_it(fault: str) -> None:
    """P9: the next line answers."""
    host = SimulatedHost()
    meddler = Meddler(host)
    domid = host.create("web")
    host.write(domid, TARGET, b"1024")
    with Index(meddler, SHARP) as index:
        index.start(LIMIT)
        web = index.by_id(domid)
        meddler.meddle["before read"] = getattr(host, fault)
        assert index.read(web, TARGET) == {TARGET: b"1024"}
        assert index.stats.reconnects


def test_many_are_answered_in_one_go() -> None:
    """P11: each with its own, one that fails beside the others too."""
    host = SimulatedHost(idle=True)
    meddler = Meddler(host)
    domids = [host.create(f"vm-{number}") for number in range(8)]
    for domid in domids:
        host.write(domid, TARGET, b"%d" % domid)
    going_on = threading.Event()
    with Index(meddler, CALM) as index:
        index.start(LIMIT)
        records = [index.by_id(domid) for domid in domids]
        readings = index._body.watcher._requests.readings
        meddler.meddle["before read"] = lambda: going_on.wait(LIMIT)
        first, holder = in_a_thread(lambda: index.read(records[0], TARGET))
        eventually(lambda: "before read" not in meddler.meddle)
        answers = [in_a_thread(lambda web=web: index.read(web, TARGET)) for web in records]  # type: ignore[misc]
        eventually(lambda: len(readings) == 1 + len(records))
        host.destroy(domids[3], order="at once")
        host.refuse_node(domids[5], TARGET)
        meddler.calls.clear()
        going_on.set()
        for thread in (holder, *(thread for _, thread in answers)):
            thread.join(LIMIT)
        assert first == [{TARGET: b"1"}]
        assert meddler.calls.count("read") <= 3  # one of them of the name of what has ended
        kinds = [type(answer[0]) for answer, _ in answers]
        assert kinds == [dict] * 3 + [NoSuchDomain, dict, StoreError] + [dict] * 2
        assert answers[7][0] == [{TARGET: b"%d" % domids[7]}]


def test_what_is_read_is_not_read_again() -> None:
    """P11: though its caller has not come to take it yet."""
    host = SimulatedHost(idle=True)
    with (
        host.connect(timing=CALM) as index,
        index._body.reading(index.by_id(0), ["name"], LIMIT) as condition,
    ):
        eventually(lambda: condition(False))
        reads = index.stats.reads
        index.refresh()
        index.refresh()
        assert index.stats.reads == reads


def test_one_that_takes_too_long_and_one_that_is_cut_off() -> None:
    """P9: TimedOut while the line lives; Closed as soon as it is closed."""
    host = SimulatedHost(idle=True)
    meddler = Meddler(host)
    going_on = threading.Event()
    with Index(meddler, CALM) as index:
        index.start(LIMIT)
        dom0 = index.by_id(0)
        meddler.meddle["before read"] = lambda: going_on.wait(LIMIT)
        with pytest.raises(TimedOut):
            index.read(dom0, TARGET, timeout=0.01)
        cut_off, reader = in_a_thread(lambda: index.read(dom0, TARGET))
        eventually(lambda: index._body.watcher._requests.readings)
        closer = threading.Thread(target=index.close)
        closer.start()
        reader.join(LIMIT)
        assert [type(answer) for answer in cut_off] == [Closed]
        going_on.set()
        closer.join(LIMIT)
    with pytest.raises(Closed):
        index.read(dom0, TARGET)


def test_reads_refreshes_and_events_all_have_their_turn(
    host: SimulatedHost, index: Index, web: Domain
) -> None:
    """P9: whoever asks without end puts none of the others off."""
    enough = threading.Event()

    def without_end(ask: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            while not enough.is_set():
                ask()

        return run

    askers = [
        in_a_thread(without_end(ask))
        for ask in (index.refresh, lambda: index.read(web, TARGET)) * 2
    ]
    try:
        for number in range(20):
            host.rename(web.domid, f"web-{number}")
            index.wait_for(name=f"web-{number}", timeout=LIMIT)
            assert index.read(web, TARGET, timeout=LIMIT) == {TARGET: b"1024"}
            index.refresh(LIMIT)
    finally:
        enough.set()
        for _, thread in askers:
            thread.join(LIMIT)
    assert [failed for answers, _ in askers for failed in answers if failed is not None] == []


@pytest.mark.parametrize("path", ["", "/memory", "memory/", "a//b", "../0/name", b"memory", None])
def test_a_path_that_is_none(index: Index, path: Any) -> None:
    """Said at once, before anything is asked."""
    with pytest.raises(InvalidKey):
        index.read(index.by_id(0), TARGET, path)


@pytest.mark.parametrize("given", [0, "Domain-0", None])
def test_a_life_is_given_by_its_record(index: Index, given: Any) -> None:
    """A domid may be another domain's by now."""
    with pytest.raises(InvalidKey):
        index.read(given, TARGET)
    with pytest.raises(InvalidKey):
        index.watch(given, TARGET, print)


def in_a_thread(call: Callable[[], object]) -> tuple[list[object], threading.Thread]:
    """What the call returns or raises will be in the list."""
    answer: list[object] = []

    def run() -> None:
        try:
            answer.append(call())
        except Exception as error:
            answer.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return answer, thread
