"""Traps that were met on real servers and that no other file shows; and which test shows each."""

from __future__ import annotations

import ast
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from aetcd import rpc
from aetcd.rpc import rpc_pb2_grpc as stubs

import domindex.fleet
from domindex.cli import main
from domindex.errors import TimedOut
from domindex.fleet import HostLive, HostLost, UnfitEngine
from domindex.fleet.errors import TooOld
from domindex.fleet.etcd.members import Members
from domindex.fleet.opening import open_engine
from domindex.fleet.ports import Batch, Progress
from domindex.testing import SimulatedHost
from tests.whole.helpers import eventually

from . import SHOWN
from .conftest import need
from .servers import Etcd, free_port, program, wait_until
from .stores import EtcdStore, Store, record

LIMIT = 20.0


@pytest.mark.parametrize("what", SHOWN)
def test_each_is_shown_by_tests_that_exist(what: str) -> None:
    """The table beside this file names functions of files."""
    for one in SHOWN[what]:
        file, _, name = one.partition("::")
        tree = ast.parse((Path(__file__).parent / file).read_text())
        assert name in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}, one


def test_a_load_takes_a_request_for_each_50_hosts(
    etcd_store: EtcdStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 1: pages by `limit` make etcd count the rest each time."""
    for number in range(120):
        etcd_store.put(record(f"xen{number}"), b"{}")
    asked: list[Any] = []
    call = Members.call

    def counted(self: Members, request: Any, *more: Any, **named: Any) -> Any:
        asked.append(request)
        return call(self, request, *more, **named)

    monkeypatch.setattr(Members, "call", counted)
    assert len(dict(etcd_store.connect().load().pairs)) == 120
    assert len(asked) == 1 + 3
    assert not any(getattr(request, "limit", 0) for request in asked)
    # All blocks are at one position.
    assert len({request.revision for request in asked[1:]}) == 1


def test_a_feed_that_is_too_old_never_tells_progress(store: Store) -> None:
    """Trap 4: etcd sets the watch, and cancels it a moment later."""
    engine = store.connect()
    first = engine.position()
    for number in range(10):
        store.put(record("xen1"), b"%d" % number)
    store.compact()
    for _ in range(20):
        feed = engine.follow(first, None)
        feed.ask()
        with pytest.raises(TooOld):
            raise AssertionError(feed.next(LIMIT))


Script = Sequence[Callable[[], Any]]


@contextmanager
def scripted(answers: Script, revision: int) -> Iterator[str]:
    """The URL of what says it is etcd 3.5.30 at a revision, and answers to a watch by a script.

    Each answer waits until progress was asked for once more.
    """

    # Stubs of gRPC have no types.
    class Keys(stubs.KVServicer):  # type: ignore[misc]
        def Range(self, request: Any, context: Any) -> Any:  # noqa: N802
            return rpc.RangeResponse(header=rpc.ResponseHeader(revision=revision))

    class Maintenance(stubs.MaintenanceServicer):  # type: ignore[misc]
        def Status(self, request: Any, context: Any) -> Any:  # noqa: N802
            return rpc.StatusResponse(version="3.5.30")

    class Watch(stubs.WatchServicer):  # type: ignore[misc]
        def Watch(self, requests: Any, context: Any) -> Any:  # noqa: N802
            left = list(answers)
            for request in requests:
                if request.HasField("create_request"):
                    yield rpc.WatchResponse(created=True)
                elif left:
                    yield left.pop(0)()

    server = grpc.server(ThreadPoolExecutor(4))
    stubs.add_KVServicer_to_server(Keys(), server)
    stubs.add_MaintenanceServicer_to_server(Maintenance(), server)
    stubs.add_WatchServicer_to_server(Watch(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"etcd://127.0.0.1:{port}"
    finally:
        server.stop(None).wait(10)


def says(revision: int) -> Callable[[], Any]:
    """Progress."""
    return lambda: rpc.WatchResponse(header=rpc.ResponseHeader(revision=revision))


def happens(revision: int) -> Callable[[], Any]:
    """A change of the record of xen1."""
    return lambda: rpc.WatchResponse(
        header=rpc.ResponseHeader(revision=revision),
        events=[
            rpc.Event(
                kv={
                    "key": record("xen1").encode(),
                    "value": b"%d" % revision,
                    "mod_revision": revision,
                }
            )
        ],
    )


def test_old_progress_is_none_and_progress_that_was_too_early_loses_nothing() -> None:
    """Trap 5: below what is known, or before changes that it should come after."""
    script = [says(51), happens(55), says(52), happens(56), says(60), happens(58), says(60)]
    with scripted(script, 60) as url:
        engine = open_engine(url)
        feed = engine.follow(50, None)
        told: list[Batch | Progress] = []
        while sum(isinstance(one, Progress) for one in told) < 2:
            one = feed.next(5)
            assert one is not None
            told.append(one)
            feed.ask()
        assert [one.position for one in told if isinstance(one, Batch)] == [55, 56, 58]
        # Neither 51 nor 52: the store was at 60.
        assert [one.position for one in told if isinstance(one, Progress)] == [60, 60]
        assert [type(one) for one in told[:3]] == [Batch, Batch, Progress]
        feed.close()
        engine.close()


def test_a_pause_longer_than_the_leases_of_many_hosts_is_no_loss(store: Store) -> None:
    """Trap 10: all are lost at once, and all have come back a moment later. No event says so."""
    hosts = [f"xen{number}" for number in range(30)]
    with ExitStack() as stack:
        simulated = stack.enter_context(SimulatedHost())
        simulated.create("web")
        index = stack.enter_context(simulated.connect())
        publishers = [
            stack.enter_context(
                domindex.fleet.publish(
                    index, store.connect(), host=host, machine=f"m-{host}", lock=False, ttl=2
                )
            )
            for host in hosts
        ]
        fleet = stack.enter_context(domindex.fleet.connect(store.connect()))
        events = stack.enter_context(fleet.events(replay=False, events=(HostLost, HostLive)))
        before = {host: view.since for host, view in fleet.hosts.items()}
        store.stop()
        try:
            threading.Event().wait(3.0)  # a lease and a renewal; requests wait for 5 s
        finally:
            store.go_on()
        eventually(lambda: fleet.live, LIMIT)

        def all_are_back() -> bool:
            views = fleet.hosts.values()
            return all(view.state == "live" and view.since > before[view.host] for view in views)

        eventually(all_are_back, LIMIT)
        assert [one.problem for one in publishers] == [None] * len(hosts)
        fleet.refresh()
        with pytest.raises(TimedOut):
            raise AssertionError(events.get(1.5))
        assert len(fleet) == len(hosts)
        assert fleet.stats.loads == 1


@pytest.fixture
def grpc_proxy(tmp_path: Path, server: Etcd) -> Iterator[str]:
    """The URL of etcd's own, in front of the server. (sid's does not start.)"""
    need("trixie")
    port = free_port()
    log = tmp_path / "proxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(str(program("trixie")), "grpc-proxy", "start"),
                *(f"--endpoints={server.one.endpoint}", f"--listen-addr=127.0.0.1:{port}"),
            ],
            stdout=output,
            stderr=output,
            cwd=tmp_path,
        )
    try:
        wait_until(lambda: "listening for gRPC proxy" in log.read_text())
        yield f"etcd://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(10)


def test_behind_a_grpc_proxy_connect_publish_and_check_say_so(
    grpc_proxy: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 15: none of them waits for progress that never comes."""
    with pytest.raises(UnfitEngine, match="gRPC proxy"):
        domindex.fleet.connect(grpc_proxy, timeout=LIMIT)
    with (
        SimulatedHost() as host,
        host.connect() as index,
        pytest.raises(UnfitEngine, match="gRPC proxy"),
    ):
        domindex.fleet.publish(index, grpc_proxy, host="xen1", lock=False, timeout=LIMIT)
    monkeypatch.setenv("DOMINDEX_FLEET", grpc_proxy)
    assert main(["fleet", "check"]) == 1
    assert "gRPC proxy" in capsys.readouterr().out
