"""python -m tests.measure.figures.short: the three figures of the README, from RESULTS.md."""

from __future__ import annotations

from tests.measure.figures.__main__ import RESULTS

ROWS = (
    ("`index.by_name(name)` hit", "a look-up by name, whether 2 or 1,000 domains run"),
    ("memory for each of 10,000 domains", "memory for each domain"),
    ("wake-ups in 10 idle seconds", "10 seconds in which nothing happens"),
)
"""The first column there, and what the README calls it."""


def table() -> str:
    """As Markdown. Raises StopIteration if a row is not among the results."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in RESULTS.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    lines = ["| what | measured |", "|---|---|"]
    for measured, called in ROWS:
        what, against, *_, detail = next(row for row in cells if row[0] == measured)
        ours, _, bare = detail.partition(" against ")
        lines.append(f"| {called} | {ours}{f' ({against}: {bare})' if bare else ''} |")
        assert what == measured
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
