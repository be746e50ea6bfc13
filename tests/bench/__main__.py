"""python -m tests.bench [--release 4.17 ...] [--sizes 2 10 ...]: measure on real hosts, and draw.

Writes beside this file, for each release, the runs as JSON, a picture for each question, and
RESULTS.md of all.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from domindex.bench.plot import QUESTIONS, svg
from domindex.bench.report import Report, from_json, lines, shown_ratio
from tests.bench import peers
from tests.bench.in_dom0 import MARK
from tests.real.build.host import RELEASES
from tests.real.outside.real_host import in_dom0

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
HEAD = """\
# Benchmarks

`make bench`: `domindex bench` in the dom0 of real Xen hosts in QEMU without KVM, beside a libvirtd
that takes the same domains for its own. Everything there is 10 to 50 times slower than it looks, so
every time is a multiple of a bare `dict.get` in the same run, and nothing else means anything. The
domain that is looked for is the one in the middle: a scan that ends at a hit reads half of all.
"of floor" is told of pairs: each sample of a way comes right after one of its floor, and the median
of their ratios is given. Scans have three samples at the largest sizes: among those less than
twofold means nothing.
"""
SIZES = (2, 10, 30, 100, 300, 1000)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--release", nargs="*", default=["4.17", "4.20"], help="hosts; with none, only draw anew"
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds for each host")
    args = parser.parse_args()
    missed: list[str] = []
    for release in args.release:
        missed += on_host(release, args.sizes, args.timeout)
    write_results()
    print(*missed, sep="\n", file=sys.stderr)
    return 1 if missed else 0


def on_host(release: str, sizes: list[int], timeout: float) -> list[str]:
    """Run it in the dom0 of a fresh host, smallest size first; each is kept as soon as it is.

    What is not empty says which sizes are missing, and how the host ended.
    """
    done: set[int] = set()

    def line(text: str) -> None:
        if text.startswith(MARK):
            report = from_json(text.removeprefix(MARK))
            # An emulated host shares its machine, and other work there is seen in the spread.
            load = f"{os.getloadavg()[1]:.1f} on {os.cpu_count()} processors"
            report.machine["load of the machine that emulates it"] = load
            file = HERE / f"xen-{release}-{report.domains}.json"
            file.write_text(report.to_json() + "\n", encoding="utf-8")
            done.add(report.domains)
        else:
            print(text, flush=True)

    label = f"Xen {release}, emulated"
    said = in_dom0(
        release,
        f"python3 -m tests.bench.in_dom0 '{label}' {' '.join(map(str, sorted(sizes)))}",
        overlay=peers.overlay(RELEASES[release]),
        processor=peers.PROCESSOR,
        memory=1536,
        time_limit=timeout,
        on_line=line,
    )
    missing = sorted(set(sizes) - done)
    return [f"Xen {release}: no result for {missing}", *said[-2:]] if missing else []


def write_results() -> None:
    """RESULTS.md and the pictures, from the JSON that is here."""
    for release in RELEASES:
        if reports := measured(release):
            for question in QUESTIONS:
                svg(reports, str(HERE / picture(release, question)), [question])
    RESULTS.write_text(results(), encoding="utf-8")


def measured(release: str) -> list[Report]:
    """The runs on hosts of this release that are here, smallest first."""
    files = [HERE / f"xen-{release}-{size}.json" for size in SIZES]
    return [from_json(file.read_text(encoding="utf-8")) for file in files if file.exists()]


def picture(release: str, question: str) -> str:
    """The name of its file."""
    return f"xen-{release}-{question.replace(' ', '-')}.svg"


def results() -> str:
    """RESULTS.md as it is to be."""
    text = [*HEAD.splitlines(), ""]
    for release in RELEASES:
        reports = measured(release)
        if not reports:
            continue
        text += [f"## Xen {release}", ""]
        for question in QUESTIONS:
            text += [f"### {question}", "", f"![{question}]({picture(release, question)})", ""]
            text += table(reports, question)
        for report in reports:
            text += [f"### {report.domains:,} domains", "", "```", *lines(report), "```", ""]
    return "\n".join(line.rstrip() for line in text).rstrip() + "\n"


def table(reports: list[Report], question: str) -> list[str]:
    """A row for each way, a column for each size."""
    heads = [f"{report.domains:,}" for report in reports]
    rows = [f"| way | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    names = dict.fromkeys(
        way.name for report in reports for way in report.ways if way.question == question
    )
    for name in names:
        cells = []
        for report in reports:
            (way,) = [w for w in report.ways if (w.question, w.name) == (question, name)]
            cells.append("-" if way.missing else shown_ratio(way.median / report.unit()))
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return [*rows, ""]


if __name__ == "__main__":
    sys.exit(main())
