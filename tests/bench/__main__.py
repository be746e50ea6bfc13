"""python -m tests.bench [--release 4.17 ...] [--sizes 2 10 ...]: measure on real hosts, and draw.

Writes beside this file, for each release, the runs as JSON, a picture for each question, and
RESULTS.md of all.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from domindex.bench.ours import BY_NAME
from domindex.bench.plot import QUESTIONS, svg
from domindex.bench.report import Report, from_json, lines, shown_ratio
from tests.bench import peers
from tests.bench.in_dom0 import MARK
from tests.xen.real_host import in_dom0
from tests.xenhost.host import RELEASES

HERE = Path(__file__).parent
SIZES = (2, 10, 30, 100, 300, 1000)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--release", nargs="*", default=["4.17", "4.20"], help="hosts; with none, only draw anew"
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds for each host")
    args = parser.parse_args()
    for release in args.release:
        on_host(release, args.sizes, args.timeout)
    write_results()
    return 0


def on_host(release: str, sizes: list[int], timeout: float) -> None:
    """Run it in the dom0 of a fresh host, smallest size first; each is kept as soon as it is."""

    def line(text: str) -> None:
        if text.startswith(MARK):
            report = from_json(text.removeprefix(MARK))
            file = HERE / f"xen-{release}-{report.domains}.json"
            file.write_text(report.to_json() + "\n", encoding="utf-8")
        else:
            print(text, flush=True)

    label = f"Xen {release}, emulated"
    in_dom0(
        release,
        f"python3 -m tests.bench.in_dom0 '{label}' {' '.join(map(str, sorted(sizes)))}",
        overlay=peers.overlay(RELEASES[release]),
        processor=peers.PROCESSOR,
        time_limit=timeout,
        on_line=line,
    )


def write_results() -> None:
    """RESULTS.md and the pictures, from the JSON that is here."""
    text = [
        "# Benchmarks",
        "",
        "`make bench`: `domindex bench` in the dom0 of real Xen hosts in QEMU without KVM, with a",
        "libvirtd beside. Everything there is some 50 times slower than it looks, so all times are",
        "multiples of a bare `dict.get` in the same run, and only they mean anything.",
        "",
    ]
    for release in RELEASES:
        reports = [
            from_json(file.read_text(encoding="utf-8"))
            for file in HERE.glob(f"xen-{release}-*.json")
            if file.stem.removeprefix(f"xen-{release}-").isdigit()
        ]
        reports.sort(key=lambda report: report.domains)
        if not reports:
            continue
        text += [f"## Xen {release}", ""]
        for question in QUESTIONS:
            name = f"xen-{release}-{question.replace(' ', '-')}.svg"
            svg(reports, str(HERE / name), [question])
            text += [f"### {question}", "", f"![{question}]({name})", ""]
            text += table(reports, question)
        text += ["### everything", ""]
        for report in reports:
            text += ["```", *lines(report), "```", ""]
    (HERE / "RESULTS.md").write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")


def table(reports: list[Report], question: str = BY_NAME) -> list[str]:
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
            cells.append(way.missing or shown_ratio(way.median / report.unit()))
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return [*rows, ""]


if __name__ == "__main__":
    sys.exit(main())
