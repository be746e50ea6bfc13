"""One boot of each real Xen host in which all of its tests run, with the wheel that we ship.

`run_of` boots a host once for a whole test session; each test here then looks its result up.
Hosts boot side by side, one for each processor. Where no host can be built the tests skip and
say what is missing, except under CI, where they fail.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.real.build.debian import HostUnavailable
from tests.real.build.dependencies import site, wheel
from tests.real.build.host import RELEASES, BootFailed, boot, build
from tests.real.build.root import Content
from tests.real.inside.results import MARK

PROJECT = Path(__file__).resolve().parents[3]
IN_DOM0 = ("both", "real/inside", "measure/figures", "bench")
SUITES = ("tests/both/contract", "tests/both/scenarios", "tests/real/inside")
ONLY: dict[str, tuple[str, ...]] = {
    "tests/both/scenarios/test_many.py": ("4.17",),
    "tests/both/scenarios/test_hard_crowds.py": ("4.17", "4.17-ox"),
    "tests/real/inside/test_examples.py": ("4.17",),
    "tests/real/inside/test_walk.py": ("4.17", "4.17-ox"),
    "tests/real/inside/test_line_faults.py": ("4.17", "4.17-ox"),
}
"""What takes a minute or more in dom0 and asks nothing of the version of Xen."""
INSTEAD: dict[str, tuple[str, ...]] = {"4.20-dom0less": ("tests/real/inside/test_dom0less.py",)}
"""What runs on a host in place of all else: tests of what is there before them, and of its end."""
WALK = {"4.17": {"DOMINDEX_STEPS": "300"}}
"""Settings of a host's own. The longest walk is on the host that was walked on most."""
TIME_LIMIT = 1200.0
TIMES = "TIMES "

SCENARIOS = {
    "PV by xl create": "real/inside/test_xl_lives.py::test_xl_create_and_destroy[real-pv]",
    "PVH by xl create": "real/inside/test_xl_lives.py::test_xl_create_and_destroy[real-pvh]",
    "HVM by xl create": "real/inside/test_xl_lives.py::test_xl_create_and_destroy[real-hvm]",
    "rename by xl": "real/inside/test_xl_lives.py::test_xl_rename[real]",
    "pause and unpause: no event, info right": (
        "real/inside/test_xl_lives.py::test_xl_pause_and_unpause[real]"
    ),
    "guest crash": "real/inside/test_xl_lives.py::test_guest_crash[real]",
    "xl destroy, then create of the same name": (
        "real/inside/test_xl_lives.py::test_xl_destroy_and_create_of_the_same_name[real]"
    ),
    "preserve": "real/inside/test_xl_lives.py::test_preserve[real]",
    "two domains with one uuid": "both/scenarios/test_lives.py::test_two_with_one_uuid[real]",
    "two domains with one name": "both/scenarios/test_lives.py::test_two_with_one_name[real]",
    "a left-over /local/domain/N": "both/scenarios/test_lives.py::test_left_over_node[real]",
    "300 domains in a burst, look-ups in four threads": (
        "both/scenarios/test_hard_crowds.py::test_burst[real]"
    ),
    "xenbus as transport": "real/inside/test_lines.py::test_xenbus_as_transport",
    "privileges dropped to nobody": (
        "real/inside/test_lines.py::test_privileges_dropped_after_connect"
    ),
}
"""The scenarios that were asked for first, by name. The report adds every other one."""


@dataclass
class Run:
    """What one boot told: the outcome of every test in dom0."""

    host: str
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
        return self.outcomes().get(test, "missing" if runs_on(self.host, test) else "elsewhere")

    def why(self, test: str) -> str:
        """Why a test was skipped, in a line."""
        told = self.results.get(test, {})
        return told.get("reason", "") if told.get("outcome") == "skipped" else ""


def scenarios(runs: list[Run]) -> dict[str, str]:
    """Every scenario by its name: those of the list, then the others by their test's."""
    named = {name: f"tests/{test}" for name, test in SCENARIOS.items()}
    known = set(named.values())
    for run in runs:
        for test in run.results:
            if test not in known and "/contract/" not in test:
                named[test.partition("::")[2]] = test
    return named


HOSTS = tuple(os.environ.get("DOMINDEX_HOSTS", " ".join(RELEASES)).split())
"""Every host there is, or those that are asked for: DOMINDEX_HOSTS="4.17 4.20-ox"."""

_boots: dict[str, Future[Run]] = {}
_processors = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="host")


def runs() -> list[Run]:
    """Those made in this session, in the order of the hosts."""
    boots = [_boots[host] for host in HOSTS if host in _boots]
    return [boot.result() for boot in boots if boot.done() and boot.exception() is None]


def start(hosts: Iterable[str]) -> None:
    """Say which hosts will be asked for, so that they can be booted side by side.

    Those that take longest come first, so that no processor is idle at the end.
    """
    build_wheel()  # once, before the hosts all want it
    newest_first = sorted(hosts, reverse=True)
    for host in sorted(newest_first, key=_long_files, reverse=True):
        if host not in _boots:
            _boots[host] = _processors.submit(_run, host)


def _long_files(host: str) -> int:
    """How many of the files that take long it runs; -1 if it runs next to nothing."""
    return -1 if host in INSTEAD else sum(host in on for on in ONLY.values())


def run_of(host: str) -> Run:
    """What the tests in the dom0 of `host` told. Skips or fails if it cannot be booted."""
    start([host])
    try:
        return _boots[host].result()
    except HostUnavailable as error:
        if os.environ.get("CI"):
            pytest.fail(f"no real host, and CI asks for one: {error}")
        pytest.skip(f"no real host: {error}")
    except BootFailed as error:
        pytest.fail(str(error))


def _run(host: str) -> Run:
    run = Run(host)
    files = {*ONLY, *(path for paths in INSTEAD.values() for path in paths)}
    others = sorted(path for path in files if not runs_on(host, path))
    what = INSTEAD.get(host) or [*SUITES, *(f"--ignore={path}" for path in others)]
    command = (
        f"python3 -m pytest -q -p no:cacheprovider -p tests.real.inside.results {' '.join(what)}"
    )
    for line in in_dom0(host, command, WALK.get(host)):
        run.line(line)
    return run


def in_dom0(
    release: str,
    command: str,
    settings: Mapping[str, str] | None = None,
    *,
    overlay: Mapping[str, Content] | None = None,
    processor: str | None = None,
    memory: int = 768,
    time_limit: float = TIME_LIMIT,
    on_line: Callable[[str], None] | None = None,
) -> list[str]:
    """What `command` prints in the dom0 of a fresh host, with the project and its wheel there.

    settings: for its environment, unless they are made here already.
    overlay: what the host has beside. processor, memory: as `boot`. on_line: hears each line.
    The last line tells how long it took. Raises HostUnavailable, BootFailed.
    """
    image = build(RELEASES[release])
    files: dict[str, Content] = {
        **site(RELEASES[release]),
        **wheel(RELEASES[release], build_wheel()),
    }
    tests = PROJECT / "tests"
    brought = [path for name in IN_DOM0 for path in (tests / name).rglob("*.py")]
    brought += [tests / f"{name}.py" for name in ("__init__", "programs", "stage")]
    brought += [tests / f"{name}/__init__.py" for name in ("real", "measure")]
    files |= {f"/project/{path.relative_to(PROJECT)}": path for path in brought}
    for path in (PROJECT / "examples").glob("*.py"):
        files[f"/project/examples/{path.name}"] = path
    files["/project/pytest.ini"] = b"[pytest]\nfilterwarnings = error\n"
    lines: list[str] = []

    def told(line: str) -> None:
        lines.append(line)
        if on_line is not None:
            on_line(line)

    done = boot(
        image,
        overlay={**files, **(overlay or {})},
        command=f"cd /project && {_settings(settings or {})} {command}",
        timeout=time_limit,
        on_line=told,
        processor=processor,
        memory=memory,
    )
    if done.status is None:
        lines.append(f"the command {done.outcome.value}\n{done.log[-4000:]}")
    lines.append(f"{TIMES}boot {done.boot_seconds:.0f} s, tests {done.command_seconds:.0f} s")
    return lines


def _settings(usual: Mapping[str, str]) -> str:
    """What is set for the tests in dom0, as a shell takes it."""
    names = ("DOMINDEX_SEED", "DOMINDEX_STEPS")
    here = {name: os.environ[name] for name in names if name in os.environ}
    ours = {"PYTHONPATH": "/site:/project", "DOMINDEX_DOM0": "1", **usual, **here}
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in ours.items())


@functools.cache
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
        partial = kept.with_suffix(f".{os.getpid()}")
        partial.write_bytes(built.read_bytes())
        partial.replace(kept)  # whole at once, for another session that reads it now
    return kept


def runs_on(host: str, test: str) -> bool:
    """Whether `host` is to run that test, or that file."""
    file = test.partition("::")[0]
    for other, files in INSTEAD.items():
        if host == other or file in files:
            return host == other and file in files
    return host in ONLY.get(file, (host,))


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
