"""What came of a sample, for people. Read after trial.py; next __main__.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from tests.measure.mutants.kinds import NO_FAULT
from tests.measure.mutants.trial import Outcome


def report(known: Sequence[Outcome]) -> str:
    """How many are noticed, in all and in each file, and the others one by one."""
    known = sorted(known, key=lambda outcome: outcome.mutant)
    controls = [outcome for outcome in known if outcome.mutant.kind == NO_FAULT]
    tried = [outcome for outcome in known if outcome.mutant.kind != NO_FAULT]
    return "\n".join(
        [
            "# Faults that no test noticed",
            "",
            *_table(tried),
            "",
            *(f"- {count} noticed: {how}" for how, count in _ways(tried)),
            f"- Of {len(controls)} places without a fault, tests failed at "
            f"{sum(not outcome.survived for outcome in controls)}.",
            "",
            *(line for outcome in tried if outcome.survived for line in _one(outcome)),
            *(line for outcome in known if outcome.error for line in _error(outcome)),
        ]
    )


def _table(tried: Sequence[Outcome]) -> Iterator[str]:
    yield "| file | tried | noticed | not noticed | errors |"
    yield "|---|---|---|---|---|"
    for file, outcomes in groupby(tried, key=lambda outcome: outcome.mutant.file):
        yield _row(f"`{file}`", [*outcomes])
    yield _row("all", tried)


def _row(name: str, outcomes: Sequence[Outcome]) -> str:
    noticed = sum(outcome.noticed is not None for outcome in outcomes)
    survived = sum(outcome.survived for outcome in outcomes)
    share = f"{noticed} ({noticed / max(1, noticed + survived):.1%})"
    return f"| {name} | {len(outcomes)} | {share} | {survived} | {_errors(outcomes)} |"


def _errors(outcomes: Sequence[Outcome]) -> int:
    return sum(outcome.error is not None for outcome in outcomes)


def _ways(tried: Sequence[Outcome]) -> list[tuple[str, int]]:
    """How they were noticed, the most frequent way first."""
    ways = (outcome.noticed for outcome in tried if outcome.noticed is not None)
    kinds = ("a test failed" if way.startswith("tests/") else way.split(":")[0] for way in ways)
    return Counter(kinds).most_common()


def _one(outcome: Outcome) -> Iterator[str]:
    mutant = outcome.mutant
    yield f"`{mutant.file}:{mutant.line}` {mutant.where}, {mutant.kind}; "
    yield f"{outcome.ran} of the {outcome.reached} tests that reach it ran"
    yield from ("", "```diff", mutant.diff, "```", "")
    yield from (f"- {test}" for test in outcome.tests)
    yield ""


def _error(outcome: Outcome) -> Iterator[str]:
    mutant = outcome.mutant
    yield f"Could not be tried: `{mutant.file}:{mutant.line}` {mutant.where}, {mutant.kind}"
    yield from ("", "```", outcome.error or "", "```", "")
