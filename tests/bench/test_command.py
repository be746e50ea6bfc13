"""`python -m tests.bench`: its output, its files, its errors; it needs no tool of developers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.__main__ import main
from tests.bench.report import from_json

PROJECT = Path(__file__).resolve().parents[2]
QUICK = ["--rounds", "3", "--budget", "0", "--pause", "0", "--idle", "0", "--domains", "2"]

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run it quickly: exit status, output, errors."""

    def run(*argv: str) -> tuple[int, str, str]:
        try:
            status = main([*QUICK, *argv])
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return run


def test_it_prints_writes_and_draws(command: Command, tmp_path: Path) -> None:
    """Table, JSON and picture; and it reads the JSON of several runs."""
    saved, picture = tmp_path / "a.json", tmp_path / "a.svg"
    status, out, _ = command("--simulated", "--json", str(saved), "--svg", str(picture))
    assert (status, "not Xen" in out) == (0, True)
    read = from_json(saved.read_text())
    assert read.domains == 2
    other = tmp_path / "b.json"
    other.write_text(replace(read, domains=20).to_json())
    status, out, _ = command("--plot", str(saved), str(other), "--svg", str(picture))
    assert (status, out.count("Benchmark: ")) == (0, 2)
    drawn = picture.read_text()
    assert drawn.startswith("<?xml")
    assert "simulated host (no Xen)" in drawn
    for name in ("index.by_name", "xl domid NAME: it needs", "XenD: XenD is gone"):
        assert f">{name}" in drawn


def test_it_runs_with_no_more_than_the_package_needs() -> None:
    """A checkout on a control domain has no pytest, no matplotlib and no other tool."""
    code = f"""
import sys
for tool in ("pytest", "_pytest", "matplotlib", "hypothesis", "mypy"):
    sys.modules[tool] = None
from tests.bench.__main__ import main
sys.exit(main(["--simulated", *{QUICK}]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Benchmark: 2 domains")


@pytest.mark.skipif(os.path.exists("/proc/xen/privcmd"), reason="this is a Xen host")
def test_without_xen_it_simulates_and_says_so(command: Command) -> None:
    """So that its numbers are not taken for Xen's."""
    status, out, err = command()
    assert status == 0
    assert "a simulated host: this measures Python and round trips in memory, not Xen" in out
    assert "uses a simulated host: " in err


@pytest.mark.parametrize("option", ["--idle", "--pause", "--budget"])
@pytest.mark.parametrize("seconds", ["inf", "1e300", "nan", "-1", "soon"])
def test_a_time_that_is_not_finite_is_refused(option: str, seconds: str, command: Command) -> None:
    """P9: with a sentence."""
    status, _, err = command(option, seconds)
    assert status == 2
    assert f"{seconds!r} is not a finite number of seconds" in err


@pytest.mark.parametrize("argv", [("--rounds", "2"), ("--domains", "0"), ("--plot", "nowhere")])
def test_wrong_use(command: Command, argv: tuple[str, ...]) -> None:
    """Ends with a sentence that has the wrong value."""
    status, out, err = command(*argv)
    assert (status, out) == (2, "")
    assert argv[1] in err


def test_a_plot_of_a_file_that_is_no_report(command: Command, tmp_path: Path) -> None:
    """The message names the file."""
    file = tmp_path / "x"
    file.write_text("{}")
    status, _, err = command("--plot", str(file))
    assert status == 2
    assert f"{file}: this is no report" in err


def test_a_file_that_cannot_be_written(command: Command) -> None:
    """The table is printed before."""
    status, out, err = command("--simulated", "--json", "/nowhere/x.json")
    assert status == 3
    assert "index.by_name" in out
    assert "/nowhere/x.json" in err


def test_without_matplotlib_a_picture_says_what_to_install(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is measured."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "tests.bench.plot", raising=False)
    status, out, err = command("--simulated", "--svg", "x.svg")
    assert (status, out) == (2, "")
    assert "pip install matplotlib" in err
