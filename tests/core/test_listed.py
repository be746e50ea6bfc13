"""The last list and the next: what they differ in, and how little of them is looked at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domindex.core import listed
from domindex.core.listed import LastList
from domindex.core.scope import Scope
from domindex.ports import Row
from tests.core.by_hand import row

MANY = st.builds(
    lambda cpu_times: [row(d, cpu_time=cpu_time) for d, cpu_time in sorted(cpu_times.items())],
    st.dictionaries(st.integers(0, 60), st.integers(0, 1), max_size=60),
)
FEW = st.builds(
    lambda cpu_times: [row(d, cpu_time=cpu_time) for d, cpu_time in sorted(cpu_times.items())],
    st.dictionaries(st.integers(0, 7), st.integers(0, 2)),
)
SCOPE = st.just(Scope.ALL) | st.builds(Scope, st.sets(st.integers(0, 8)))


def tell_apart(old: list[Row], new: list[Row], before: list[Row], after: list[Row]) -> None:
    """What is given is at least what differs, and of each list nothing twice."""
    assert set(before) - set(after) <= set(old) <= set(before)
    assert set(after) - set(before) <= set(new) <= set(after)
    assert (len(old), len(new)) == (len(set(old)), len(set(new)))
    domids_before, domids_after = {r.domid for r in before}, {r.domid for r in after}
    assert {r.domid for r in old} - {r.domid for r in new} == domids_before - domids_after


@given(MANY, MANY)
def test_no_difference_of_two_lists_is_missed(before: list[Row], after: list[Row]) -> None:
    """P2: nor is a row told of as gone that is there."""
    tell_apart(*listed._differences(before, after), before, after)


@given(st.lists(st.tuples(FEW, SCOPE, SCOPE)), st.sampled_from((1, 2, 32)))
def test_the_last_list_is_all_that_was_seen_last(
    steps: list[tuple[list[Row], Scope, Scope]], short: int
) -> None:
    """P2: whole lists and looks at some, asked about before and after, beside a plain dict.

    short: so that few rows are compared in pieces too.
    """
    model: dict[int, Row] = {}
    last = LastList()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listed, "_SHORT", short)
        for rows, *scopes in steps:
            for scope in scopes:  # the very same list twice, as far as it is looked at
                before = [model[domid] for domid in sorted(model)]
                tell_apart(*last.compared(rows), before, rows)
                whole = scope is Scope.ALL
                seen = rows if whole else [r for r in rows if r.domid in scope.domids]
                for domid in [*model] if whole else scope.domids:
                    model.pop(domid, None)
                model |= {r.domid: r for r in seen}
                last.keep(tuple(seen), scope)


@given(st.integers(0, 999), st.integers(0, 999))
def test_of_two_lists_little_more_than_the_difference_is_looked_at(gone: int, moved: int) -> None:
    """P11: two that differ, wherever they are."""
    before = [row(domid) for domid in range(1000)]
    after = [row(d, cpu_time=d == moved) for d in range(1000) if d != gone]
    old, new = listed._differences(before, after)
    assert len(old) <= 4 * listed._SHORT
    assert len(new) <= 4 * listed._SHORT


def test_of_a_list_that_comes_again_only_the_first_row_is_looked_at() -> None:
    """P11: that is dom0, whose cpu time has always moved on: it is who asks."""
    before = [row(domid) for domid in range(1000)]
    after = [row(0, cpu_time=5), *before[1:]]
    assert listed._differences(before, after) == (before[:1], after[:1])
