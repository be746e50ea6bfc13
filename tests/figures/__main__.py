"""python -m tests.figures: measure everything that the README says, here and on a real host.

Writes tests/figures/RESULTS.md and prints it. Fails if a figure is not reached.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

from tests.figures import native
from tests.figures.measure import HEAD, Figure
from tests.xen.real_host import in_dom0

RESULTS = Path(__file__).with_name("RESULTS.md")
RELEASE = "4.17"


def main() -> int:
    figures = [*native.figures(), *on_a_real_host()]
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
        ]
    )
    RESULTS.write_text(text, encoding="utf-8")
    print(text)
    missed = [figure.what for figure in figures if figure.ratio > figure.most]
    if missed:
        print(f"not reached: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def on_a_real_host() -> list[Figure]:
    """What `on_host` measures in its dom0."""
    lines = in_dom0(RELEASE, "python3 -m tests.figures.on_host")
    mark = "FIGURE "
    return [
        Figure(**json.loads(line.removeprefix(mark))) for line in lines if line.startswith(mark)
    ]


if __name__ == "__main__":
    sys.exit(main())
