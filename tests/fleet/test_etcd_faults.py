"""What etcd, the network and their owners do to an engine: each fault by name."""

from __future__ import annotations

import gc
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from domindex.fleet import layout
from domindex.fleet.errors import EngineFull, Fenced, LineLost, TooOld, UnfitEngine
from domindex.fleet.opening import open_engine
from domindex.fleet.ports import SILENCE, Batch, Change, Claim, Engine, Feed, Progress

from .conftest import need
from .proxy import DOWN, UP, Proxy
from .servers import Etcd, etcd, free_port, program, wait_until
from .stores import EtcdStore, changes, dom, heard, progress, record, the_end_of


def claimed(engine: Engine, host: str = "xen1") -> Claim:
    """A claim with a record."""
    claim = engine.claim(host, "m1", 60)
    claim.commit({record(host): b"{}"})
    return claim


def live_feed(engine: Engine) -> Feed:
    """A feed from now on."""
    now = engine.load()
    feed = engine.follow(now.position, now.epoch)
    progress(feed)
    return feed


def failure_of(call: Callable[[], object], times: int = 100) -> Exception:
    """What a call raises in the end."""
    try:
        for _ in range(times):
            call()
    except Exception as error:
        return error
    raise AssertionError(f"nothing was raised in {times} calls")


def test_a_cut_line_is_lost_at_once_and_resumed(
    etcd_store: EtcdStore, through: Engine, proxy: Proxy
) -> None:
    """What happened meanwhile is told; nothing twice."""
    direct = claimed(etcd_store.connect())
    feed = live_feed(through)
    last = through.position()
    epoch = through.load().epoch
    for n in range(5):
        began = time.monotonic()
        proxy.cut()
        assert isinstance(the_end_of(feed), LineLost)
        assert time.monotonic() - began < SILENCE
        position = direct.commit({record("xen1"): b"%d" % n})
        feed = through.follow(last, epoch)
        assert [batch.position for batch in heard(feed, position)] == [position]
        last = position
    feed.close()


def test_a_line_that_carries_nothing_is_lost_in_time(etcd_store: EtcdStore) -> None:
    """F8: neither end knows of it. One direction is enough, swallowed or stalled."""
    port = etcd_store.server.one.port
    ways = [(how, one) for how in ("swallowed", "stalled") for one in (UP, DOWN)]
    with ExitStack() as stack, ThreadPoolExecutor(len(ways)) as pool:
        proxies = [stack.enter_context(Proxy(port)) for _ in ways]
        engines = [open_engine(proxy.url, timeout=1.0) for proxy in proxies]
        feeds = [live_feed(engine) for engine in engines]
        began = time.monotonic()
        for proxy, (how, direction) in zip(proxies, ways, strict=True):
            getattr(proxy, how).add(direction)
        errors = list(pool.map(the_end_of, feeds))
        assert time.monotonic() - began < SILENCE + 1.0
        assert [type(error) for error in errors] == [LineLost] * len(ways)
        for engine in engines:
            with pytest.raises(LineLost):
                engine.position(0.2)
            engine.close()


def test_calls_get_a_line_of_their_own_after_one_that_is_dead(
    through: Engine, proxy: Proxy
) -> None:
    """gRPC would keep the dead connection; the next call is on a new one."""
    feed = live_feed(through)
    for _ in range(3):
        proxy.deaden()
        with pytest.raises(LineLost):
            through.position(0.3)
        assert through.position() > 0
    assert isinstance(the_end_of(feed), LineLost)
    loaded = through.load()
    progress(through.follow(loaded.position, loaded.epoch))


def test_a_commit_without_an_answer_may_be_repeated(
    etcd_store: EtcdStore, through: Engine, proxy: Proxy
) -> None:
    """It was done, and its answer lost: that is no reason to be fenced."""
    claim = claimed(through)
    feed = live_feed(etcd_store.connect())
    for n in range(3):
        change = {record("xen1"): b"%d" % n, dom("xen1", n): b"x"}
        proxy.swallowed.add(DOWN)
        with pytest.raises(LineLost):
            claim.commit(change)
        proxy.cut()
        proxy.swallowed.clear()
        position = claim.commit(change)
        told = changes(heard(feed, position))
        expected = [Change(dom("xen1", n), b"x"), Change(record("xen1"), b"%d" % n)]
        assert told == [expected, expected]  # once done without an answer, once with
    claim.commit({record("xen1"): b"on"})
    feed.close()


def test_a_commit_that_never_arrived_may_be_repeated(through: Engine, proxy: Proxy) -> None:
    """The other way to get no answer."""
    claim = claimed(through)
    proxy.swallowed.add(UP)
    with pytest.raises(LineLost):
        claim.commit({record("xen1"): b"1"})
    proxy.cut()
    proxy.swallowed.clear()
    claim.commit({record("xen1"): b"2"})
    assert dict(through.load().pairs)[record("xen1")] == b"2"


def test_a_release_without_an_answer_may_be_repeated(
    etcd_store: EtcdStore, through: Engine, proxy: Proxy
) -> None:
    """Done or not, afterwards it is done."""
    claim = claimed(through)
    proxy.swallowed.add(DOWN)
    with pytest.raises(LineLost):
        claim.release({record("xen1"): b"ended"})
    proxy.cut()
    proxy.swallowed.clear()
    claim.release({record("xen1"): b"ended"})
    assert dict(etcd_store.connect().load().pairs) == {record("xen1"): b"ended"}


def test_a_claim_without_an_answer_leaves_the_host_to_its_machine(
    through: Engine, proxy: Proxy
) -> None:
    """Whatever arrived, the same machine claims again."""
    through.position()
    for direction in (UP, DOWN):
        proxy.swallowed.add(direction)
        with pytest.raises(LineLost):
            through.claim("xen1", "m1", 60)
        proxy.cut()
        proxy.swallowed.clear()
        claimed(through)


def test_a_slow_reader_misses_nothing(etcd_store: EtcdStore) -> None:
    """It takes nothing for longer than a probe; etcd and the line hold what is behind."""
    engine = etcd_store.connect()
    claim = claimed(engine)
    feed = live_feed(engine)
    value = b"x" * 250_000
    waited = threading.Event()
    sent = [claim.commit({record("xen1"): value, dom("xen1", n): b"x"}) for n in range(100)]
    waited.wait(SILENCE + 0.5)
    batches = heard(feed, sent[-1])
    assert [batch.position for batch in batches] == sent
    feed.close()


def test_a_feed_that_nobody_has_ends(etcd_store: EtcdStore) -> None:
    """Its thread, its stream and its connection go with it."""
    engine = etcd_store.connect()
    feed = live_feed(engine)
    (thread,) = [one for one in threading.enumerate() if one.name == "domindex-feed"]
    del feed
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_a_restarted_server_is_resumed(tmp_path: Path) -> None:
    """F4: nothing is loaded anew."""
    need("sid")
    with etcd(tmp_path) as running:
        engine = open_engine(running.url)
        claim = claimed(engine)
        feed = live_feed(engine)
        now = engine.load()
        running.one.restart()
        assert isinstance(the_end_of(feed), LineLost)
        position = claim.commit({record("xen1"): b"on"})
        feed = engine.follow(now.position, now.epoch)
        assert [batch.position for batch in heard(feed, position)] == [position]
        claim.renew()
        engine.close()


def test_a_store_restored_from_a_copy_is_another_one(tmp_path: Path) -> None:
    """Its position is lower: neither reader nor publisher goes on as if nothing had been."""
    need("sid")
    with etcd(tmp_path) as running:
        engine = open_engine(running.url)
        claim = claimed(engine)
        running.one.restart()  # so that its term is not that of a new server
        copy = str(tmp_path / "copy")
        running.ctl("snapshot", "save", copy)
        for n in range(10):
            claim.commit({record("xen1"): b"%d" % n})
        feed = live_feed(engine)
        now = engine.load()
        reader = open_engine(running.url)
        progress(reader.follow(now.position, now.epoch))
        member = running.one
        member.end()
        member.data.rename(tmp_path / "before")
        member.restore(copy)
        member.start()
        member.wait_ready()
        assert isinstance(the_end_of(feed), (LineLost, TooOld))
        late = engine.follow(now.position, now.epoch)
        assert isinstance(the_end_of(late), TooOld)
        with pytest.raises(Fenced):
            claim.commit({record("xen1"): b"on"})
        again = claimed(engine)
        for n in range(20):
            again.commit({record("xen1"): b"%d" % n})
        # Its position has passed ours, and its epoch is the same: it is another history still.
        assert engine.position() > now.position
        engine.close()
        reader.follow(now.position, now.epoch).close()
        assert isinstance(the_end_of(reader.follow(now.position, now.epoch)), TooOld)
        loaded = reader.load()
        feed = reader.follow(loaded.position, loaded.epoch)
        progress(feed)
        reader.close()


def test_a_full_database_is_told_and_leases_live_on(tmp_path: Path) -> None:
    """Trap: a host would look live for ever with an old picture, so the publisher must know."""
    need("sid")
    with etcd(tmp_path, arguments=["--quota-backend-bytes", str(2 << 20)]) as running:
        engine = open_engine(running.url)
        claim = claimed(engine)
        feed = live_feed(engine)
        large = b"x" * 500_000
        assert isinstance(failure_of(lambda: claim.commit({record("xen1"): large})), EngineFull)
        claim.renew()
        with pytest.raises(EngineFull):
            engine.claim("xen2", "m2", 60)
        assert isinstance(feed.next(5), (Batch, Progress))
        health = engine.health()
        assert "NOSPACE" in str(health.members)
        assert health.size
        claim.release()
        assert layout.alive_key("xen1") not in dict(engine.load().pairs)
        engine.close()


@pytest.mark.parametrize("suite", ["trixie", "bookworm"])
def test_an_etcd_that_is_too_old_is_refused(tmp_path: Path, suite: str) -> None:
    """Before 3.5.18 a watch may miss a delete: a ghost for ever."""
    need(suite)
    with etcd(tmp_path, suite=suite) as running:
        engine = open_engine(running.url)
        with pytest.raises(UnfitEngine, match=r"3\.5\.18"):
            engine.claim("xen1", "m1", 60)
        with pytest.raises(UnfitEngine, match=r"3\.5\.18"):
            engine.load()
        feed = engine.follow(1, None)
        assert isinstance(the_end_of(feed), UnfitEngine)
        assert "3.5.18" in " ".join(engine.health().warnings)
        engine.close()


def test_a_grpc_proxy_is_told(tmp_path: Path, server: Etcd) -> None:
    """Behind it progress never comes: a reader would stay `syncing`. (sid's own does not start.)"""
    need("trixie")
    port = free_port()
    command = [str(program("trixie")), "grpc-proxy", "start", f"--endpoints={server.one.endpoint}"]
    command += [f"--listen-addr=127.0.0.1:{port}"]
    log = tmp_path / "proxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=tmp_path)
    try:
        wait_until(lambda: "listening for gRPC proxy" in log.read_text())
        engine = open_engine(f"etcd://127.0.0.1:{port}")
        for call in (engine.load, engine.position):
            with pytest.raises(UnfitEngine, match="gRPC proxy"):
                call()
        feed = engine.follow(1, None)
        error = the_end_of(feed)
        assert isinstance(error, UnfitEngine)
        assert "gRPC proxy" in str(error)
        engine.close()
    finally:
        process.kill()
        process.wait(10)


class TestThreeMembers:
    """One of them may fail."""

    @pytest.fixture(scope="class")
    @staticmethod
    def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
        """Three members."""
        need("sid")
        quick = ["--heartbeat-interval", "50", "--election-timeout", "500"]
        with etcd(tmp_path_factory.mktemp("three"), 3, arguments=quick) as running:
            yield running

    @pytest.fixture
    @staticmethod
    def engine(cluster: Etcd) -> Iterator[Engine]:
        """Knows all three."""
        engine = open_engine(cluster.url)
        yield engine
        engine.close()

    def test_a_killed_member_costs_no_change(self, cluster: Etcd, engine: Engine) -> None:
        """Whichever it is: reader and publisher go to another one."""
        claim = claimed(engine, "killed")
        now = engine.load()
        last, epoch = now.position, now.epoch
        for n, member in enumerate(cluster.members[:2]):
            feed = engine.follow(last, epoch)
            member.end()
            position = self._committed(claim, {record("killed"): b"%d" % n})
            batches = self._heard(engine, feed, last, epoch, position)
            assert batches[-1].changes == [Change(record("killed"), b"%d" % n)]
            last = batches[-1].position
            claim.renew()
            member.start()
            member.wait_ready()

    def test_a_frozen_member_is_left(self, cluster: Etcd, engine: Engine) -> None:
        """It does not answer, and its connections stay: others are asked within the time."""
        claim = claimed(engine, "frozen")
        now = engine.load()
        feed = engine.follow(now.position, now.epoch)
        progress(feed)
        frozen = cluster.members[0]  # which is asked first
        frozen.stop()
        try:
            position = self._committed(claim, {record("frozen"): b"without it"})
            batches = self._heard(engine, feed, now.position, now.epoch, position)
            assert batches[-1].changes == [Change(record("frozen"), b"without it")]
            # Another change, to one that follows from there, without the frozen one too.
            later = self._committed(claim, {record("frozen"): b"still"})
            feed = engine.follow(position, now.epoch)
            (batch,) = self._heard(engine, feed, position, now.epoch, later)
            assert batch.position == later
        finally:
            frozen.go_on()

    def test_a_lost_quorum_is_noticed(self, cluster: Etcd, engine: Engine) -> None:
        """F8: the member that is left still answers a serializable read, and keeps its watches."""
        claim = claimed(engine, "quorum")
        feed = live_feed(engine)
        now = engine.load()
        first, second, third = cluster.members
        first.end()
        second.end()
        try:
            error = the_end_of(feed)
            assert isinstance(error, LineLost)
            with pytest.raises(LineLost):
                engine.position(2.0)
            alone = open_engine(f"etcd://{third.endpoint}", timeout=2.0)
            late = alone.follow(now.position, now.epoch)
            told: list[object] = []
            assert isinstance(failure_of(lambda: told.append(late.next(10))), LineLost)
            assert not any(isinstance(one, Progress) for one in told)
            with pytest.raises(LineLost):
                alone.position()
            alone.close()
        finally:
            for member in (first, second):
                member.start()
            for member in (first, second):
                member.wait_ready()
        position = self._committed(claim, {record("quorum"): b"back"})
        feed = engine.follow(now.position, now.epoch)
        assert heard(feed, position)[-1].changes == [Change(record("quorum"), b"back")]
        feed.close()

    @staticmethod
    def _committed(claim: Claim, puts: dict[str, bytes]) -> int:
        """As a publisher does it: again after LineLost."""
        deadline = time.monotonic() + 20
        while True:
            try:
                return claim.commit(puts)
            except LineLost:
                assert time.monotonic() < deadline

    @staticmethod
    def _heard(
        engine: Engine, feed: Feed, last: int, epoch: str | None, position: int
    ) -> list[Batch]:
        """As a reader does it: again from the last position after LineLost."""
        found: list[Batch] = []
        deadline = time.monotonic() + 20
        while not found or found[-1].position < position:
            assert time.monotonic() < deadline
            try:
                told = feed.next(10)
            except LineLost:
                feed = engine.follow(last, epoch)
                continue
            if isinstance(told, Batch):
                found.append(told)
                last = told.position
        feed.close()
        return found


def test_a_member_that_is_no_etcd_does_not_hide_the_others(server: Etcd) -> None:
    """One of the endpoints is wrong: the next one is asked."""
    engine = open_engine(f"etcd://127.0.0.1:{free_port()},{server.one.endpoint}")
    assert engine.position() > 0
    health = engine.health()
    assert sorted(bool(said) for said in health.members.values()) == [False, True]
    engine.close()
