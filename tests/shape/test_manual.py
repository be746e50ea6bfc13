"""The man page and the completions: made from the parser, the same each time, and they work."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from domindex import __version__
from domindex.cli.parser import EXAMPLES, STATUSES, build_parser

PROJECT = Path(__file__).resolve().parents[2]
PAGE = "share/man/man1/domindex.1"
BASH = "share/bash-completion/completions/domindex"
ZSH = "share/zsh/site-functions/_domindex"
FISH = "share/fish/vendor_completions.d/domindex.fish"


def make(directory: Path, **environment: str) -> dict[str, str]:
    """Run the generator as a packager does. By path the text of each file."""
    done = subprocess.run(
        [sys.executable, "-W", "error", PROJECT / "tools" / "manual.py", directory],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    made = {
        str(path.relative_to(directory)): path.read_text(encoding="utf-8")
        for path in directory.rglob("*")
        if path.is_file()
    }
    assert done.stdout.split() == [str(directory / path) for path in (PAGE, BASH, ZSH, FISH)]
    return made


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files of one build are."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="module")
def made(directory: Path) -> dict[str, str]:
    """The files of one build."""
    return make(directory, SOURCE_DATE_EPOCH="86400", COLUMNS="40")


def words_of_commands() -> Iterator[tuple[str, set[str]]]:
    """Each command of the parser, with its options; None stands for the program."""
    yield from words_below(build_parser(), "")


def words_below(parser: argparse.ArgumentParser, before: str) -> Iterator[tuple[str, set[str]]]:
    """The same below one parser: `fleet` has commands of its own."""
    for commands in [action for action in parser._actions if action.nargs == "A..."]:
        assert isinstance(commands.choices, dict)
        for name, command in commands.choices.items():
            yield before + name, set(command._option_string_actions)
            yield from words_below(command, f"{before}{name} ")


def test_each_build_gives_the_same(made: dict[str, str], tmp_path: Path) -> None:
    """Whatever the terminal is, and in which time zone."""
    again = make(
        tmp_path, SOURCE_DATE_EPOCH="86400", COLUMNS="200", FORCE_COLOR="1", TZ="Asia/Tokyo"
    )
    assert again == made


def test_without_a_date_given_there_is_none(made: dict[str, str], tmp_path: Path) -> None:
    """So that a build tomorrow gives the same as one today."""
    environment = {k: v for k, v in os.environ.items() if k != "SOURCE_DATE_EPOCH"}
    done = subprocess.run(
        [sys.executable, PROJECT / "tools" / "manual.py", tmp_path], env=environment, check=True
    )
    assert done.returncode == 0
    head = f'"domindex {__version__}" "User Commands"'
    assert made[PAGE].splitlines()[0] == f'.TH DOMINDEX "1" "1970\\-01\\-02" {head}'
    assert (tmp_path / PAGE).read_text().splitlines()[0] == f'.TH DOMINDEX "1" "" {head}'


def test_the_man_page_has_all_sections_commands_and_options(made: dict[str, str]) -> None:
    """What the parser has, the page has."""
    page = made[PAGE].replace("\\-", "-")
    sections = [line[4:] for line in page.splitlines() if line.startswith(".SH ")]
    assert sections == [
        *("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO")
    ]
    assert page.index(".SH\nCOMMANDS") < page.index(".SH OPTIONS")
    for command, options in words_of_commands():
        assert f".SS \\fBdomindex {command}\\fR" in page
        for option in options - {"-h", "--help"}:
            assert f"\\fB{option}\\fR" in page, option
    for status, _ in STATUSES:
        assert f".TP\n.B {status}\n" in page
    for example, _ in EXAMPLES:
        assert f".B {example}\n" in page


@pytest.mark.skipif(shutil.which("man") is None, reason="there is no man")
def test_man_has_nothing_to_complain_of(directory: Path, made: dict[str, str]) -> None:
    """And it reads as it was meant: no markup is left over."""
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", directory / PAGE],
        env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    assert "find Xen domains by name, uuid or domid" in text
    assert r"shown as \n or \x1b, and a backslash as \\." in text
    assert r"\f" not in text


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="there is no mandoc")
def test_mandoc_has_little_to_complain_of(directory: Path, made: dict[str, str]) -> None:
    """No error. It warns of the date, which argparse-manpage writes with escaped hyphens."""
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "error", directory / PAGE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""


COMPLETE = """
source "$1"; shift
spec=$(complete -p domindex) && function=${spec#*-F } && function=${function%% *}
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
$function domindex "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
"""What bash does when somebody presses the tabulator."""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["wai"], "wait"),
        (["w"], "wait watch"),
        (["--sim"], "--simulated"),
        (["--simulated", "li"], "list"),
        (["list", "--t"], "--transport --type"),
        (["list", "-o", ""], "table wide name json"),
        (["watch", "--event", "Rec"], "Recovered"),
        (["watch", "--event", "Added", "Rem"], "Removed"),
        (["wait", "--g"], "--gone"),
        (["fl"], "fleet"),
        (["fleet", "h"], "hosts"),
        (["fleet", "get", "--se"], "--settled"),
        (["fleet", "list", "--state", "of"], "offline"),
        (["fleet", "--url", "etcd://a", "w"], "watch"),
    ],
)
def test_bash_completes(
    directory: Path, made: dict[str, str], typed: list[str], offered: str
) -> None:
    """In a real bash."""
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE, "bash", directory / BASH, "domindex", *typed],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == offered.split()


@pytest.mark.parametrize(("shell", "path"), [("bash", BASH), ("zsh", ZSH), ("fish", FISH)])
def test_each_shell_can_read_its_completion(
    directory: Path, made: dict[str, str], shell: str, path: str
) -> None:
    """Where there is that shell."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    done = subprocess.run([shell, "-n", directory / path], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
def test_the_wheel_has_them_all_and_is_the_same_each_time(tmp_path: Path) -> None:
    """Below the prefix into which it is installed."""
    pytest.importorskip("hatchling")
    wheels = []
    for number in range(2):
        there = tmp_path / str(number)
        done = subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", there],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (wheel,) = there.iterdir()
        wheels.append(wheel.read_bytes())
    names = zipfile.ZipFile(wheel).namelist()
    data = {name.partition(".data/data/")[2] for name in names} - {""}
    assert data == {PAGE, BASH, ZSH, FISH}
    assert wheels[0] == wheels[1]


def test_each_command_in_the_documents_is_one() -> None:
    """Every `domindex ...` in the shell blocks can be parsed; so can the examples of the page."""
    page = (PROJECT / "docs" / "command-line.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    lines = [*"".join(blocks).splitlines(), *(command for command, _ in EXAMPLES)]
    typed = [
        shlex.split(found, comments=True)[1:]
        for line in lines
        for found in re.findall(r"\bdomindex (?:--?\w+ )*[a-z][^|)]*?(?=\||\)|$)", line)
    ]
    names = {name for name, _ in words_of_commands() if " " not in name}
    assert {argv[0] for argv in typed} == names - {"check"}
    for argv in typed:
        build_parser().parse_args(argv)  # exits, and so fails, for one that is none


def test_nothing_of_it_is_committed_or_left_behind() -> None:
    """They are made at build: two versions of one thing would differ one day."""
    for name in (PAGE, BASH, ZSH, FISH):
        assert not (PROJECT / name).exists()
