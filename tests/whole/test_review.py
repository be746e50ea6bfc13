"""Faults that a reading of the code found, each as the scenario that showed it."""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
from typing import Any
from uuid import UUID

import pytest

import domindex
from domindex import Added, Closed, Removed, Timing
from domindex.testing import QUICK, SimulatedHost
from domindex.xen.xenstore import XenStore
from tests.whole.helpers import Ear, Meddler, eventually

U = UUID(int=7)


class Refuses(logging.Filter):
    """A filter of the application that fails."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise RuntimeError("the log is broken")


@pytest.fixture
def broken_log() -> Any:
    refuses = Refuses()
    logging.getLogger("domindex").addFilter(refuses)
    yield
    logging.getLogger("domindex").removeFilter(refuses)


@pytest.mark.usefixtures("broken_log")
def test_a_log_that_fails_does_not_end_the_watcher() -> None:
    """P9: the line is lost, told of and recovered, whatever the log does."""
    with SimulatedHost() as host, host.connect(QUICK) as index:
        ear = Ear(index)
        index.subscribe(ear)
        host.cut_line()
        ear.until(lambda: ear.count(domindex.Recovered) == 1)
        host.create("web")
        index.refresh()
        assert "web" in index.names


def test_a_change_that_could_not_be_taken_is_taken_with_the_next_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P2: a fault between working a change out and taking it in loses nothing for good."""
    with SimulatedHost() as host, host.connect(QUICK) as index:
        take, failed = index._table.apply, threading.Event()

        def fail_once(*args: Any, **kwargs: Any) -> Any:
            if not failed.is_set() and args[0]:
                failed.set()
                raise RuntimeError("a fault of ours")
            return take(*args, **kwargs)

        monkeypatch.setattr(index._table, "apply", fail_once)
        host.create("web")
        eventually(lambda: "web" in index.names)
        assert failed.is_set()
        index._table.check()


def test_after_close_a_late_watcher_changes_nothing() -> None:
    """A hypercall that hangs for longer than `close` waits must not fill the table again."""
    host = SimulatedHost()
    meddler = Meddler(host)
    index = domindex.connect(meddler, timing=QUICK)
    stuck, go = threading.Event(), threading.Event()

    def hang() -> None:
        stuck.set()
        go.wait(10)

    meddler.meddle["before look"] = hang
    host.create("web")
    assert stuck.wait(10)
    index.close(timeout=0.05)
    go.set()
    index._body.watcher._thread.join(10)
    with pytest.raises(Closed):
        index.by_name("web")


def test_close_keeps_its_time_limit_with_many_stuck_listeners() -> None:
    """One limit for all of them."""
    go, stuck = threading.Event(), threading.Semaphore(0)

    def hang(_: object) -> None:
        stuck.release()
        go.wait(20)

    host = SimulatedHost()
    index = host.connect(QUICK)
    for _ in range(20):
        index.subscribe(hang)
    for _ in range(20):
        assert stuck.acquire(timeout=10)
    closing = threading.Thread(target=index.close, args=(0.3,))
    closing.start()
    closing.join(5)
    assert not closing.is_alive()  # 20 limits would be six seconds
    go.set()


def test_a_nameless_reuse_is_seen_where_the_event_names_the_domid() -> None:
    """P3: same uuid, no name, no sign in the row: the id of the life is asked."""
    with (
        SimulatedHost(unique_ids=True, watch_depth=True) as host,
        host.connect(Timing(audit=math.inf)) as index,
    ):
        ear = Ear(index)
        index.subscribe(ear)
        host.create(None, uuid=U, type="hvm", domid=5)
        ear.until(lambda: ear.count(Added) == 2)
        with host._lock:
            host.destroy(5)
            host.create(None, uuid=U, type="hvm", domid=5)
        ear.until(lambda: ear.count(Removed) == 1 and ear.count(Added) == 3)


def test_verified_by_uuid_is_of_the_life_too() -> None:
    """P7: another life with the same uuid is not taken for the one that is held."""
    with SimulatedHost(unique_ids=True) as host, host.connect(Timing(audit=math.inf)) as index:
        host.create("old", uuid=U, type="hvm", domid=5)
        index.refresh()
        host.lose_events(100)
        host.destroy(5)
        host.create("new", uuid=U, type="hvm", domid=5)
        assert index.by_uuid(U, verify=True).name == "new"


def test_a_rename_during_an_audit_is_no_drift() -> None:
    """Drift is what no event told of."""
    host = SimulatedHost()
    meddler = Meddler(host)
    with domindex.connect(meddler, timing=Timing(audit=0.2, probe=math.inf)) as index:
        domid = host.create("a")
        index.refresh()
        lists = index.stats.lists
        meddler.meddle["before look"] = lambda: host.rename(domid, "b")
        eventually(lambda: "b" in index.names and index.stats.lists >= lists + 4)
        assert index.stats.drift == 0


@pytest.mark.parametrize("field", ["request", "probe", "audit", "retry", "retry_most"])
@pytest.mark.parametrize("seconds", [0, -1, math.nan])
def test_a_timing_that_is_none_is_refused(field: str, seconds: float) -> None:
    """With the name of the field."""
    with pytest.raises(ValueError, match=field):
        Timing(**{field: seconds})


def test_views_can_be_joined() -> None:
    """As dicts can, on either side."""
    with SimulatedHost() as host, host.connect() as index:
        joined = index.names | {"x": index.by_id(0)}
        assert set(joined) == {"Domain-0", "x"}
        assert {"x": index.by_id(0)} | index.names == joined


def test_a_child_does_not_keep_the_line_open(tmp_path: Any) -> None:
    """P9, P10: when the parent closes its line, the server sees it close, child or no child."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        accepted: list[socket.socket] = []

        def serve() -> None:
            accepted.append(server.accept()[0])

        serving = threading.Thread(target=serve)
        serving.start()
        store = XenStore("socket", path, 5.0)
        serving.join(10)
        readable, writable = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writable)
            os.read(readable, 1)  # until the parent is done
            os._exit(0)
        try:
            store.close()
            accepted[0].settimeout(10)
            while accepted[0].recv(4096):
                pass
        finally:
            os.close(writable)
            os.close(readable)
            os.waitpid(child, 0)
            accepted[0].close()
