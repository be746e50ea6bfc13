"""The last list and the next: what they differ in, and how little of them is looked at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domindex.core import listed
from domindex.ports import Row
from tests.core.by_hand import row

MANY = st.builds(
    lambda cpu_times: [row(d, cpu_time=cpu_time) for d, cpu_time in sorted(cpu_times.items())],
    st.dictionaries(st.integers(0, 60), st.integers(0, 1), max_size=60),
)


@given(MANY, MANY)
def test_no_difference_of_two_lists_is_missed(before: list[Row], after: list[Row]) -> None:
    """P2: what is given is at least what differs, and of each list nothing twice."""
    old, new = listed._differences(before, after)
    assert set(before) - set(after) <= set(old) <= set(before)
    assert set(after) - set(before) <= set(new) <= set(after)
    assert (len(old), len(new)) == (len(set(old)), len(set(new)))
    domids_before, domids_after = {r.domid for r in before}, {r.domid for r in after}
    assert {r.domid for r in old} - {r.domid for r in new} == domids_before - domids_after


@given(st.integers(0, 999), st.integers(0, 999))
def test_of_two_lists_little_more_than_the_difference_is_looked_at(gone: int, moved: int) -> None:
    """P11: two that differ, wherever they are."""
    before = [row(domid) for domid in range(1000)]
    after = [row(d, cpu_time=d == moved) for d in range(1000) if d != gone]
    old, new = listed._differences(before, after)
    assert len(old) <= 4 * listed._SHORT
    assert len(new) <= 4 * listed._SHORT
