"""What the documents say is what happens: every example in them is run."""

from __future__ import annotations

import doctest
import html
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import domindex
from domindex.cli import main
from domindex.testing import SimulatedHost
from tests.bench.on_hosts import results
from tests.bench.questions import BY_NAME
from tests.shape.pages import BLOCK, DOCS, PAGES, PROJECT, README, read

BLOCKS = BLOCK.findall(README)
MODULES = [
    "domindex",
    *(
        module.name
        for module in pkgutil.walk_packages(domindex.__path__, "domindex.")
        if not module.name.endswith("__main__")
    ),
]


def run_doctest(text: str, name: str, names: dict[str, object] | None = None) -> None:
    """Run the examples of `text`, which are to give what they say. What they name is kept."""
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(verbose=False)
    said: list[str] = []
    test = parser.get_doctest(text, {}, name, name, 0)
    if names is not None:
        test.globs = names  # get_doctest makes a copy
    runner.run(test, out=said.append, clear_globs=False)
    assert not runner.failures, "".join(said)


def run_commands(text: str) -> None:
    """Run what follows each `$ `, in a shell. It is to print what stands below it."""
    bin = Path(sys.executable).parent
    commands = re.findall(r"^\$ (.*)\n((?:[^$\n].*\n)*)", text, re.MULTILINE)
    assert commands
    for command, said in commands:
        done = subprocess.run(
            ["sh", "-c", f"{{ {command}; }} 2>&1"],
            env=os.environ | {"PATH": f"{bin}:{os.environ['PATH']}"},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        checker = doctest.OutputChecker()
        assert checker.check_output(said, done.stdout, doctest.ELLIPSIS), (command, done.stdout)


@pytest.mark.parametrize("page", ["../README.md", *(str(p.relative_to(DOCS)) for p in PAGES)])
def test_each_line_for_a_shell_is_one(page: str) -> None:
    """As far as a shell says that does not run it."""
    text = read(page)
    for kind, block in BLOCK.findall(text):
        if kind == "sh":
            done = subprocess.run(
                ["sh", "-n"], input=block, capture_output=True, text=True, timeout=60, check=False
            )
            assert (done.returncode, done.stderr) == (0, ""), block


def test_the_readme_has_examples() -> None:
    """Each block says in which language it is; those below run all there are."""
    assert [kind for kind, _ in BLOCKS].count("python") >= 2
    assert {kind for kind, _ in BLOCKS} == {"python"}


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_each_block_of_the_readme_runs(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `domindex.connect()` on a simulated host, where a block has no host of its own."""
    _, block = BLOCKS[number]
    if ">>>" in block:
        run_doctest(block, f"README block {number}")
        return
    with SimulatedHost() as host:
        host.create("web")
        monkeypatch.setattr(domindex, "connect", host.connect)
        exec(compile(block, f"README block {number}", "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_page_of_docs_runs(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From its top to its end, as one program. What other programs do today is only compiled.

    `domindex.connect()` opens a simulated host, unless a block has its own.
    """
    names: dict[str, object] = {}
    with SimulatedHost() as host:
        host.create("web")
        monkeypatch.setattr(domindex, "connect", host.connect)
        for kind, block in BLOCK.findall(page.read_text(encoding="utf-8")):
            if kind == "console":
                run_commands(block)
            if kind in ("console", "sh", "text"):
                continue
            assert kind in ("python", "python before")
            if kind == "python" and ">>>" in block:
                run_doctest(block, page.name, names)
                continue
            code = compile(block, page.name, "exec")
            if kind == "python":
                exec(code, names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_the_pages_of_docs_point_to_is_there(page: Path) -> None:
    """Files of this project; each page of the recipes is in their table."""
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:examples|docs|tests|tools)/[\w/.]+)`", text):
        assert (PROJECT / path).exists(), path
    if page.name == "README.md":
        named = set(re.findall(r"\]\((\w+\.md)\)", text))
        assert named == {path.name for path in page.parent.glob("*.md")} - {"README.md"}


@pytest.mark.parametrize("module", MODULES)
def test_each_docstring_example_runs(module: str) -> None:
    """In the modules themselves."""
    assert not doctest.testmod(importlib.import_module(module)).failed


def test_the_commands_of_the_documents_exist() -> None:
    """`make run`, `make test`, and every sub-command that is named."""
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    everything = "".join([README, *(page.read_text(encoding="utf-8") for page in PAGES)])
    for target in re.findall(r"(?:^    |`)make (\w+)", everything, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for command in set(re.findall(r"[`($] ?domindex ([a-z]+)", everything)):
        assert main([command, "--help"]) == 0, command


def test_the_examples_of_the_tour_are_those_that_exist() -> None:
    """Each has its line there."""
    named = re.findall(r"^- `examples/(\w+\.py)`: ", read("tour.md"), re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in (PROJECT / "examples").glob("*.py"))


def test_help_names_every_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    """The statuses are part of the interface."""
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for status in range(4):
        assert re.search(rf"^  {status}  ", said, re.MULTILINE)


def test_the_tour_shows_what_make_run_promises() -> None:
    """The table, look-ups by all keys with their cost, and each kind of event; it ends itself."""
    done = subprocess.run(
        [sys.executable, "examples/tour.py"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = done.stdout.splitlines()
    assert "simulated" in first or "control domain" in first
    if "simulated" in first:
        text = "\n".join(rest)
        for word in ("DOMID", "by_name", "by_uuid", "by_id", "os_type", " us"):
            assert word in text
        for event in ("Added", "Renamed", "ShutDown", "Removed"):
            assert f"  {event} " in text
        assert words("$ make run\n" + done.stdout) == words(recorded())  # else: make recording


def recorded() -> str:
    """The text in docs/recording.svg."""
    lines = re.findall(r"<text class=.recording-r\d+[^>]*>(.*?)</text>", read("recording.svg"))
    return html.unescape("\n".join(lines))


def words(text: str) -> list[str]:
    """Without uuids and numbers, which are others each time."""
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]*|[\d.]+", "#", text).split()


def test_the_figures_are_those_that_were_measured() -> None:
    """The table of docs/performance.md is the one `make figures` wrote."""
    measured = (PROJECT / "tests" / "measure" / "figures" / "RESULTS.md").read_text(
        encoding="utf-8"
    )
    table = measured[measured.index("| what |") :].strip()
    assert table in read("performance.md")


def test_the_large_fleet_is_the_one_that_was_measured() -> None:
    """The table of docs/fleet-operations.md is the one `make fleet-scale` wrote."""
    measured = (PROJECT / "tests" / "fleet" / "RESULTS.md").read_text(encoding="utf-8")
    assert measured[measured.index("| what |") :].strip() in read("fleet-operations.md")


def test_the_benchmarks_are_those_that_were_measured() -> None:
    """RESULTS.md is made of the JSON beside it: by `python -m tests.bench.on_hosts --release`."""
    committed = results.RESULTS / "RESULTS.md"
    assert committed.read_text(encoding="utf-8") == results.results(results.RESULTS)
    by_name = results.table(results.measured(results.RESULTS, "4.17"), BY_NAME)
    assert "\n".join(by_name).strip() in read("performance.md")
