"""From the JSON of the runs to RESULTS.md and the pictures.

Drawing imports matplotlib; nothing else here does. Read last.
"""

from __future__ import annotations

from pathlib import Path

from tests.bench.questions import DRAWN
from tests.bench.report import Report, from_json, lines, shown_ratio
from tests.real.build.host import RELEASES

RESULTS = Path(__file__).parents[1] / "results"
"""The committed ones."""
SIZES = (2, 10, 30, 100, 300, 1000)
HEAD = """\
# Benchmarks

`make bench`: `python -m tests.bench.on_hosts`, which runs the benchmark in the dom0 of real Xen
hosts in QEMU without KVM, beside a libvirtd that manages the same domains. Every time there is 10
to 50 times too long. So each is given as a multiple of a bare `dict.get` in the same run, and no
other number means anything. The domain that is looked for is the one in the middle: a scan that
ends at a hit reads half of all. "of floor" compares pairs: each sample of a way comes right after
one of its floor, and the median of their ratios is given. Scans have three samples at the largest
sizes: there a difference of less than twofold means nothing.
"""


def file_of(place: Path, release: str, size: int) -> Path:
    """The JSON of one run."""
    return place / f"xen-{release}-{size}.json"


def measured(place: Path, release: str) -> list[Report]:
    """The runs on hosts of this release in the folder, smallest first."""
    files = [file_of(place, release, size) for size in SIZES]
    return [from_json(file.read_text(encoding="utf-8")) for file in files if file.exists()]


def picture(release: str, question: str) -> str:
    """The name of its file."""
    return f"xen-{release}-{question.replace(' ', '-')}.svg"


def draw(place: Path) -> None:
    """Draw the pictures of all runs in the folder."""
    from tests.bench.plot import svg

    for release in RELEASES:
        if reports := measured(place, release):
            for question in DRAWN:
                svg(reports, str(place / picture(release, question)), [question])


def results(place: Path) -> str:
    """RESULTS.md of all runs in the folder."""
    text = [*HEAD.splitlines(), ""]
    for release in RELEASES:
        reports = measured(place, release)
        if not reports:
            continue
        text += [f"## Xen {release}", ""]
        for question in DRAWN:
            text += [f"### {question}", "", f"![{question}]({picture(release, question)})", ""]
            text += table(reports, question)
        for report in reports:
            text += [f"### {report.domains:,} domains", "", "```", *lines(report), "```", ""]
    return "\n".join(line.rstrip() for line in text).rstrip() + "\n"


def table(reports: list[Report], question: str) -> list[str]:
    """Markdown with a row for each way and a column for each size."""
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
