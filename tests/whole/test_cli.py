"""The command line: what it prints, what it exits with, and that it never shows a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import pytest

from domindex.cli import main
from domindex.errors import StoreLost
from domindex.ports import Hypervisor, Store
from domindex.testing import SimulatedHost
from tests.whole.helpers import Meddler, eventually

U = UUID("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9")


@pytest.fixture
def host() -> SimulatedHost:
    """One host with the names that matter for printing."""
    host = SimulatedHost()
    host.create("web", uuid=U, type="pvh", domid=1)
    host.create("twin", domid=2)
    host.create("twin", domid=3)
    host.create("42", domid=4)
    host.create(b"\x1b[2J\xff\n\xe2\x80\xae", domid=5)
    host.create(None, domid=6)
    host.crash(1)
    return host


Run = tuple[int, str, str]


@pytest.fixture
def cli(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run one command on that host: exit status, what it printed, what it complained of."""

    def run(*argv: str) -> Run:
        status = main(argv, host)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return status, out, err

    return run


# -- list and get ----------------------------------------------------------------------------


def test_list_prints_a_line_for_each(cli: Any) -> None:
    """In domid order, below a head, names last."""
    status, out, err = cli("list")
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert lines[0].split() == ["DOMID", "TYPE", "STATE", "UUID", "NAME"]
    assert [int(line.split()[0]) for line in lines[1:]] == [0, 1, 2, 3, 4, 5, 6]
    assert lines[2].split() == ["1", "pvh", "crash", str(U), "web"]
    assert lines[7].endswith("(null)")


def test_names_are_escaped(cli: Any) -> None:
    """P12: a name steers no terminal and adds no line."""
    for argv in (["list"], ["get", "--id", "5"]):
        _, out, _ = cli(*argv)
        assert r"\x1b[2J\udcff\n\u202e" in out
        assert "\x1b" not in out
        assert "\u202e" not in out


def test_list_as_json_is_a_list_of_domains(cli: Any) -> None:
    """Everything that is known, in plain ASCII."""
    status, out, _ = cli("list", "--json")
    assert status == 0
    assert out.isascii()
    domains = json.loads(out)
    assert [domain["domid"] for domain in domains] == [0, 1, 2, 3, 4, 5, 6]
    assert domains[1]["name"] == "web"
    assert domains[1]["uuid"] == str(U)
    assert domains[1]["type"] == "pvh"
    assert domains[1]["shutdown"] == "crash"
    assert domains[5]["name"].encode("utf-8", "surrogateescape") == b"\x1b[2J\xff\n\xe2\x80\xae"
    assert domains[5]["name_hex"] == b"\x1b[2J\xff\n\xe2\x80\xae".hex()
    assert domains[6]["name"] is None
    assert [domain["name_hex"] for domain in domains if domain["domid"] != 5] == [None] * 6


@pytest.mark.parametrize(
    ("argv", "domid"),
    [
        (["web"], 1),
        (["42"], 4),
        (["--id", "4"], 4),
        (["--id", "0"], 0),
        (["--uuid", str(U)], 1),
        (["--uuid", str(U).upper()], 1),
        (["--uuid", U.hex], 1),
        (["1"], 1),
        (["id:1"], 1),
        (["name:42"], 4),
        ([f"uuid:{U}"], 1),
        ([str(U).upper()], 1),
    ],
)
def test_get_finds_by_each_key(cli: Any, argv: Sequence[str], domid: int) -> None:
    """Digits are a name; the uuid may be spelt in any way."""
    status, out, err = cli("get", *argv)
    assert (status, err) == (0, "")
    assert int(out.splitlines()[1].split()[0]) == domid
    status, out, _ = cli("get", "--json", *argv)
    assert status == 0
    assert json.loads(out)["domid"] == domid


def test_get_takes_the_bytes_that_were_typed(cli: Any) -> None:
    """Whatever the locale made of them."""
    typed = os.fsdecode(b"\x1b[2J\xff\n\xe2\x80\xae")
    assert cli("get", typed)[0] == 0


@pytest.mark.parametrize("command", ["get", "domid", "uuid", "name"])
@pytest.mark.parametrize("key", ["nobody", "id:99", f"uuid:{UUID(int=0)}", "name:4", ""])
def test_no_such_domain_is_1(cli: Any, command: str, key: str) -> None:
    """With one line that says why, on stderr."""
    status, out, err = cli(command, key)
    assert (status, out) == (1, "")
    assert err.startswith("domindex: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["get", "domid", "uuid", "name", "wait"])
def test_an_ambiguous_key_names_the_candidates(cli: Any, command: str) -> None:
    """With status 1, and each in a form that can be given instead."""
    status, out, err = cli(command, "twin")
    assert (status, out) == (1, "")
    first, *candidates = err.splitlines()
    assert first == "domindex: 'twin' may be any of 2 domains; give one as id:DOMID"
    for domid, line in zip((2, 3), candidates, strict=True):
        key, uuid, name = line.split()
        assert (key, name) == (f"id:{domid}", "twin")
        for form in (key, uuid):
            assert cli("domid", form) == (0, f"{domid}\n", "")


def test_digits_that_are_a_name_and_a_domid_are_ambiguous(cli: Any, host: SimulatedHost) -> None:
    """Domain 42 is not the one that is called 42; what is meant can be said."""
    host.create("other", domid=42)
    status, out, err = cli("domid", "42")
    assert (status, out) == (1, "")
    assert "id:4 " in err
    assert "id:42 " in err
    assert cli("domid", "id:42") == (0, "42\n", "")
    assert cli("domid", "name:42") == (0, "4\n", "")


@pytest.mark.parametrize(
    "argv",
    [
        ["nonsense"],
        ["lis"],
        ["list", "--js"],
        ["list", "-o", "yaml"],
        ["list", "-o", "table", "--json"],
        ["list", "-0", "--json"],
        ["list", "-0", "-o", "wide"],
        ["list", "--type", "xen"],
        ["domid"],
        ["domid", "id:web"],
        ["uuid", "uuid:web"],
        ["name", "-0", "--json", "1"],
        ["watch", "--event"],
        ["watch", "--event", "Rebooted"],
        ["watch", "--reboot-grace", "-1"],
        ["wait"],
        ["wait", "web", "--ready", "--gone"],
        ["wait", "web", "--timeout", "soon"],
        ["get"],
        ["get", "--id", "x"],
        ["get", "--id", "99999"],
        ["get", "--id", "-1"],
        ["get", "--uuid", "x"],
        ["get", "web", "--id", "1"],
        ["list", "extra"],
        ["watch", "--seconds", "soon"],
        ["list", "--transport", "pigeon"],
    ],
)
def test_wrong_use_is_2(cli: Any, argv: Sequence[str]) -> None:
    """Said on stderr, by argparse or by the library."""
    status, out, err = cli(*argv)
    assert (status, out) == (2, "")
    assert err


@pytest.mark.parametrize(
    "argv", [[], ["--simulated"], ["--help"], ["list", "--help"], ["watch", "-h"]]
)
def test_help_is_0(cli: Any, argv: Sequence[str]) -> None:
    """And says what the exit status means."""
    status, out, err = cli(*argv)
    assert (status, err) == (0, "")
    assert "usage:" in out


def test_the_simulated_host_is_for_trying_out(capsys: pytest.CaptureFixture[str]) -> None:
    """No Xen needed."""
    assert main(["get", "windows", "--simulated"]) == 0
    assert "hvm" in capsys.readouterr().out


# -- watch -----------------------------------------------------------------------------------


def test_watch_prints_what_is_there_and_ends_in_time(cli: Any) -> None:
    """One line for each domain, escaped."""
    status, out, err = cli("watch", "--seconds", "0.2")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 14
    assert lines[12].split() == ["DuplicateName", "-", "twin", "(domains", "2,", "3)"]
    assert lines[13] == "Synced"
    assert lines[2].split() == ["Added", "1", "web", "(crash)"]
    assert [line.split() for line in lines[9:11]] == [
        [word, "5", r"\x1b[2J\udcff\n\u202e"] for word in ("Added", "Ready")
    ]


def test_watch_prints_what_happens(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    """Each kind of event, as text and as JSON."""
    meddler = Meddler(host)

    def happen() -> None:
        settle()
        happenings: list[Callable[[], None]] = [
            lambda: host.rename(2, "other\n"),
            lambda: host.crash(2),
            lambda: host.destroy(2, order="at once"),
            host.cut_line,
        ]
        for what in happenings:
            what()
            settle()

    def settle() -> None:
        def settled() -> bool:
            waits = [line.waiting for line in meddler.lines[-1:]]
            return waits == [True] and not meddler.pending() and meddler.lines[-1].waiting

        eventually(settled)

    def watch(*options: str) -> list[str]:
        thread = threading.Timer(0.1, happen)
        thread.start()
        assert main(["watch", "--seconds", "1", *options], meddler) == 0
        thread.join()
        return capsys.readouterr().out.splitlines()

    text = watch()
    assert [line.split()[0] for line in text[14:]] == [
        *("Renamed", "ShutDown", "Removed", "Lost", "Recovered")
    ]
    assert text[14].split()[1:] == ["2", "twin", "->", r"other\n"]
    assert text[16].split()[1:] == ["2", r"other\n", "(crash)"]
    host.create("twin", domid=2)
    told = [json.loads(line) for line in watch("--json")]
    assert [event["event"] for event in told[14:]] == [
        *("Renamed", "ShutDown", "Removed", "Lost", "Recovered")
    ]
    assert told[14]["old"]["name"] == "twin"
    assert told[14]["new"]["name"] == "other\n"
    assert told[15]["domain"]["shutdown"] == "crash"
    assert "cut" in told[17]["cause"]
    assert told[18]["downtime"] > 0
    assert all(event["generation"] and event["time"] for event in told)


def test_watch_for_no_time_prints_what_is_there(cli: Any) -> None:
    """And ends at once."""
    status, out, err = cli("watch", "--seconds", "0")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "Synced"


@pytest.mark.parametrize("seconds", ["nan", "-1", "soon"])
def test_watch_refuses_what_is_no_time(cli: Any, seconds: str) -> None:
    """Wrong use, and said so."""
    assert cli("watch", "--seconds", seconds)[0] == 2


@pytest.mark.parametrize("seconds", ["inf", "1e12"])
def test_watch_takes_any_number_of_seconds(seconds: str) -> None:
    """For ever is no reason for a traceback."""
    done = domindex("watch", "--simulated", "--seconds", seconds, lines=4)
    assert "Traceback" not in done.stderr


# -- check -----------------------------------------------------------------------------------


def test_check_says_that_all_works(cli: Any) -> None:
    """Four findings, all of them good."""
    status, out, err = cli("check")
    assert (status, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["hypervisor", "ok"],
        ["xenstore", "ok"],
        ["index", "ok"],
        ["events", "ok"],
    ]
    assert "live with 7 domains" in out
    status, out, _ = cli("check", "--json")
    assert status == 0
    assert [row["works"] for row in json.loads(out)] == [True] * 4


def test_check_says_what_does_not_work(cli: Any, host: SimulatedHost) -> None:
    """Each half by itself; the index is not tried then."""
    host.stop_xenstored()
    status, out, _ = cli("check")
    assert status == 1
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["hypervisor", "ok"],
        ["xenstore", "NO"],
    ]
    host.refuse_hypercalls()
    status, out, _ = cli("check", "--json")
    assert status == 1
    rows = json.loads(out)
    assert [row["works"] for row in rows] == [False, False]
    assert all(row["detail"] for row in rows)


# -- when the host cannot be asked -----------------------------------------------------------


@pytest.mark.parametrize("argv", [["list"], ["get", "web"], ["watch", "--seconds", "1"]])
@pytest.mark.parametrize("fault", ["stop_xenstored", "refuse_hypercalls"])
def test_a_host_that_cannot_be_asked_is_3(
    cli: Any, host: SimulatedHost, argv: Sequence[str], fault: str
) -> None:
    """Why, in one line on stderr."""
    getattr(host, fault)()
    status, out, err = cli(*argv)
    assert (status, out) == (3, "")
    assert err.startswith("domindex: ")
    assert err.count("\n") == 1


def test_an_interrupt_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    """As of any program that Ctrl-C ended."""

    class Interrupts:
        def open_hypervisor(self) -> Hypervisor:
            raise KeyboardInterrupt

        def open_store(self, timeout: float) -> Store:
            raise StoreLost("not reached")

    assert main(["list"], Interrupts()) == 130
    assert capsys.readouterr().err == ""


def test_what_a_host_says_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """P12: errors may carry bytes that came from it."""

    class Evil:
        def open_hypervisor(self) -> Hypervisor:
            raise StoreLost("xenstored refuses: \x1b[2J\n\u202e")

        def open_store(self, timeout: float) -> Store:
            raise StoreLost("\x1b[2J")

    assert main(["list"], Evil()) == 3
    assert main(["check"], Evil()) == 1
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "\u202e" not in out + err


def domindex(*argv: str, lines: int | None = None, **environment: str) -> Any:
    """Run it as a process; with `lines`, read that many of stdout and hang up."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "domindex", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    if lines is None:
        out, err = process.communicate(timeout=30)
        return subprocess.CompletedProcess(argv, process.returncode, out, err)
    read = [process.stdout.readline() for _ in range(lines)]
    process.stdout.close()
    try:
        status = process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        process.terminate()
        status = process.wait(timeout=30)
    err = process.stderr.read()
    process.stderr.close()
    return subprocess.CompletedProcess(argv, status, "".join(read), err)


@pytest.mark.skipif(os.path.exists("/proc/xen/capabilities"), reason="this is a Xen host")
@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["list"], 3),
        (["list", "--json"], 3),
        (["get", "web"], 3),
        (["get", "--uuid", str(U), "--json"], 3),
        (["watch", "--seconds", "1"], 3),
        (["check"], 1),
        (["check", "--json"], 1),
        (["list", "--transport", "xenbus"], 3),
        (["check", "--transport", "socket"], 1),
    ],
)
def test_without_xen_it_says_so(argv: Sequence[str], status: int) -> None:
    """On a machine that is no Xen host: the exit status, a reason, no traceback."""
    done = domindex(*argv)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr or argv[0] == "check"
    if argv[:2] == ["check", "--json"]:
        assert [row["works"] for row in json.loads(done.stdout)] == [False, False]


@pytest.mark.parametrize("command", [["list"], ["watch", "--seconds", "5"]])
def test_a_reader_that_hangs_up_is_no_error(command: Sequence[str]) -> None:
    """`domindex watch | head -1`: no traceback, no complaint."""
    done = domindex(*command, "--simulated", lines=1)
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


def test_a_closed_pipe_is_noticed_at_the_first_word() -> None:
    """The reader was never there."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "domindex", "list", "--simulated"],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            timeout=30,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_an_output_that_takes_nothing_gives_no_traceback(redirection: str) -> None:
    """A full disk, and no stdout at all."""
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -m domindex list --simulated {redirection}'],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=30,
        check=False,
    )
    assert "Traceback" not in done.stderr


def test_a_terminal_that_knows_only_ascii_gets_ascii() -> None:
    """An old locale is no reason for a traceback: names of any script can be listed."""
    code = (
        "import sys; from domindex.cli import main; from domindex.testing import SimulatedHost\n"
        "host = SimulatedHost(); host.create('w\\u00e9b'); sys.exit(main(['list'], host))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONIOENCODING": "ascii",
        },
        timeout=30,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("name", "shown"), [("a\nb", r"'a\nb'"), ("a\\b", r"'a\\b'"), ("\x1b[2J", r"'\x1b[2J'")]
)
def test_a_name_in_an_error_is_escaped_once(cli: Any, name: str, shown: str) -> None:
    """P12: safe for a terminal, and as it would be typed in Python."""
    status, _, err = cli("get", name)
    assert status == 1
    assert err == f"domindex: no running domain has name {shown}\n"


def test_a_name_with_a_nul_in_it_is_not_taken_for_two(
    host: SimulatedHost, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """The others are printed, and what is left out is said, with status 1."""
    host.create(b"web\0other", domid=9)
    assert main(["list", "-0", "--name", "web*"], host) == 1
    assert main(["name", "-0", "id:9"], host) == 1
    assert main(["name", "id:9"], host) == 1
    out, err = capfdbinary.readouterr()
    assert out == b"web\0"
    for line, part in zip(err.splitlines(), (b"name: 9; ", *[rb"web\x00other; "] * 2), strict=True):
        assert line.endswith(part + b"use --json")


def test_a_name_with_a_nul_at_its_end_is_found(cli: Any, host: SimulatedHost) -> None:
    """G: by whoever types what is to be seen of it."""
    domid = host.create(b"old\0")
    assert str(domid) in cli("get", "old")[1]
