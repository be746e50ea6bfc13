"""One boot of a real Xen host in which all of its tests run, with the wheel that we ship.

`run_of` boots it once for a whole test session; each test here then looks its result up. Where
no host can be built the tests skip and say what is missing, except under CI, where they fail.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.dom0.results import MARK
from tests.xenhost.debian import HostUnavailable
from tests.xenhost.dependencies import site, wheel
from tests.xenhost.host import RELEASES, BootFailed, boot, build
from tests.xenhost.root import Content

PROJECT = Path(__file__).resolve().parents[2]
IN_DOM0 = ("contract", "scenarios", "dom0", "figures")
# The tests of xl come last: xenconsoled, which they start, makes every later death slower.
SUITES = ("tests/contract", "tests/scenarios", "tests/dom0")
TIME_LIMIT = 1200.0
TIMES = "TIMES "

SCENARIOS = {
    "PV by xl create": "dom0/test_xl_lives.py::test_xl_create_and_destroy[real-pv]",
    "PVH by xl create": "dom0/test_xl_lives.py::test_xl_create_and_destroy[real-pvh]",
    "HVM by xl create": "dom0/test_xl_lives.py::test_xl_create_and_destroy[real-hvm]",
    "rename by xl": "dom0/test_xl_lives.py::test_xl_rename[real]",
    "pause and unpause: no event, info right": (
        "dom0/test_xl_lives.py::test_xl_pause_and_unpause[real]"
    ),
    "guest crash": "dom0/test_xl_lives.py::test_guest_crash[real]",
    "xl destroy, then create of the same name": (
        "dom0/test_xl_lives.py::test_xl_destroy_and_create_of_the_same_name[real]"
    ),
    "preserve": "dom0/test_xl_lives.py::test_preserve[real]",
    "two domains with one uuid": "scenarios/test_lives.py::test_two_with_one_uuid[real]",
    "two domains with one name": "scenarios/test_lives.py::test_two_with_one_name[real]",
    "a left-over /local/domain/N": "scenarios/test_lives.py::test_left_over_node[real]",
    "300 domains in a burst, look-ups in four threads": "scenarios/test_lives.py::test_burst[real]",
    "xenbus as transport": "dom0/test_lines.py::test_xenbus_as_transport",
    "privileges dropped to nobody": "dom0/test_lines.py::test_privileges_dropped_after_connect",
}
"""The scenarios that were asked for first, by name. The report adds every other one."""


@dataclass
class Run:
    """What one boot told: the outcome of every test in dom0."""

    title: str
    times: str = ""
    results: dict[str, dict[str, str]] = field(default_factory=dict)
    output: list[str] = field(default_factory=list)

    def line(self, line: str) -> None:
        """Take a line of dom0's in."""
        self.output.append(line)
        if line.startswith(MARK):
            told = json.loads(line.removeprefix(MARK))
            self.results[told["test"]] = told
        elif line.startswith(TIMES):
            self.times = line.removeprefix(TIMES)

    def outcomes(self) -> dict[str, str]:
        """Passed, failed or skipped, by test."""
        return {test: told["outcome"] for test, told in self.results.items()}

    def outcome(self, test: str) -> str:
        """Of one test; `missing` if the host never told."""
        return self.outcomes().get(test, "missing")

    def why(self, test: str) -> str:
        """Why a test was skipped, in a line."""
        told = self.results.get(test, {})
        return told.get("reason", "") if told.get("outcome") == "skipped" else ""

    def named(self) -> dict[str, str]:
        """Every scenario: those of the list by their name, the others by their test's."""
        named = {name: f"tests/{test}" for name, test in SCENARIOS.items()}
        known = set(named.values())
        others = [test for test in self.results if test not in known and "/contract/" not in test]
        return named | {test.partition("::")[2]: test for test in others}


_runs: list[Run] = []


def runs() -> list[Run]:
    """Those made in this session."""
    return _runs


@functools.cache
def run_of(release: str) -> Run:
    """Boot `release` and run everything in its dom0, once. Skips or fails if it cannot."""
    run = Run(f"Xen {release}, Python {RELEASES[release].python}")
    command = f"python3 -m pytest -q -p no:cacheprovider -p tests.dom0.results {' '.join(SUITES)}"
    try:
        for line in in_dom0(release, command):
            run.line(line)
    except HostUnavailable as error:
        if os.environ.get("CI"):
            pytest.fail(f"no real host, and CI asks for one: {error}")
        pytest.skip(f"no real host: {error}")
    except BootFailed as error:
        pytest.fail(str(error))
    _runs.append(run)
    return run


def in_dom0(release: str, command: str) -> list[str]:
    """What `command` prints in the dom0 of a fresh host, with the project and its wheel there.

    The last line tells how long it took. Raises HostUnavailable, BootFailed.
    """
    image = build(RELEASES[release])
    overlay: dict[str, Content] = {**site(RELEASES[release]), **wheel(build_wheel())}
    for name in IN_DOM0:
        overlay |= {
            f"/project/tests/{name}/{path.name}": path
            for path in (PROJECT / "tests" / name).glob("*.py")
        }
    for name in ("__init__.py", "stage.py"):
        overlay[f"/project/tests/{name}"] = PROJECT / "tests" / name
    overlay["/project/pytest.ini"] = b"[pytest]\nfilterwarnings = error\n"
    lines: list[str] = []
    done = boot(
        image,
        overlay=overlay,
        command=f"cd /project && PYTHONPATH=/site:/project DOMINDEX_DOM0=1 {command}",
        timeout=TIME_LIMIT,
        on_line=lines.append,
    )
    if done.status is None:
        lines.append(f"the command {done.outcome.value}\n{done.log[-4000:]}")
    lines.append(f"{TIMES}boot {done.boot_seconds:.0f} s, tests {done.command_seconds:.0f} s")
    return lines


def build_wheel() -> Path:
    """The wheel of the project, as it is shipped."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", scratch],
            cwd=PROJECT,
            check=True,
            capture_output=True,
        )
        (built,) = Path(scratch).glob("*.whl")
        kept = PROJECT / "build" / built.name
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(built.read_bytes())
    return kept


@functools.cache
def nodes_in_dom0() -> list[str]:
    """Every test that is to run in dom0, as pytest names it there."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", *SUITES],
        cwd=PROJECT,
        env={**os.environ, "DOMINDEX_DOM0": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line for line in done.stdout.splitlines() if "::" in line]
    assert found, done.stdout + done.stderr
    return found
