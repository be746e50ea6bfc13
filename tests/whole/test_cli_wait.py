"""`domindex wait` and `domindex watch` on a host that changes meanwhile."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import Self
from uuid import UUID

import pytest

from domindex.cli import main, waiting
from domindex.domain import ShutdownReason
from domindex.errors import StoreError
from domindex.ports import Store, Watch
from domindex.testing import SimulatedHost
from tests.whole.helpers import Meddler, eventually

U = UUID("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9")


class Command:
    """A command that runs in a thread. It is waited for until it follows the host."""

    def __init__(self, host: SimulatedHost, *argv: str) -> None:
        self._command = argv[0]
        self._meddler = Meddler(host)
        self._status: list[int] = []
        self._thread = threading.Thread(
            target=lambda: self._status.append(main(argv, self._meddler))
        )
        self._thread.start()
        eventually(lambda: self._idle() or self._status)

    def _idle(self) -> bool:
        lines = self._meddler.lines
        if not (lines and lines[-1].waiting and not self._meddler.pending()):
            return False
        # The index is up to date. The command has looked at it once it waits for more.
        frame = sys._current_frames().get(self._thread.ident or 0)
        calls = set[str]()
        while frame is not None:
            calls.add(frame.f_code.co_name)
            frame = frame.f_back
        return "connect" not in calls and (self._command == "watch" or "wait" in calls)

    @property
    def runs(self) -> bool:
        """Whether it still waits, though it has seen all that has happened."""
        eventually(lambda: self._idle() or self._status)
        return not self._status

    def end(self) -> int:
        """Its status, once it has ended by itself."""
        self._thread.join(30)
        (status,) = self._status
        return status


@pytest.fixture
def host() -> SimulatedHost:
    """A host with web, which is domain 1."""
    host = SimulatedHost()
    host.create("web", uuid=U, domid=1)
    return host


class Said:
    """What commands have printed since the last call, and what they complained of."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys, self._out, self._err = capsys, "", ""

    def __call__(self) -> tuple[str, str]:
        self.has("")
        said, self._out, self._err = (self._out, self._err), "", ""
        assert "Traceback" not in said[0] + said[1]
        return said

    def has(self, text: str) -> bool:
        """Whether that was printed."""
        out, err = self._capsys.readouterr()
        self._out, self._err = self._out + out, self._err + err
        return text in self._out


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What is printed in this test."""
    return Said(capsys)


# -- until it is there, or ready -----------------------------------------------------------------


@pytest.mark.parametrize("until", [[], ["--ready"]])
@pytest.mark.parametrize("key", ["db", "2", "id:2", "name:db", str(UUID(int=5))])
def test_it_waits_for_a_domain_that_is_not_there_yet(
    host: SimulatedHost, said: Said, key: str, until: list[str]
) -> None:
    """By whatever key; then it prints the domid."""
    command = Command(host, "wait", key, *until, "--timeout", "30")
    assert command.runs
    host.create("db", uuid=UUID(int=5), domid=2)
    assert command.end() == 0
    assert said() == ("2\n", "")


def test_ready_waits_for_the_final_name(host: SimulatedHost, said: Said) -> None:
    """There it is at once; ready, once the migration is done."""
    host.create("db--incoming", domid=2)
    assert main(["wait", "id:2"], host) == 0
    command = Command(host, "wait", "id:2", "--ready")
    assert command.runs
    host.rename(2, "db")
    assert command.end() == 0
    assert said() == ("2\n2\n", "")


def test_ready_survives_a_reboot(host: SimulatedHost, said: Said) -> None:
    """The next life of the same name is what is waited for."""
    host.shutdown(1, ShutdownReason.REBOOT)
    command = Command(host, "wait", "web", "--ready", "--json")
    assert command.runs
    host.destroy(1)
    assert command.runs
    host.create("web", uuid=U, domid=2)
    assert command.end() == 0
    assert json.loads(said()[0])["domid"] == 2


def test_ready_takes_the_end_of_a_migration_that_is_ready(host: SimulatedHost, said: Said) -> None:
    """While both have the uuid, one of them is still called otherwise."""
    host.create("web--incoming", uuid=U, domid=2)
    assert main(["wait", f"uuid:{U}", "--ready"], host) == 0
    assert said() == ("1\n", "")
    assert main(["wait", f"uuid:{U}"], host) == 1
    assert "may be any of 2 domains" in said()[1]


@pytest.mark.parametrize("key", ["web", "id:1"])
def test_what_is_gone_for_good_is_1(
    host: SimulatedHost, said: Said, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """It was there, has ended, and nothing took its place. A domid comes not again at once."""
    monkeypatch.setattr(waiting, "_GRACE", 0.0 if key == "web" else 3600.0)
    host.crash(1)
    command = Command(host, "wait", key, "--ready")
    assert command.runs
    host.destroy(1)
    assert command.end() == 1
    assert said() == ("", "domindex: domain 1 (web) is gone, and none took its place\n")


def test_the_time_is_up_is_124(host: SimulatedHost, said: Said) -> None:
    """With a sentence for each way to wait."""
    host.crash(host.create("db"))
    for argv, sentence in (
        (["nobody"], "no domain has 'nobody'"),
        (["nobody", "--stopped"], "no domain has 'nobody'"),
        (["db", "--ready"], "domain 2 (db) is not ready"),
        (["web", "--stopped"], "domain 1 (web) still runs"),
        (["web", "--gone"], "domain 1 (web) has not ended"),
    ):
        assert main(["wait", *argv, "--timeout", "0.01"], host) == 124
        assert said() == ("", f"domindex: the time is up: {sentence}\n")


# -- until it has stopped, or is gone ------------------------------------------------------------


@pytest.mark.parametrize("reason", list(ShutdownReason))
def test_stopped_prints_why(host: SimulatedHost, said: Said, reason: ShutdownReason) -> None:
    """In one word."""
    command = Command(host, "wait", "web", "--stopped")
    assert command.runs
    host.shutdown(1, reason)
    assert command.end() == 0
    assert said() == (f"{reason.name.lower()}\n", "")


def test_stopped_without_a_reason_is_1(host: SimulatedHost, said: Said) -> None:
    """It was destroyed while it ran."""
    command = Command(host, "wait", "web", "--stopped")
    assert command.runs
    host.destroy(1, order="at once")
    assert command.end() == 1
    assert said() == ("", "domindex: domain 1 (web) is gone, and nothing says why it stopped\n")


def test_gone_waits_for_the_end_of_that_life(host: SimulatedHost, said: Said) -> None:
    """A stop is no end, and the next life is another domain. It prints nothing."""
    command = Command(host, "wait", "web", "--gone")
    host.shutdown(1)
    assert command.runs
    host.reboot(1)
    assert command.end() == 0
    assert said() == ("", "")


def test_what_is_not_there_is_gone(host: SimulatedHost, said: Said) -> None:
    """At once; as JSON there is no domain."""
    assert main(["wait", "nobody", "--gone"], host) == 0
    assert main(["wait", "nobody", "--gone", "--json"], host) == 0
    assert json.loads(said()[0]) == {"domain": None}


def test_stopped_as_json(host: SimulatedHost, said: Said) -> None:
    """The record, and why."""
    host.crash(1)
    assert main(["wait", "web", "--stopped", "--json"], host) == 0
    answer = json.loads(said()[0])
    assert (answer["domain"]["domid"], answer["reason"]) == (1, "crash")


# -- when it cannot be told ----------------------------------------------------------------------


def test_a_name_that_cannot_be_read_may_be_the_one(host: SimulatedHost, said: Said) -> None:
    """P5: 3 and not 1 or 124; and `gone` is not told of what may be there."""
    host.refuse_node(1)
    for argv in (["web", "--timeout", "0.01"], ["web", "--gone"]):
        assert main(["wait", *argv], host) == 3
        assert "domindex: cannot tell: " in said()[1]


def test_it_waits_through_a_lost_line(host: SimulatedHost, said: Said) -> None:
    """P9: the index repairs it, and the wait goes on."""
    command = Command(host, "wait", "db")
    host.cut_line()
    assert command.runs
    host.create("db", domid=2)
    assert command.end() == 0
    assert said()[0] == "2\n"


def test_a_host_that_cannot_be_opened_is_3(host: SimulatedHost, said: Said) -> None:
    """Within seconds, though it would wait for ever."""
    host.refuse_hypercalls()
    began = time.monotonic()
    assert main(["wait", "web", "--timeout", "0"], host) == 3
    assert time.monotonic() - began < 30


# -- watch ---------------------------------------------------------------------------------------


class Watching:
    """`domindex watch` with a pipe for its output. It ends when the block does, as nobody reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, host: SimulatedHost, *options: str) -> None:
        reader, writer = os.pipe()
        self._reader, self._writer = open(reader), open(writer, "w")  # noqa: SIM115
        monkeypatch.setattr(sys, "stdout", self._writer)
        self._command = Command(host, "watch", *options)

    def until(self, word: str) -> list[list[str]]:
        """The lines from here to the one that begins with that word, in words."""
        lines = [self._reader.readline().split()]
        while lines[-1][0] != word:
            lines.append(self._reader.readline().split())
        return lines

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        assert self._command.end() == 0
        self._writer.close()


def test_watch_filters_by_name_and_type(
    monkeypatch: pytest.MonkeyPatch, host: SimulatedHost
) -> None:
    """A life that was let in is told to its end, whatever it is called by then."""
    host.create("web-2", type="pvh", domid=2)
    host.create(b"w\xff", type="pvh", domid=3)
    with Watching(monkeypatch, host, "--name", "web*", "--type", "pvh") as watch:
        there = [["Added", "2", "web-2"], ["Ready", "2", "web-2"], ["Synced"]]
        assert watch.until("Synced") == there
        host.rename(2, "other")
        assert watch.until("Renamed") == [["Renamed", "2", "web-2", "->", "other"]]
        host.destroy(2, order="at once")
        assert watch.until("Removed") == [["Removed", "2", "other"]]


def test_watch_takes_a_glob_of_bytes_that_are_no_utf_8(host: SimulatedHost, said: Said) -> None:
    """As the shell passes them."""
    host.create(b"w\xff", domid=3)
    argv = ["watch", "--name", "w\udcff", "--event", "Added", "--seconds", "0"]
    assert main(argv, host) == 0
    assert said() == ("Added         3 w\\udcff\n", "")


def test_watch_follows_only_what_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, host: SimulatedHost
) -> None:
    """Several events, once or twice the option, in any case of letters."""
    events = ("--event", "removed", "ADDED", "--event", "Renamed", "Synced")
    with Watching(monkeypatch, host, "--no-replay", *events) as watch:
        assert watch.until("Synced") == [["Synced"]]
        host.create("db", domid=2)
        assert watch.until("Added") == [["Added", "2", "db"]]
        host.rename(2, "sql")
        assert watch.until("Renamed") == [["Renamed", "2", "db", "->", "sql"]]
        host.destroy(2, order="at once")
        assert watch.until("Removed") == [["Removed", "2", "sql"]]


def test_watch_tells_a_reboot_as_one(monkeypatch: pytest.MonkeyPatch, host: SimulatedHost) -> None:
    """With a grace; an end that is none of a reboot comes when it is over."""
    with Watching(monkeypatch, host, "--no-replay", "--reboot-grace", "30") as watch:
        watch.until("Synced")
        host.reboot(1, order="at once")
        told = [["Rebooted", "2", "web", "(was", "domain", "1)"], ["Ready", "2", "web"]]
        assert watch.until("Ready") == told
    with Watching(monkeypatch, host, "--no-replay", "--reboot-grace", "0.1") as watch:
        watch.until("Synced")
        host.destroy(2, order="at once")
        assert watch.until("Removed") == [["Removed", "2", "web"]]


# -- check ---------------------------------------------------------------------------------------


def test_check_tells_of_names_that_cannot_be_read(host: SimulatedHost, said: Said) -> None:
    """Each by its domid, with what that means; the rest works."""
    host.refuse_node(1)
    assert main(["check"], host) == 1
    out = said()[0]
    assert "name        NO  the name of domain 1 cannot be read: " in out
    assert "index       ok " in out


class RefusesSpecial(Meddler):
    """A host whose xenstored lets nobody watch starts and ends."""

    def open_store(self, timeout: float) -> Store:
        line = super().open_store(timeout)
        watch = line.watch

        def refuse(watches: Sequence[Watch], *, depth: int | None = None) -> object:
            if watches and watches[0].path.startswith(b"@"):
                return [StoreError("xenstored refuses WATCH", errno.EACCES) for _ in watches]
            return watch(watches, depth=depth)

        line.watch = refuse  # type: ignore[method-assign, assignment]
        return line


def test_check_tells_of_a_host_that_sends_no_events(host: SimulatedHost, said: Said) -> None:
    """How late starts and ends are found, and what to do."""
    assert main(["check"], RefusesSpecial(host)) == 1
    out = said()[0]
    assert "events      NO  xenstored does not tell this process when domains start" in out
    assert "every 5 s" in out
    assert main(["check", "--json"], RefusesSpecial(host)) == 1
    rows = {row["what"]: row["works"] for row in json.loads(said()[0])}
    assert rows == {"hypervisor": True, "xenstore": True, "index": True, "events": False}


@pytest.mark.parametrize("new", [False, True])
def test_check_tells_what_the_host_offers(said: Said, new: bool) -> None:
    """Unique ids and watch depth, as much where they are missing."""
    host = SimulatedHost(unique_ids=new, watch_depth=new)
    assert main(["check"], host) == 0
    out = said()[0]
    assert ("no unique ids" in out, "no watch depth" in out) == (not new, not new)
    assert "unique ids" in out
    assert "watch depth" in out
