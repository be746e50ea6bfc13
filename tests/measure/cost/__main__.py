"""python -m tests.measure.cost: count, and write counts.json and RESULTS.md beside this file."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.measure.cost import committed
from tests.measure.cost.count import against_floor, count
from tests.measure.cost.works import FLOOR
from tests.real.build.debian import HostUnavailable

RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> int:
    try:
        counted = count()
    except HostUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    floors = against_floor(counted)
    before = committed.read().get(committed.this_python(), {})
    committed.write(floors)
    RESULTS.write_text(table(counted, floors), encoding="utf-8")
    for what, number in floors.items():
        was = f", was {before[what]:,.2f}" if what in before else ""
        print(f"{what}: {number:,.2f}{was}")
    return 0


def table(counted: dict[str, float], floors: dict[str, float]) -> str:
    """What is shown to people."""
    return "\n".join(
        [
            "# Instructions",
            "",
            f"`make counts`, {committed.this_python()}. Callgrind counts the same each time; the",
            f"floor is `{FLOOR}` of a plain dict, in a loop. An event's work is all of the index",
            "from there to the table; of the hypercall and of xenstore there is only the answer.",
            "",
            "| what | instructions | floors |",
            "|---|---|---|",
            *(
                f"| {f'`{what}`' if '(' in what or '[' in what else what} | {number:,.0f} "
                f"| {floors.get(what, 1.0):,.2f} |"
                for what, number in counted.items()
            ),
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
