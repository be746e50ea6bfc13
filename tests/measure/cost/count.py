"""Counting instructions: the works run under callgrind, and what it wrote is read."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.measure.cost import valgrind
from tests.measure.cost.works import FLOOR, GROUPS, MARK

PROJECT = Path(__file__).resolve().parents[3]
_TIME_LIMIT = 600.0


def count(python: str = sys.executable) -> dict[str, float]:
    """Instructions of each work done once, by what it is.

    Cost: half a minute on two processors. Raises HostUnavailable where there is no valgrind.
    """
    command, environment = valgrind.find()
    with (
        tempfile.TemporaryDirectory(prefix="counts") as directory,
        ThreadPoolExecutor(2) as pool,
    ):
        found = pool.map(
            lambda group: _count_group(
                [*command, *_options(Path(directory) / group), python], environment, group
            ),
            GROUPS,
        )
        return {what: counted for group in found for what, counted in group.items()}


def against_floor(counted: Mapping[str, float]) -> dict[str, float]:
    """Each as so many bare dict look-ups of the same run."""
    return {what: number / counted[FLOOR] for what, number in counted.items() if what != FLOOR}


def _options(out: Path) -> list[str]:
    return ["--tool=callgrind", f"--callgrind-out-file={out}", f"--dump-before={MARK}"]


def _count_group(
    command: list[str], environment: Mapping[str, str], group: str
) -> dict[str, float]:
    # Nothing of the surroundings, and no seed of chance: what is counted is the same each time.
    environment = {**environment, "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [*command, "-m", "tests.measure.cost.works", group],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_TIME_LIMIT,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    (out,) = (o.partition("=")[2] for o in command if o.startswith("--callgrind-out-file="))
    return _read(done.stdout.splitlines(), Path(out))


def _read(printed: list[str], out: Path) -> dict[str, float]:
    """out: callgrind appends to it the number of each dump. One was made at each mark.

    The first is of all before, the second of a mark itself; then come, in turn, what is done
    before a work counts and the work.
    """
    totals = [_total(out.with_name(f"{out.name}.{n}")) for n in range(1, 2 * len(printed) + 3)]
    mark = totals[1]
    found = {}
    for line, total in zip(printed, totals[3::2], strict=True):
        times, _, what = line.partition(" ")
        found[what] = (total - mark) / int(times)
    return found


def _total(dump: Path) -> int:
    (line,) = (
        line
        for line in dump.read_text(encoding="utf-8").splitlines()
        if line.startswith("totals: ")
    )
    return int(line.removeprefix("totals: "))
