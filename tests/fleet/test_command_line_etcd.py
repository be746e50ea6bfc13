"""The commands of a fleet on a real etcd, as processes: publish, be killed, be asked."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from domindex.cli import main
from domindex.fleet.layout import EPOCH, ROOT
from domindex.fleet.url import Tls

from .certificates import Authority, ctl_arguments, server_arguments
from .conftest import need
from .servers import Etcd, etcd, wait_until


class Publishing:
    """`domindex publish --simulated` as a process of its own."""

    def __init__(self, url: str, host: str, log: Path, *more: str) -> None:
        self._log = log
        with log.open("wb") as err:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-W", "error", "-m", "domindex", "publish", url),
                    *("--simulated", "--host", host, "--ttl", "2", *more),
                ],
                stdin=subprocess.DEVNULL,
                stdout=err,
                stderr=err,
            )

    def said(self) -> str:
        """What it has logged."""
        return self._log.read_text()

    def wait_for(self, text: str) -> None:
        """Until it has logged that."""

        def has() -> bool:
            assert self.process.poll() is None or text in self.said(), self.said()
            return text in self.said()

        wait_until(has, 30)

    def end(self, by: int) -> int:
        """The status with which it ends by that signal."""
        self.process.send_signal(by)
        return self.process.wait(20)


@contextmanager
def publishing(url: str, host: str, home: Path, *more: str) -> Iterator[Publishing]:
    """One that has written its host; killed at the end if it still runs."""
    running = Publishing(url, host, home / f"{host}.log", *more)
    try:
        running.wait_for("is published")
        yield running
    finally:
        running.process.kill()
        running.process.wait(20)


@pytest.fixture
def url(server: Etcd) -> str:
    """An empty store."""
    server.ctl("del", "--prefix", ROOT)
    return server.url


@pytest.fixture
def ask(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run one command of the fleet with --json; its status and what it said."""
    monkeypatch.setenv("DOMINDEX_FLEET", url)

    def run(*argv: str) -> tuple[int, Any, str]:
        status = main(["fleet", *argv, "--json"])
        out, err = capsys.readouterr()
        return status, json.loads(out) if out else None, err

    return run


def test_a_publisher_is_found_killed_and_lost(ask: Any, url: str, tmp_path: Path) -> None:
    """F2, F3, F4: what it said is kept, with the state of its host; no name is ruled out then."""
    with publishing(url, "xen1", tmp_path) as first, publishing(url, "xen2", tmp_path):
        status, found, _ = ask("get", "db", "--host", "xen1")
        assert (status, found["host"], found["host_state"]) == (0, "xen1", "live")
        assert ask("get", "db")[0] == 1
        assert ask("get", "nobody")[0] == 1
        assert ask("forget", "xen1")[0] == 1

        assert first.end(signal.SIGKILL) == -signal.SIGKILL
        wait_until(lambda: ask("hosts")[1][0]["state"] == "lost", 20)
        assert [host["state"] for host in ask("hosts")[1]] == ["lost", "live"]
        assert ask("hosts")[1][0]["reason"] == "its lease ran out"
        assert ask("get", "db", "--host", "xen1")[1]["host_state"] == "lost"
        status, _, err = ask("get", "nobody")
        assert status == 3
        assert "xen1 (lost)" in err
        assert ask("offline", "xen1")[0] == 0
        assert ask("get", "nobody")[0] == 1
        assert ask("get", "db")[1]["host"] == "xen2"

    with publishing(url, "xen1", tmp_path):  # its own return ends that
        assert ask("get", "db", "--host", "xen1")[1]["host_state"] == "live"


@pytest.mark.parametrize(
    ("by", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGHUP, 0)]
)
def test_a_publisher_gives_its_host_up_at_once(
    ask: Any, url: str, tmp_path: Path, by: int, status: int
) -> None:
    """No lease has to run out: with one of a minute the next look sees it."""
    ours = signal.signal(by, signal.SIG_DFL if by != signal.SIGINT else signal.default_int_handler)
    try:
        with publishing(url, "xen1", tmp_path, "--ttl", "60", "--json") as running:
            assert running.end(by) == status
            logged = [json.loads(line) for line in running.said().splitlines()]
    finally:
        signal.signal(by, ours)
    assert [one["message"] for one in logged] == ["host xen1 is published"]
    (host,) = ask("hosts")[1]
    assert (host["state"], host["reason"]) == ("lost", "its publisher was closed")


def test_what_was_ignored_stays_so(ask: Any, url: str, tmp_path: Path) -> None:
    """`nohup domindex publish` outlives its terminal."""
    ours = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with publishing(url, "xen1", tmp_path) as running:
            running.process.send_signal(signal.SIGHUP)
            assert running.end(signal.SIGTERM) == 0
    finally:
        signal.signal(signal.SIGHUP, ours)


def test_a_name_that_another_machine_has_is_refused(url: str, ask: Any, tmp_path: Path) -> None:
    """With status 1, at once, and the other goes on."""
    with publishing(url, "xen1", tmp_path):
        code = "import sys; from domindex.cli.fleet import publishing as p\n"
        code += "real = p.joining.publish\n"
        code += "p.joining.publish = lambda *a, **k: real(*a, **k | {'machine': 'other'})\n"
        code += "from domindex.cli import main; sys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-c", code, "publish", url, "--simulated", "--host", "xen1"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert "publishes as host 'xen1'" in done.stderr
        assert ask("hosts")[1][0]["state"] == "live"


def test_a_publisher_that_is_taken_over_ends(url: str, tmp_path: Path) -> None:
    """F9: the same machine takes over at once, and the first does not fight."""
    with publishing(url, "xen1", tmp_path) as first:
        (tmp_path / "again").mkdir()
        with publishing(url, "xen1", tmp_path / "again"):
            assert first.process.wait(20) == 4
            assert "another publisher of this machine" in first.said()


def test_a_store_that_is_frozen_is_not_waited_for(ask: Any, server: Etcd) -> None:
    """`--timeout` holds whatever the store does: status 3, and nothing hangs."""
    server.one.stop()
    try:
        began = time.monotonic()
        status, _, err = ask("list", "--timeout", "0.5")
        assert time.monotonic() - began < 10
    finally:
        server.one.go_on()
    assert status in (3, 124)
    assert err.startswith("domindex: ")
    assert ask("list")[0] == 0


def test_check_of_a_store_without_rights(ask: Any, url: str) -> None:
    """It works, and whoever reaches it may write: a warning. Nothing is written."""
    status, found, _ = ask("check", "--host", "xen1")
    assert status == 0
    hows = {(one["what"], one["how"]) for one in found}
    assert {("member", "ok"), ("engine", "ok"), ("quota", "ok"), ("reader", "ok")} <= hows
    assert {("epoch", "warn"), ("rights", "ok"), ("rights", "warn")} <= hows


def test_check_says_that_a_store_is_full(ask: Any, tmp_path: Path) -> None:
    """Its alarm is on, and leases are renewed all the same: a part does not work."""
    quota = 4 << 20
    with etcd(tmp_path, arguments=["--quota-backend-bytes", str(quota)]) as small:
        filler = (f"/filler/{number}" for number in range(20))
        with pytest.raises(AssertionError, match="space exceeded"):
            deque(small.ctl("put", key, text="x" * 500_000) for key in filler)
        status, found, _ = ask("check", "--url", small.url)
        assert status == 1
        assert any(one["what"] == "alarm" and one["how"] == "no" for one in found), found


def test_check_of_a_server_that_is_too_old_or_is_none(ask: Any, tmp_path: Path) -> None:
    """With what is needed instead."""
    need("bookworm")
    with etcd(tmp_path, suite="bookworm") as old:
        status, found, _ = ask("check", "--url", old.url)
    assert status == 1
    assert any("3.5.18" in one["detail"] for one in found if one["how"] == "no")
    status, found, _ = ask("check", "--url", "etcd://127.0.0.1:1", "--timeout", "0.5")
    assert status == 1
    assert [(one["what"], one["how"]) for one in found] == [("member", "no")]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Etcd, dict[str, Tls]]]:
    """An etcd whose rights are what `domindex fleet grant` prints."""
    need("sid")
    home = tmp_path_factory.mktemp("guarded")
    authority = Authority(home / "authority")
    tls = {name: authority.client(name) for name in ("root", "xen1", "xen10", "panel")}
    with etcd(
        home,
        arguments=server_arguments(authority),
        tls=ctl_arguments(tls["root"]),
        scheme="https",
    ) as server:
        for argv in (["xen1"], ["xen10"], ["--reader", "panel"]):
            done = subprocess.run(
                [sys.executable, "-m", "domindex", "fleet", "grant", *argv],
                capture_output=True,
                text=True,
                check=True,
            )
            for line in done.stdout.splitlines():
                server.ctl(*shlex.split(line)[1:])
        server.ctl("user", "add", "root", "--no-password")
        server.ctl("user", "grant-role", "root", "root")
        server.ctl("put", EPOCH, "made by root")
        server.ctl("auth", "enable")
        yield server, tls


def options(tls: Tls) -> list[str]:
    """The same certificates as options."""
    return ["--ca", str(tls.ca), "--cert", str(tls.cert), "--key", str(tls.key)]


def test_the_rights_that_grant_prints_are_enough_and_no_more(
    guarded: tuple[Etcd, dict[str, Tls]], ask: Any, tmp_path: Path
) -> None:
    """F10: a host publishes itself alone, a reader reads; `check` says so of each."""
    server, tls = guarded

    def rights(user: str, host: str) -> list[str]:
        found = ask("check", "--url", server.url, "--host", host, *options(tls[user]))[1]
        return [one["how"] for one in found if one["what"] == "rights"]

    with publishing(server.url, "xen1", tmp_path, *options(tls["xen1"])) as running:
        status, found, _ = ask("get", "db", "--url", server.url, *options(tls["panel"]))
        assert (status, found["host"]) == (0, "xen1")
        assert rights("xen1", "xen1") == ["ok", "ok"]
        assert rights("xen1", "xen10") == ["no", "ok"]
        assert rights("panel", "xen1") == ["no", "ok"]
        assert rights("root", "xen1") == ["ok", "warn"]
        assert running.end(signal.SIGTERM) == 0
    status, _, err = ask("forget", "xen1", "--url", server.url, *options(tls["panel"]))
    assert status == 3
    assert "grant" in err
    status, _, err = ask("list", "--url", server.url, *options(tls["xen1"]))
    assert status == 3
    status, _, err = ask("list", "--url", server.url, "--timeout", "1")
    assert status == 3
    assert "certificates" in err
