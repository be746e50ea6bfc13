"""The commands of a fleet: what they print, and with which status they end."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest

from domindex.cli import main
from domindex.cli.fleet import commands, following, opening
from domindex.cli.fleet.following import kind_of
from domindex.cli.parser import build_parser
from domindex.fleet import (
    Fleet,
    FleetEvent,
    HostEvent,
    HostState,
    Publisher,
    connect,
    joining,
    layout,
)
from domindex.fleet.events import InHost
from domindex.fleet.joining import publish
from domindex.fleet.machine import MachineLock, machine_id
from domindex.fleet.memory import MemoryStore
from domindex.index import Index
from domindex.testing import SimulatedHost
from tests.terminal import InTerminal, in_both, in_pipe

URL = "etcd://there:2379"
U = UUID("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9")
Run = tuple[int, str, str]
SHARED = {"--help", "--transport", "--version"}
"""Options of all commands, which tests/whole/test_terminal.py tries."""


class World:
    """Three hosts in one store: xen1 and xen2 are live, xen3 has ended."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.store = MemoryStore()
        self.hosts = {name: SimulatedHost() for name in ("xen1", "xen2", "xen3")}
        self.hosts["xen1"].create("web", uuid=U, type="pvh", domid=1)
        self.hosts["xen1"].create("twin", domid=2)
        self.hosts["xen1"].create(b"\x1b[2J\xff\n", domid=3)
        self.hosts["xen2"].create("twin", domid=7)
        self.hosts["xen2"].create("1", domid=8)
        self.hosts["xen3"].create("old", domid=1)
        self.indexes: dict[str, Index] = {}
        self.publishers = {name: self._publish(stack, name) for name in self.hosts}
        self.publishers["xen3"].close()

    def _publish(self, stack: contextlib.ExitStack, name: str) -> Publisher:
        index = self.indexes[name] = stack.enter_context(self.hosts[name].connect())
        publisher = publish(index, self.store.connect(), host=name, machine=name, lock=False)
        stack.callback(publisher.close)
        publisher.flush()
        return publisher

    def refresh(self, name: str) -> None:
        """Have the store hold what a host has."""
        self.indexes[name].refresh()
        self.publishers[name].flush()

    def reader(self) -> Fleet:
        """A reader of the store."""
        return connect(self.store.connect())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Three hosts; every URL leads to their store."""
    with contextlib.ExitStack() as stack:
        world = World(stack)
        monkeypatch.setattr(opening, "open_engine", lambda url, **_: world.store.connect())
        monkeypatch.setenv("DOMINDEX_FLEET", URL)
        yield world


@pytest.fixture
def cli(world: World, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run one command of that fleet: exit status, what it printed, what it complained of."""

    def run(*argv: str) -> Run:
        status = main(["fleet", *argv])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert "\x1b" not in out + err
        return status, out, err

    return run


# -- list, get, hosts ------------------------------------------------------------------------


def test_list_prints_the_domains_of_all_hosts(cli: Any) -> None:
    """By host and domid, with the state of each host; dom0 is on every host and left out."""
    status, out, err = cli("list")
    head, *lines = out.splitlines()
    assert (status, err) == (0, "")
    assert head.split() == ["HOST", "HOST-IS", "DOMID", "TYPE", "STATE", "UUID", "NAME"]
    assert [(*line.split()[:3], line.split()[-1]) for line in lines] == [
        ("xen1", "live", "1", "web"),
        ("xen1", "live", "2", "twin"),
        ("xen1", "live", "3", r"\x1b[2J\udcff\n"),
        ("xen2", "live", "7", "twin"),
        ("xen2", "live", "8", "1"),
        ("xen3", "lost", "1", "old"),
    ]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--name", "t*"], ["twin", "twin"]),
        (["--type", "pvh"], ["web"]),
        (["--host", "xen3"], ["old"]),
        (["--state", "lost"], ["old"]),
        (["--state", "lost", "--state", "blind"], ["old"]),
        (["--host", "xen2", "--name", "t*"], ["twin"]),
        (["--state", "offline"], []),
    ],
)
def test_list_prints_what_was_asked_for(cli: Any, argv: list[str], expected: list[str]) -> None:
    """As text without a head, and as JSON."""
    status, out, _ = cli("list", "--no-header", *argv)
    assert status == 0
    assert [line.split()[-1] for line in out.splitlines()] == expected
    assert [one["name"] for one in json.loads(cli("list", "--json", *argv)[1])] == expected


@pytest.mark.parametrize(
    "argv",
    [
        ["web"],
        ["name:web"],
        [str(U)],
        [f"uuid:{U}"],
        ["web", "--host", "xen1"],
        ["id:1", "--host", "xen1"],
        ["1", "--host", "xen1"],
        ["web", "--live"],
    ],
)
def test_get_finds_by_each_key(cli: Any, argv: list[str]) -> None:
    """A domid is a key where a host is said."""
    status, out, err = cli("get", *argv)
    assert (status, err) == (0, "")
    assert out.splitlines()[1].split()[:3] == ["xen1", "live", "1"]
    status, out, _ = cli("get", "--json", *argv)
    found = json.loads(out)
    assert (found["host"], found["host_state"], found["domid"]) == ("xen1", "live", 1)
    assert found["uuid"] == str(U)
    assert 0 <= found["age"] < 60


def test_get_of_several_names_them(cli: Any) -> None:
    """With status 1, and each in a form that can be given instead."""
    status, out, err = cli("get", "twin")
    assert (status, out) == (1, "")
    first, *candidates = err.splitlines()
    assert "'twin' may be any of 2 domains" in first
    for line, domid in zip(candidates, ("2", "7"), strict=True):
        argv = shlex.split(line)[:3]
        assert cli("get", *argv)[1].splitlines()[1].split()[2] == domid
    assert cli("get", "twin", "--host", "xen2")[0] == 0


def test_get_takes_the_end_of_a_migration_that_has_arrived(cli: Any, world: World) -> None:
    """Both ends have one uuid; `--settled` takes the one under its final name."""
    world.hosts["xen2"].create("web--incoming", uuid=U, domid=9)
    world.refresh("xen2")
    assert cli("get", str(U))[0] == 1
    status, out, _ = cli("get", str(U), "--settled")
    assert (status, out.splitlines()[1].split()[0]) == (0, "xen1")


def test_get_says_that_it_cannot_tell(cli: Any) -> None:
    """A host that is lost may have it: status 3, and that host is named."""
    for argv in (["nobody"], ["id:2", "--host", "xen3"], [str(UUID(int=5))]):
        status, out, err = cli("get", *argv)
        assert (status, out) == (3, "")
        assert "xen3 (lost)" in err
    status, _, err = cli("get", "old", "--live")
    assert status == 3
    assert "xen3 is lost: its publisher was closed" in err
    assert cli("get", "old")[0] == 0


@pytest.mark.parametrize(
    "argv", [["nobody"], ["id:9", "--host", "xen1"], ["9", "--host", "xen1"], [str(UUID(int=5))]]
)
def test_get_says_that_there_is_none(cli: Any, argv: list[str]) -> None:
    """Once each host can tell, or was declared to be off."""
    assert cli("offline", "xen3") == (0, "", "")
    status, out, err = cli("get", *argv)
    assert (status, out) == (1, "")
    assert err.startswith("domindex: no running domain")


def test_hosts_prints_the_state_of_each(cli: Any) -> None:
    """With the reason, and as JSON with all that is known."""
    status, out, err = cli("hosts")
    assert (status, err) == (0, "")
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        ["xen1", "live", "3"],
        ["xen2", "live", "2"],
        ["xen3", "lost", "1"],
    ]
    assert out.splitlines()[3].endswith("? its publisher was closed")
    (lost,) = json.loads(cli("hosts", "--state", "lost", "--json")[1])
    assert lost == {
        "host": "xen3",
        "state": "lost",
        "reason": "its publisher was closed",
        "domains": 1,
        "generation": lost["generation"],
        "age": None,
        "machine": "xen3",
        "unreadable": [],
    }
    assert cli("hosts", "--host", "xen1", "--no-header")[1].split()[0] == "xen1"


@pytest.mark.parametrize(
    "argv",
    [
        ["list", "--host", "xen9"],
        ["get", "web", "--host", "xen9"],
        ["get", "id:1", "--host", "xen9"],
        ["hosts", "--host", "xen9"],
        ["watch", "--host", "xen9"],
        ["forget", "xen9"],
        ["offline", "xen9"],
    ],
)
def test_no_such_host_is_1(cli: Any, argv: list[str]) -> None:
    """In one sentence."""
    status, out, err = cli(*argv)
    assert (status, out) == (1, "")
    assert "xen9" in err
    assert err.count("\n") == 1


# -- an operator's words ---------------------------------------------------------------------


def test_a_lost_host_is_declared_off_and_forgotten(cli: Any, world: World) -> None:
    """Each is seen by the next reader."""
    assert cli("offline", "xen3", "--reason", "sold\x1b") == (0, "", "")
    assert json.loads(cli("hosts", "--json")[1])[2]["state"] == "offline"
    assert r"sold\x1b" in cli("hosts")[1]
    assert [one["host"] for one in json.loads(cli("list", "--json")[1])] == ["xen1"] * 3 + [
        "xen2"
    ] * 2
    status, out, _ = cli("forget", "xen3", "--json")
    assert (status, json.loads(out)) == (0, {"host": "xen3", "forgotten": True})
    with world.reader() as fleet:
        assert list(fleet.hosts) == ["xen1", "xen2"]


@pytest.mark.parametrize("word", ["forget", "offline"])
def test_a_live_host_is_neither(cli: Any, world: World, word: str) -> None:
    """Its publisher is to be stopped first."""
    status, out, err = cli(word, "xen1")
    assert (status, out) == (1, "")
    assert "host 'xen1' is live" in err
    with world.reader() as fleet:
        assert fleet.hosts["xen1"].state is HostState.LIVE


def test_grant_prints_commands_that_a_shell_can_read(cli: Any) -> None:
    """The prefix has its last slash: xen1 is not xen10."""
    status, out, _ = cli("grant", "xen1", "--user", "a b'c")
    assert status == 0
    typed = [shlex.split(line) for line in out.splitlines()]
    assert {words[0] for words in typed} == {"etcdctl"}
    assert [words[4:] for words in typed if words[2] == "grant-permission"] == [
        ["readwrite", "/domindex/v1/alive/xen1"],
        ["readwrite", "/domindex/v1/host/xen1"],
        ["readwrite", "/domindex/v1/dom/xen1/", "--prefix"],
    ]
    assert typed[-1] == ["etcdctl", "user", "grant-role", "a b'c", "domindex-host-xen1"]
    assert json.loads(cli("grant", "xen1", "--user", "a b'c", "--json")[1]) == out.splitlines()
    assert "read /domindex/v1/ --prefix" in cli("grant", "--reader", "panel")[1]


# -- watch -----------------------------------------------------------------------------------


def test_watch_prints_what_is_there(cli: Any) -> None:
    """Each domain, then the state of its host, then Synced."""
    status, out, err = cli("watch", "--seconds", "0")
    lines = [line.split() for line in out.splitlines()]
    assert (status, err) == (0, "")
    assert lines[0] == ["xen1", "Added", "1", "web"]
    assert ["xen1", "HostLive"] in lines
    assert ["xen3", "HostLost", "-", "its", "publisher", "was", "closed"] in lines
    assert lines[-1] == ["-", "Synced"]
    first = cli("watch", "--seconds", "0", "--timestamps")[1].splitlines()[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\S* +xen1 +Added +1 +web", first)


def test_watch_filters(cli: Any) -> None:
    """By event, host, name and type."""
    for argv, expected in (
        (["--event", "hostlost", "HostLive"], ["HostLive", "HostLive", "HostLost"]),
        (["--event", "Added", "--name", "t*"], ["Added", "Added"]),
        (["--event", "Added", "--host", "xen2", "--host", "xen3"], ["Added"] * 3),
        (["--event", "Added", "--type", "pvh"], ["Added"]),
        (["--no-replay"], ["Synced"]),
    ):
        out = cli("watch", "--seconds", "0", "--json", *argv)[1]
        assert [json.loads(line)["event"] for line in out.splitlines()] == expected


def test_watch_prints_a_reboot_as_one(
    world: World, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a grace, as `domindex watch` does, and with the host."""

    def one_turn(fleet: Fleet, *_: object) -> Iterator[None]:
        world.hosts["xen1"].reboot(1, order="at once")
        world.refresh("xen1")
        fleet.refresh()
        fleet.dispatch()
        yield

    monkeypatch.setattr(following, "turns", one_turn)
    argv = ("--no-replay", "--name", "web", "--reboot-grace", "30")
    out = cli("watch", *argv)[1]
    assert [line.split()[:4] for line in out.splitlines()] == [
        ["-", "Synced"],
        ["xen1", "Rebooted", "4", "web"],
        ["xen1", "Ready", "4", "web"],
    ]


def test_watch_prints_each_kind_of_event(world: World) -> None:
    """As one line and as one object, with the host; nothing of a store controls a terminal."""
    from domindex.cli.fleet.forms import fleet_event_json, fleet_event_line
    from domindex.events import Added
    from domindex.fleet import (
        HostBlind,
        HostForgotten,
        HostOffline,
        HostRenamed,
        HostsCloned,
        Moved,
        Resync,
    )

    with world.reader() as fleet:
        web, old = fleet.by_name("web"), fleet.by_name("old")
    lines: list[tuple[FleetEvent, str]] = [
        (HostEvent("xen1", Added(web.domain), elsewhere=("xen2",)), "xen1 Added 1 web"),
        (Moved(old, web), "xen1 Moved 1 web (from domain 1 of xen3)"),
        (HostBlind("xen1", "no\x1b"), r"xen1 HostBlind - no\x1b"),
        (HostOffline("xen1", ""), "xen1 HostOffline"),
        (HostForgotten("xen1"), "xen1 HostForgotten"),
        (HostRenamed("xen1", "xen5"), "xen5 HostRenamed - was xen1"),
        (HostsCloned(("xen1", "xen2")), "- HostsCloned - xen1, xen2"),
        (Resync((web,), {"xen1": HostState.LIVE}), "- Resync - 1 domains, 1 hosts"),
    ]
    for event, line in lines:
        assert fleet_event_line(event).split() == line.split()
        fields = json.loads(json.dumps(fleet_event_json(event)))
        inner = event.event if isinstance(event, HostEvent) else event
        assert fields["event"] == type(inner).__name__
        assert {"generation", "time"} <= fields.keys()
    assert json.loads(json.dumps(fleet_event_json(lines[0][0])))["elsewhere"] == ["xen2"]


def test_the_words_of_the_parser_are_those_of_the_fleet() -> None:
    """They are written twice, so that the parser need not import the fleet."""
    assert tuple(HostState) == commands.STATES
    kinds = {kind for part in (FleetEvent, InHost) for one in get_args(part) for kind in (one,)} - {
        HostEvent
    }
    flat = {one for kind in kinds for one in (get_args(kind) or (kind,))}
    assert {kind_of(name) for name in commands.EVENTS} == flat
    assert len(commands.EVENTS) == len(flat)


# -- check -----------------------------------------------------------------------------------


def test_check_says_what_is_well_and_what_is_not(cli: Any, world: World) -> None:
    """A host that is silent is a warning, and no failure of the store."""
    status, out, err = cli("check", "--host", "xen1")
    assert (status, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["member", "ok"],
        ["reader", "ok"],
        ["host", "warn"],
        ["rights", "ok"],
        ["rights", "warn"],
    ]
    world.store.put(layout.dom_key("xen1", 5), b"\x1b no JSON")
    found = json.loads(cli("check", "--json")[1])
    assert {one["what"] for one in found if one["how"] == "warn"} == {"host", "values", "rights"}
    assert any(one["detail"] == "xen1: domains 5 cannot be read" for one in found)
    with world.reader() as fleet:
        assert fleet.hosts["xen1"].domains == 3  # it changes nothing


# -- wrong use, and a store that is not there ------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        ["fleet", "nonsense"],
        ["fleet", "get"],
        ["fleet", "get", "id:1"],
        ["fleet", "get", "id:web"],
        ["fleet", "list", "--state", "dead"],
        ["fleet", "list", "--transport", "socket"],
        ["fleet", "watch", "--event", "Nothing"],
        ["fleet", "watch", "--event", "Rebooted"],
        ["fleet", "watch", "--reboot-grace", "-1"],
        ["fleet", "grant"],
        ["fleet", "grant", "XEN1"],
        ["fleet", "grant", "xen1", "--reader", "panel"],
        ["fleet", "grant", "xen1", "--user", "a\nb"],
        ["fleet", "grant", "xen1", "--user", "\x1b[2J"],
        ["fleet", "forget", "a/b"],
        ["fleet", "check", "--host", "a/b"],
        ["fleet", "list", "--timeout", "soon"],
        ["fleet", "list", "--cert", "only.pem"],
        ["publish", "--ttl", "soon", "--simulated"],
        ["publish", "--ttl", "1", "--simulated"],
        ["publish", "--host", "a/b", "--simulated"],
    ],
)
def test_wrong_use_is_2(world: World, capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    """Said on stderr, and nothing else is said."""
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err
    assert "\x1b" not in err


@pytest.mark.parametrize("argv", [["fleet", "list"], ["publish", "--simulated"]])
def test_which_store_must_be_said(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the URL or by the variable; an empty one says nothing."""
    monkeypatch.setenv("DOMINDEX_FLEET", "")
    assert main(argv) == 2
    assert "DOMINDEX_FLEET" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "status"),
    [("http://a", 2), ("etcd://a:0", 2), ("etcd://u:secret@a", 2), ("etcd://127.0.0.1:1", 3)],
)
@pytest.mark.parametrize(
    "argv", [["fleet", "list", "--timeout", "0.3"], ["publish", "--simulated", "--timeout", "0.3"]]
)
def test_a_url_that_leads_nowhere(
    url: str,
    status: int,
    argv: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In a sentence; a password in it is not repeated."""
    monkeypatch.setenv("DOMINDEX_FLEET", url)
    assert main(argv) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("domindex: ")
    assert "secret" not in err


def test_certificates_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is not there is said."""
    monkeypatch.setenv("DOMINDEX_FLEET_CA", "/no/such.pem")
    assert main(["fleet", "list", "--url", "etcd://127.0.0.1:1", "--timeout", "0.3"]) == 3
    assert "/no/such.pem" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one sentence, of which a part is for Debian."""
    for name in [*sys.modules]:
        if name.startswith("domindex.fleet.etcd"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "grpc", None)
    for argv in (["fleet", "hosts", "--url", URL], ["publish", URL, "--simulated"]):
        assert main(argv) == 3
        out, err = capsys.readouterr()
        assert out == ""
        assert "pip install '.[fleet]'" in err
        assert "python3-grpcio" in err


def test_one_process_publishes_a_machine(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A second one ends with 1 and names the lock; a lock that cannot be made is 3."""
    monkeypatch.setattr(joining, "lock_directory", lambda: tmp_path)
    held = MachineLock(machine_id(), tmp_path)
    assert main(["publish", "--host", "xen9"], SimulatedHost()) == 1
    assert str(held.path) in capsys.readouterr().err
    held.close()
    monkeypatch.setattr(joining, "lock_directory", lambda: tmp_path / "file" / "below")
    (tmp_path / "file").write_text("")
    assert main(["publish", "--host", "xen9"], SimulatedHost()) == 3
    assert "this host cannot be published" in capsys.readouterr().err
    with world.reader() as fleet:
        assert "xen9" not in fleet.hosts


def test_the_output_is_written_or_not() -> None:
    """A full disk is told, with 3."""
    shell = f"{shlex.quote(sys.executable)} -m domindex fleet list --simulated > /dev/full"
    piped = in_pipe("-c", shell, program=("sh",))
    assert piped.status == 3
    assert piped.err.startswith(b"domindex: the output cannot be written")


def test_other_commands_import_nothing_of_a_fleet() -> None:
    """Neither does the package, nor the help of the fleet's commands, nor `grant` the engine."""
    code = """
import sys
import domindex, domindex.cli
for argv in (["list", "--simulated"], ["fleet", "--help"], ["publish", "--help"]):
    assert domindex.cli.main(argv) == 0
print(sorted(name for name in sys.modules if name.startswith(("domindex.fleet", "grpc", "aetcd"))))
assert domindex.cli.main(["fleet", "grant", "xen1"]) == 0
print(sorted(name for name in sys.modules if name.startswith(("grpc", "aetcd"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines().count("[]") == 2


# -- as a process ----------------------------------------------------------------------------


def test_every_command_and_option_is_tried() -> None:
    """Here, or on a real etcd: one that is added has to be."""
    files = (Path(__file__), Path(__file__).with_name("test_command_line_etcd.py"))
    tried = " ".join(file.read_text(encoding="utf-8") for file in files)

    def options(parser: argparse.ArgumentParser) -> Iterator[str]:
        for action in parser._actions:
            yield from (option for option in action.option_strings if option.startswith("--"))
            if isinstance(action.choices, dict):
                for name, below in action.choices.items():
                    yield name
                    yield from options(below)

    (of_domindex,) = [action for action in build_parser()._actions if action.nargs == "A..."]
    assert isinstance(of_domindex.choices, dict)
    for name in ("publish", "fleet"):
        words = {name, *options(of_domindex.choices[name])} - SHARED
        assert not [word for word in words if not re.search(rf"[\s\"']{word}\b", tried)]


def test_the_simulated_fleet_in_a_terminal_and_in_a_pipe() -> None:
    """It needs no store, and prints the same in both."""
    terminal, piped = in_both("fleet", "list", "--simulated")
    assert terminal.status == piped.status == 0
    assert terminal.out == piped.out
    assert b"xen3 lost" in piped.out
    assert piped.err == b""


def test_watch_ends_with_ctrl_c_and_when_nobody_reads() -> None:
    """Status 130 for the one; the other is no failure."""
    terminal = InTerminal("fleet", "watch", "--simulated")
    terminal.until(b"Synced")
    terminal.press(b"\x03")
    ended = terminal.end()
    assert ended.status == 130
    assert b"Traceback" not in ended.out
    shell = f"{shlex.quote(sys.executable)} -m domindex fleet watch --simulated | head -1"
    piped = in_pipe("-c", shell, program=("sh",))
    assert (piped.status, piped.err) == (0, b"")
    assert piped.out.split() == [b"xen1", b"Added", b"1", b"web"]
