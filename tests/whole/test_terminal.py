"""Every command and option in a real terminal and through a pipe, with its exit status."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Final
from uuid import UUID

import pytest

from domindex import __version__
from domindex.cli import main
from domindex.cli.parser import build_parser
from tests.terminal import InTerminal, Ran, environment, in_both, in_pipe
from tests.whole.helpers import eventually
from tests.whole.hostile import NAMES, hostile

HOSTILE: Final = (sys.executable, "-W", "error", "-m", "tests.whole.hostile")
WEB: Final = "68c698b5-db26-5d99-b26f-a0d1b951e3e8"
"""The uuid of web on the host of --simulated."""

HERE: Final = os.path.exists("/proc/xen/capabilities")

CASES: Final[list[tuple[str, int, str]]] = [
    ("", 0, "usage: domindex .*exit status:.*examples:"),
    ("--help", 0, "usage: domindex "),
    ("-h", 0, "usage: domindex "),
    ("--version", 0, rf"domindex {re.escape(__version__)}\n$"),
    ("list --simulated", 0, r" *DOMID TYPE.*NAME\n.*\n +1 pvh +up +\S+ web\n"),
    ("--simulated list", 0, r" 1 pvh .* web\n"),
    ("list --simulated --no-header", 0, r"^ +0 pv .* Domain-0\n"),
    ("list --simulated -o table", 0, "^DOMID TYPE|^ +DOMID"),
    ("list --simulated --output wide", 0, r"MEM\(MiB\).*\n +1 pvh +-b---- +1024 +2 +0\.0 \S+ web"),
    ("list --simulated -o wide --no-header", 0, r"^ +0 pv +-b----"),
    ("list --simulated -o name", 0, "^Domain-0\nweb\ndb\nrouter\nwindows\n$"),
    ("list --simulated -0", 0, "^Domain-0\0web\0db\0router\0windows\0$"),
    ("list --simulated --null", 0, "^Domain-0\0web\0"),
    ("list --simulated -o json", 0, r'^\[\n.*"name": "web"'),
    ("list --simulated --json", 0, r'^\[\n.*"name_hex": null'),
    ("--json --simulated list", 0, r"^\[\n"),
    ("list --simulated -o name --name w*", 0, "^web\nwindows\n$"),
    ("list --simulated -o name --type pv", 0, "^Domain-0\nrouter\n$"),
    ("list --simulated -o name --type hvm --name x*", 0, "^$"),
    ("list -h", 0, "usage: domindex list"),
    ("get web --simulated", 0, rf" 1 pvh +up +{WEB} web\n$"),
    ("get id:1 --simulated --json", 0, r'^\{\n.*"domid": 1,'),
    ("get --id 1 --simulated", 0, " web\n$"),
    (f"get --uuid {WEB} --simulated", 0, " web\n$"),
    ("get nobody --simulated", 1, "^domindex: no running domain has name 'nobody'\n$"),
    ("get --help", 0, "usage: domindex get"),
    ("domid web --simulated", 0, "^1\n$"),
    ("domid 2 --simulated", 0, "^2\n$"),
    ("domid name:2 --simulated", 1, "^domindex: no running domain has name '2'\n$"),
    (f"domid {WEB.upper()} --simulated", 0, "^1\n$"),
    ("domid web --simulated --json", 0, "^1\n$"),
    ("domid --help", 0, "usage: domindex domid"),
    ("uuid web --simulated", 0, f"^{WEB}\n$"),
    ("uuid web --simulated --json", 0, f'^"{WEB}"\n$'),
    ("uuid --help", 0, "usage: domindex uuid"),
    ("name 1 --simulated", 0, "^web\n$"),
    ("name 1 --simulated -0", 0, "^web\0$"),
    ("name 1 --simulated --null", 0, "^web\0$"),
    ("name 1 --simulated --json", 0, '^"web"\n$'),
    ("name --help", 0, "usage: domindex name"),
    ("wait web --simulated", 0, "^1\n$"),
    ("wait web --simulated --ready --json", 0, r'^\{\n  "domid": 1,'),
    ("wait job --simulated --stopped", 0, "^poweroff\n$"),
    ("wait job --simulated --gone", 0, "^$"),
    ("wait job --simulated --ready --timeout 30", 0, "^5\n$"),
    ("wait nobody --simulated --timeout 0", 124, "^domindex: the time is up: "),
    ("wait router --simulated --gone --timeout 0.1", 124, "^domindex: the time is up: "),
    ("wait web --simulated --timeout soon", 2, "'soon' is not a number of seconds from 0\n$"),
    ("wait --help", 0, "usage: domindex wait"),
    ("watch --simulated --seconds 0", 0, "^Added         0 Domain-0\n"),
    ("watch --simulated --seconds 0 --name w* --type pvh", 0, "^Added +1 web\nReady +1 web\nSy"),
    ("watch --simulated --seconds 0 --event added", 0, "^(Added .*\n){5}$"),
    ("watch --simulated --seconds 0 --event Synced --json", 0, r'^\{"event": "Synced",.*\}\n$'),
    ("watch --simulated --seconds 0 --no-replay", 0, "^Synced\n$"),
    (
        "watch --simulated --seconds 3.2 --no-replay --event Rebooted --reboot-grace 5",
        0,
        r"^Rebooted +6 web \(was domain 1\)\n$",
    ),
    (
        "watch --simulated --seconds 0 --timestamps",
        0,
        r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d Added +0 Domain-0\n",
    ),
    ("watch --event Nothing", 2, "no event is called 'Nothing'; there are Added, Ready,"),
    ("watch --help", 0, "usage: domindex watch"),
    (
        "check --simulated",
        0,
        "^hypervisor  ok  .*\nxenstore    ok  .*\nindex       ok  live with 5",
    ),
    ("check --simulated --json", 0, r'^\[\n  \{\n    "what": "hypervisor",\n    "works": true'),
    ("check --help", 0, "usage: domindex check"),
    ("frobnicate", 2, "invalid choice: 'frobnicate'"),
    ("list --simulated extra", 2, "unrecognized arguments: extra\n$"),
    ("list --sim", 2, "unrecognized arguments: --sim\n$"),
    *(
        [
            ("list --transport socket", 3, "^domindex: "),
            ("--transport xenbus list", 3, "^domindex: "),
            ("domid web", 3, "^domindex: "),
            ("wait web", 3, "^domindex: "),
            ("watch", 3, "^domindex: "),
            ("check", 1, "^hypervisor  NO "),
        ]
        if not HERE
        else []
    ),
]
"""What is typed, the exit status, and a pattern of what is printed."""


@pytest.mark.parametrize(("typed", "status", "pattern"), CASES, ids=[case[0] for case in CASES])
def test_in_a_terminal_and_in_a_pipe(typed: str, status: int, pattern: str) -> None:
    """The same status, and the same text where no name has to be escaped."""
    terminal, piped = in_both(*typed.split())
    said = piped.out + piped.err
    assert terminal.status == piped.status == status, said
    assert b"Traceback" not in said
    assert not (piped.out and piped.err)
    assert bool(piped.err) == (status not in (0, 1) or said.startswith(b"domindex:"))
    for text in (said.decode(), terminal.out.decode()):
        assert re.search(pattern, text, re.DOTALL), text
    if {"--json", "json"} & set(typed.split()) and "watch" not in typed:
        json.loads(said)
    elif "watch" not in typed:
        assert terminal.out == said


def test_every_command_and_option_is_among_the_cases() -> None:
    """One that is added has to be tried."""
    parser = build_parser()
    (commands,) = [action for action in parser._actions if action.nargs == "A..."]
    assert isinstance(commands.choices, dict)
    tried = [case[0].split() for case in CASES]
    of_a_fleet = ("publish", "fleet")  # tests/fleet tries these
    for name in commands.choices.keys() - set(of_a_fleet):
        command = commands.choices[name]
        own = [words for words in tried if name in words]
        assert own, name
        shared = set(parser._option_string_actions) & set(command._option_string_actions)
        for option in set(command._option_string_actions) - shared:
            assert any(option in words for words in own), f"{name} {option}"
        assert any({"-h", "--help"} & set(words) for words in own), name
        assert any("--json" in words for words in own), name
    for option in parser._option_string_actions:
        assert any(option in words for words in tried), option


# -- names that are made to do harm --------------------------------------------------------------

COMMANDS: Final = [
    *("list", "list -o wide", "list -o name", "list --json", "check"),
    *("watch --seconds 0", "watch --seconds 0 --json", "get id:8", "name id:8", "name id:10"),
]


@pytest.mark.parametrize("typed", COMMANDS)
def test_no_name_controls_a_terminal(typed: str) -> None:
    """P12: in a terminal and, as others may show it, in a pipe too."""
    for ran in in_both(*typed.split(), program=HOSTILE):
        for bad in (b"\x1b", b"\x07", "\u202e".encode(), b"\xe9", b"line\nbreak"):
            assert bad not in ran.out + ran.err, typed


def test_names_are_raw_only_on_request_and_in_a_pipe() -> None:
    """-0 gives each byte, but a terminal gets them escaped."""
    terminal, piped = in_both("list", "-0", program=HOSTILE)
    assert piped.out == b"".join(name + b"\0" for name in (b"Domain-0", *NAMES))
    assert b"\x1b" not in terminal.out
    assert rb"\x1b]0;owned\x07" in terminal.out
    terminal, piped = in_both("name", "-0", "id:8", program=HOSTILE)
    assert piped.out == NAMES[7] + b"\0"
    assert b"\x1b" not in terminal.out


@pytest.mark.parametrize("domid", range(1, len(NAMES) + 1))
def test_each_name_that_is_printed_leads_back_to_its_domain(
    capfdbinary: pytest.CaptureFixture[bytes], domid: int
) -> None:
    """As in `domindex domid "name:$(domindex name id:N)"`; or it is refused."""
    name, host = NAMES[domid - 1], hostile()
    status = main(["name", f"id:{domid}"], host)
    out, err = capfdbinary.readouterr()
    if os.fsdecode(name).isprintable():
        assert (status, out, err) == (0, name + b"\n", b"")
    else:
        assert (status, out) == (1, b"")
        assert b"use -0" in err
    assert main(["domid", os.fsdecode(b"name:" + name)], host) == 0
    assert capfdbinary.readouterr().out == b"%d\n" % domid


def test_a_domain_without_a_name_has_none_to_print() -> None:
    """Status 1, and not the word (null), which may be a name."""
    for ran in in_both("name", f"id:{len(NAMES) + 1}", program=HOSTILE):
        assert (ran.status, b"has no name" in ran.out + ran.err) == (1, True)


def test_a_wrong_argument_controls_no_terminal_either() -> None:
    """What a script passes on may be a name."""
    for argv in (["domid", "web", "\x1b[2J"], ["domid", "id:\x1b[2J"], ["\x1b[2J"]):
        for ran in in_both(*argv):
            assert ran.status == 2
            assert b"\x1b" not in ran.out + ran.err


def test_json_has_the_bytes_of_a_name_that_is_not_utf_8() -> None:
    """Only of that: the others are in `name` as they are."""
    domains = json.loads(in_pipe("list", "--json", program=HOSTILE).out)
    for domain, name in zip(domains[1:], NAMES, strict=False):
        if name == b"caf\xe9":
            assert bytes.fromhex(domain["name_hex"]) == name
        else:
            assert (domain["name"].encode(), domain["name_hex"]) == (name, None)
        assert domain["uuid"] == str(UUID(int=domain["domid"]))


# -- how it ends ---------------------------------------------------------------------------------


def test_ctrl_c_ends_a_watch() -> None:
    """Pressed in the terminal: 130, and nothing more is printed."""
    with InTerminal("watch", program=HOSTILE) as terminal:
        terminal.until(b"Synced\n")
        terminal.press(b"\x03")
        ran = terminal.end()
    assert ran.status == 130
    assert ran.out.endswith(b"Synced\n")


def test_ctrl_c_ends_a_wait() -> None:
    """The same, though no event comes."""
    with InTerminal("wait", "nobody", program=HOSTILE) as terminal:
        threads = f"/proc/{terminal.pid}/task"
        eventually(lambda: len(os.listdir(threads)) > 1, 30)  # it follows the host
        terminal.press(b"\x03")
        assert terminal.end() == Ran(130, b"")


@pytest.fixture
def watching() -> Iterator[subprocess.Popen[bytes]]:
    """A watch whose output is a pipe. It has printed what is there; nothing more will happen."""
    process = subprocess.Popen(
        [*HOSTILE, "watch"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert process.stdout is not None
    assert process.stderr is not None
    while process.stdout.readline() not in (b"Synced\n", b""):
        pass  # each line comes when it is printed, not when a buffer is full
    yield process
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()


def test_a_watch_ends_at_once_when_nobody_reads_on(watching: subprocess.Popen[bytes]) -> None:
    """Though nothing happens on the host: 0, and silently."""
    assert watching.poll() is None
    assert watching.stdout is not None
    assert watching.stderr is not None
    watching.stdout.close()
    assert watching.wait(timeout=30) == 0
    assert watching.stderr.read() == b""


def test_sigterm_ends_a_watch_silently(watching: subprocess.Popen[bytes]) -> None:
    """By that signal, as a service manager expects."""
    assert watching.stderr is not None
    watching.terminate()
    assert watching.wait(timeout=30) == -signal.SIGTERM
    assert watching.stderr.read() == b""


def in_shell(line: str) -> Ran:
    """Run a line in which `domindex` is the program on the hostile host."""
    program = " ".join(map(shlex.quote, HOSTILE))
    return in_pipe("-c", f'domindex() {{ {program} "$@"; }}; {line}', program=("bash",))


@pytest.mark.parametrize("typed", ["list", "list --json", "list -0", "watch"])
def test_head_gets_its_lines_and_no_complaint(typed: str) -> None:
    """As everybody types it."""
    ran = in_shell(f"set -o pipefail; domindex {typed} | head -c 2")
    assert (ran.status, len(ran.out), ran.err) == (0, 2, b"")


@pytest.mark.parametrize("output", ["/dev/full", "&-"])
@pytest.mark.parametrize("typed", ["list", "list -0", "name 1", "watch", "wait 1", "--help"])
def test_an_output_that_takes_nothing_is_an_error(typed: str, output: str) -> None:
    """A full disk and a closed descriptor: 3, and one line that says why."""
    ran = in_shell(f"domindex {typed} >{output}")
    assert (ran.status, ran.out) == (3, b"")
    assert re.fullmatch(rb"domindex: the output cannot be written: .*\n", ran.err)


@pytest.mark.parametrize("errors", ["/dev/full", "&-"])
@pytest.mark.parametrize(("typed", "status"), [("domid nobody", 1), ("frobnicate", 2)])
def test_a_complaint_that_nobody_takes_changes_no_status(
    typed: str, status: int, errors: str
) -> None:
    """And it does not end up in the output."""
    assert in_shell(f"domindex {typed} 2>{errors}") == Ran(status, b"", b"")


def test_xargs_takes_every_name() -> None:
    """The recipe of the documents, with the names that spoil others."""
    ran = in_shell("domindex list -0 | xargs -0 -I {} " + shlex.join(HOSTILE) + " domid name:{}")
    assert ran.out.split() == [b"%d" % domid for domid in range(len(NAMES) + 1)]
