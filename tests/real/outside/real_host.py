"""One boot of each real Xen host in which all of its tests run, with the wheel that we ship.

`run_of` boots a host once in a process; each test here then looks its result up. With
`pytest -n auto` the tests of one host are in one worker, which waits for it: so hosts and native
tests share the processors. Where no host can be built the tests skip and say what is missing,
except under CI, where they fail.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

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
TIME_LIMIT = 1800.0
OF_ONE = 400
"""Seconds that one test may take in dom0, so that one that hangs is one failure with its stacks."""
TIMES = "TIMES "
NOT_APPLICABLE = "not applicable: "


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


FEW = ("4.20-arm64", "4.14-ox")
"""Both kinds of xenstored and both machines, and of such pairs the one that is done first."""


def chosen(wanted: str | None, ci: bool) -> tuple[str, ...]:
    """The hosts to boot. wanted: their names, or "all"; without it all under CI, else a few."""
    if not wanted:
        return tuple(RELEASES) if ci else FEW
    hosts = tuple(RELEASES) if wanted == "all" else tuple(wanted.split())
    if unknown := set(hosts) - set(RELEASES):
        raise pytest.UsageError(
            f"no such host: {' '.join(sorted(unknown))}; there are {' '.join(RELEASES)}"
        )
    return hosts


HOSTS = chosen(os.environ.get("DOMINDEX_HOSTS"), bool(os.environ.get("CI")))


def run_of(host: str) -> Run:
    """What the tests in the dom0 of `host` told. Skips or fails if it cannot be booted."""
    done = _run_or_error(host)
    if not isinstance(done, Run):
        no_host(done)
    return done


def no_host(error: HostUnavailable | BootFailed) -> NoReturn:
    """End a test that has none: it is skipped where none can be built, and else fails."""
    if isinstance(error, BootFailed):
        pytest.fail(str(error))
    if os.environ.get("CI"):
        pytest.fail(f"no real host, and CI asks for one: {error}")
    pytest.skip(f"no real host: {error}")


@functools.cache  # what cannot be booted is not tried again for each of its tests
def _run_or_error(host: str) -> Run | HostUnavailable | BootFailed:
    try:
        return _run(host)
    except (HostUnavailable, BootFailed) as error:
        return error


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
    stdin: int | None = None,
    port: int | None = None,
) -> list[str]:
    """What `command` prints in the dom0 of a fresh host, with the project and its wheel there.

    settings: for its environment, unless they are made here already.
    overlay: what the host has beside, or in place of what all have. on_line: hears each line.
    processor, memory, stdin, port: as `boot`.
    The last line tells how long it took. Raises HostUnavailable, BootFailed.
    """
    image = build(RELEASES[release])
    files: dict[str, Content] = {
        **site(RELEASES[release]),
        **wheel(RELEASES[release], build_wheel()),
    }
    files |= {f"/project/{path.relative_to(PROJECT)}": path for path in brought()}
    for path in (PROJECT / "examples").glob("*.py"):
        files[f"/project/examples/{path.name}"] = path
    files["/project/pytest.ini"] = b"[pytest]\nfilterwarnings = error\ntimeout = %d\n" % OF_ONE
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
        stdin=stdin,
        port=port,
    )
    if done.status is None:
        lines.append(f"the command {done.outcome.value}\n{done.log[-4000:]}")
    lines.append(f"{TIMES}boot {done.boot_seconds:.0f} s, tests {done.command_seconds:.0f} s")
    return lines


def brought() -> list[Path]:
    """The files of the tests that are in dom0."""
    tests = PROJECT / "tests"
    shared = ("__init__", "believer", "delivery_log", "programs", "stage")
    return [
        *(path for name in IN_DOM0 for path in (tests / name).rglob("*.py")),
        *(tests / f"{name}.py" for name in shared),
        *(tests / name / "__init__.py" for name in ("real", "measure")),
    ]


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
        env={**os.environ, "DOMINDEX_DOM0": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line for line in done.stdout.splitlines() if "::" in line]
    assert found, done.stdout + done.stderr
    return found
