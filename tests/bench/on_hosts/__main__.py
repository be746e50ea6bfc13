"""python -m tests.bench.on_hosts: measure on real hosts, and draw.

Writes to tests/bench/results, for each release, the runs as JSON, a picture for each question, and
RESULTS.md of all. Read after ../__main__.py; next overlay.py.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.bench.on_hosts import overlay
from tests.bench.on_hosts.in_dom0 import MARK
from tests.bench.on_hosts.results import RESULTS, SIZES, draw, file_of, results
from tests.bench.report import from_json
from tests.real.build.host import RELEASES
from tests.real.outside.real_host import in_dom0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.on_hosts", description=__doc__)
    add = parser.add_argument
    add("--release", nargs="*", default=["4.17", "4.20"], help="hosts; with none, only draw again")
    add("--sizes", nargs="+", type=int, default=SIZES, help="numbers of domains")
    add("--timeout", type=float, default=3600.0, help="seconds for each host")
    add("--into", type=Path, default=RESULTS, metavar="DIR", help="where the results are written")
    args = parser.parse_args()
    args.into.mkdir(parents=True, exist_ok=True)
    missed: list[str] = []
    for release in args.release:
        missed += on_host(release, args.sizes, args.timeout, args.into)
    draw(args.into)
    (args.into / "RESULTS.md").write_text(results(args.into), encoding="utf-8")
    print(*missed, sep="\n", file=sys.stderr)
    return 1 if missed else 0


def on_host(release: str, sizes: list[int], timeout: float, into: Path) -> list[str]:
    """Measure in the dom0 of a fresh host, smallest size first. Each run is written at once.

    Returns which sizes are missing and the end of the host's output; empty if none is missing.
    """
    done: set[int] = set()

    def line(text: str) -> None:
        if text.startswith(MARK):
            report = from_json(text.removeprefix(MARK))
            # An emulated host shares its machine: other load there widens the spread.
            load = f"{os.getloadavg()[1]:.1f} on {os.cpu_count()} processors"
            report.machine["load of the machine that emulates it"] = load
            file = file_of(into, release, report.domains)
            file.write_text(report.to_json() + "\n", encoding="utf-8")
            done.add(report.domains)
        else:
            print(text, flush=True)

    label = f"Xen {release}, emulated"
    module = "tests.bench.on_hosts.in_dom0"
    output = in_dom0(
        release,
        f"python3 -m {module} '{label}' {' '.join(map(str, sorted(sizes)))}",
        overlay=overlay.overlay(RELEASES[release]),
        processor=overlay.PROCESSOR,
        memory=1536,
        time_limit=timeout,
        on_line=line,
    )
    missing = sorted(set(sizes) - done)
    return [f"Xen {release}: no result for {missing}", *output[-2:]] if missing else []


if __name__ == "__main__":
    sys.exit(main())
