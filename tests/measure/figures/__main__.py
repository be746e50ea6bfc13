"""python -m tests.measure.figures: all that docs/performance.md says, here and on a real host.

Writes tests/measure/figures/RESULTS.md and prints it. Fails if a figure is not reached and nobody
knows why.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

from tests.bench.on_hosts.overlay import lowlevel
from tests.measure.cost import committed
from tests.measure.figures import native
from tests.measure.figures.measure import HEAD, Figure
from tests.measure.fleet import figures as fleet
from tests.real.build.host import RELEASES
from tests.real.outside.real_host import in_dom0

RESULTS = Path(__file__).with_name("RESULTS.md")
RELEASE = "4.17"


def main() -> int:
    figures = [*native.figures(), *counted(), *fleet.measured(), *on_a_real_host()]
    notes = [note for figure in figures if (note := figure.note())]
    where = f"CPython {platform.python_version()}, {platform.machine()}"
    text = "\n".join(
        [
            "# Figures",
            "",
            f"`make figures`, {where}; rows marked emulated: Xen {RELEASE} in QEMU without KVM,",
            "where only the ratios mean anything.",
            "",
            HEAD,
            *(figure.row() for figure in figures),
            "",
            *(["Why some are above their limit:", "", *notes, ""] if notes else []),
        ]
    )
    RESULTS.write_text(text, encoding="utf-8")
    print(text)
    missed = [f.what for f in figures if f.ratio > f.most and not f.why]
    if missed:
        print(f"not reached: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def counted() -> list[Figure]:
    """What `make counts` counted last, in instructions."""
    counts = committed.read()[committed.this_python()]
    ways = (("", "in memory"), (", from the bytes of the list", "with the bytes of the list"))
    return [
        Figure(
            f"one change among 1,000 domains, {told}",
            "the same among 10",
            counts[f"one of 1,000 domains shuts down{listed}"]
            / counts[f"one of 10 domains shuts down{listed}"],
            2.0,
            "instructions of the index, beside those of the hypercall",
            _BYTES if listed else "",
        )
        for listed, told in ways
    ]


_BYTES = (
    "the bytes of the new list are compared with those of the last one, and a new list is made: "
    "1.7 times a `dict.get` for each domain that has not changed"
)


def on_a_real_host() -> list[Figure]:
    """What `on_host` measures in its dom0."""
    lines = in_dom0(
        RELEASE, "python3 -m tests.measure.figures.on_host", overlay=lowlevel(RELEASES[RELEASE])
    )
    mark = "FIGURE "
    return [
        Figure(**json.loads(line.removeprefix(mark))) for line in lines if line.startswith(mark)
    ]


if __name__ == "__main__":
    sys.exit(main())
