"""Runs on hosts of several sizes as one picture: what an answer costs, by the number of domains.

The only file that imports matplotlib, a tool of developers: a host that is only measured does not
need it. Read after report.py; next __main__.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import matplotlib
from matplotlib.figure import Figure

from tests.bench.questions import BY_NAME
from tests.bench.report import Report

_SETTINGS: Final[Any] = {"svg.hashsalt": "domindex", "svg.fonttype": "none"}
"""Fixed ids, as far as matplotlib can, and letters that stay letters: small differences."""


def svg(reports: Sequence[Report], file: str, questions: Sequence[str] = (BY_NAME,)) -> None:
    """Draw the questions side by side: a line for each way, on logarithmic axes.

    Bars are quartiles. If one run is relative, all are drawn as multiples.

    Raises:
        OSError: the file cannot be written.
        ValueError: there is no run.
    """
    if not reports:
        raise ValueError("there is no run to draw")
    relative = any(report.relative for report in reports)
    figure: Any = Figure(figsize=(8.0 * len(questions), 6.0), layout="constrained")
    for axes, question in zip(
        figure.subplots(1, len(questions), squeeze=False)[0], questions, strict=True
    ):
        _draw(axes, sorted(reports, key=lambda report: report.domains), question, relative)
    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(file, format="svg", metadata={"Date": None})


def _draw(axes: Any, reports: Sequence[Report], question: str, relative: bool) -> None:
    names = dict.fromkeys(
        way.name for report in reports for way in report.ways if way.question == question
    )
    for number, name in enumerate(names):
        points = [
            (report.domains, way, report.unit() if relative else 1.0)
            for report in reports
            for way in report.ways
            if (way.question, way.name) == (question, name) and not way.missing
        ]
        if not points:
            reason = next(
                way.missing
                for report in reports
                for way in report.ways
                if (way.question, way.name) == (question, name)
            )
            axes.errorbar([], [], yerr=[], fmt=" ", label=f"{name}: {reason}"[:70])
            continue
        axes.errorbar(
            [domains for domains, _, _ in points],
            [way.median / unit for _, way, unit in points],
            yerr=[
                [(way.median - way.low) / unit for _, way, unit in points],
                [(way.high - way.median) / unit for _, way, unit in points],
            ],
            marker="osDv^<>Px"[number % 9],
            linewidth=2.5 if name.startswith("index") else 1.2,
            capsize=2,
            label=name,
        )
    axes.set(
        xscale="log",
        yscale="log",
        title=f"{question}: {_where(reports)}",
        xlabel="domains on the host",
        ylabel="multiples of a bare dict.get in the same run" if relative else "seconds a call",
    )
    sizes = sorted({report.domains for report in reports})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
    axes.minorticks_off()
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(0.0, -0.1), ncols=2)


def _where(reports: Sequence[Report]) -> str:
    if any(report.simulated for report in reports):
        return "simulated host (no Xen)"
    first = reports[0]
    return first.label or first.machine.get("xen", "Xen")
