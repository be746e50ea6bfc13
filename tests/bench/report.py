"""The results of a run, as a table for people and as JSON for programs and plots.

Read after run.py; next plot.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from string import ascii_lowercase
from typing import Any, Final

from domindex import printable
from tests.bench.measures import BESIDE, CHURN, UNDISTURBED, Measure
from tests.bench.questions import DICT
from tests.bench.ways import Timed

FORMAT: Final = 1
"""Of the JSON. It changes when a reader of the old one would be misled."""

_ROW: Final = "{:<50} {:>9} {:>22} {:>9}  {}"


@dataclass(frozen=True, slots=True)
class Report:
    """One run.

    domains: how many the host had.
    simulated: whether there was no Xen.
    machine: versions and such, in words.
    label: the user's name for the host.
    relative: whether times are shown as multiples of a bare dict.get, as for an emulated machine,
        whose times mean nothing by themselves.
    """

    domains: int
    simulated: bool
    when: str
    machine: dict[str, str]
    command: list[str]
    ways: tuple[Timed, ...]
    measures: tuple[Measure, ...]
    label: str = ""
    relative: bool = False
    format: int = field(default=FORMAT)

    def title(self) -> str:
        """The host of the run."""
        where = (
            "a simulated host: this measures Python and round trips in memory, not Xen"
            if self.simulated
            else self.machine.get("xen", "Xen")
        )
        label = f" ({self.label})" if self.label else ""
        return f"{self.domains:,} domains on {where}{label}"

    def unit(self) -> float:
        """Seconds of a bare dict.get in this run; 1 if it has none."""
        return next((way.median for way in self.ways if way.name == DICT and way.median), 1.0)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def from_json(text: str) -> Report:
    """Raises ValueError if the text is no report, or one of another format."""
    try:
        fields: dict[str, Any] = json.loads(text)
        if fields["format"] != FORMAT:
            raise ValueError(f"format {fields['format']!r} is not {FORMAT}")
        ways = tuple(Timed(**way) for way in fields.pop("ways"))
        measures = tuple(Measure(**measure) for measure in fields.pop("measures"))
        return Report(**fields, ways=ways, measures=measures)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no report of a benchmark: {error!r}") from None


def lines(report: Report) -> Iterator[str]:
    """The table: times with their quartiles, and as multiples of their floors."""
    yield f"Benchmark: {printable(report.title())}"
    yield ", ".join(printable(f"{key} {value}") for key, value in report.machine.items())
    if report.relative:
        yield "Times are multiples of a bare dict.get in this run."
    unit = report.unit() if report.relative else 0.0
    ways = {way.name for way in report.ways}
    named = dict.fromkeys(way.floor for way in report.ways if way.floor in ways)
    letters = dict(zip(named, ascii_lowercase, strict=False))
    question = ""
    for way in report.ways:
        if way.question != question:
            question = way.question
            yield ""
            yield _ROW.format(question, "median", "quartiles", "of floor", "asks for")
        mark = f" ({letters[way.name]})" if way.name in letters else ""
        if way.missing:
            cells = ("-", "-", "-", f"missing: {printable(way.missing)}")
        else:
            quartiles = f"{shown(way.low, unit)} .. {shown(way.high, unit)}"
            ratio = f"{shown_ratio(way.of_floor)} {letters[way.floor]}" if way.of_floor else ""
            cells = (shown(way.median, unit), quartiles, ratio, printable(way.cost))
        yield _ROW.format(f"  {way.name}{mark}", *cells)
    yield ""
    for measure in report.measures:
        if measure.missing:
            yield f"{measure.what}: missing: {printable(measure.missing)}"
        else:
            yield f"{measure.what}: {_measured(measure, report)} ({printable(measure.detail)})"


def _measured(measure: Measure, report: Report) -> str:
    """The number. A time or a rate of a relative report is shown as a multiple."""
    numbers = measure.median, measure.low, measure.high
    rates = [other.median for other in report.measures if other.what == UNDISTURBED[0]]
    word = ""
    if measure.unit == "s":
        texts = [shown(number, report.unit() if report.relative else 0.0) for number in numbers]
    elif measure.what in (UNDISTURBED[0], BESIDE[0], CHURN[0]) and report.relative and any(rates):
        texts = [shown_ratio(number / rates[0]) for number in numbers]
    else:
        texts, word = [shown_number(number) for number in numbers], f" {measure.unit}"
    median, low, high = texts
    return f"{median}{word}" + (f" ({low} .. {high})" if low != high else "")


def shown(seconds: float, unit: float = 0.0) -> str:
    """A time for people; as a multiple of `unit` seconds, if that is given."""
    if unit:
        return shown_ratio(seconds / unit)
    for scale, word in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {word}"
    return f"{seconds * 1e9:.3g} ns"


def shown_ratio(ratio: float) -> str:
    """A ratio for people: 3.1x."""
    return f"{shown_number(ratio)}x"


def shown_number(number: float) -> str:
    """A number with three significant digits, or whole."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
