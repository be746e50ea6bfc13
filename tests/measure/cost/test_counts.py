"""P11: what the Python half costs has not risen."""

from __future__ import annotations

import os

import pytest

from tests.measure.cost import committed
from tests.measure.cost.count import against_floor, count
from tests.measure.cost.works import FLOOR
from tests.real.build.debian import HostUnavailable

HOW = "if that is meant, `make counts` writes the new ones, to be committed with the change"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_costs_more_than_is_committed() -> None:
    """Counted and not timed, so that a tenth more shows whatever else the machine does."""
    python = committed.this_python()
    known = committed.read()
    if python not in known:
        pytest.skip(f"no counts are committed for {python}; there are some for {', '.join(known)}")
    try:
        counted = count()
    except HostUnavailable as error:
        if os.environ.get("CI"):
            pytest.fail(f"no valgrind, and CI asks for it: {error}")
        pytest.skip(f"no valgrind: {error}")
    complaints = committed.complaints(against_floor(counted), known[python])
    assert not complaints, "\n".join([*complaints, HOW])


def test_a_tenth_more_is_told() -> None:
    """Less is not, nor what is cheaper."""
    was = {"a pass": 100.0, "a hit": 2.0}
    assert committed.complaints({"a pass": 109.9, "a hit": 1.0}, was) == []
    assert committed.complaints({"a pass": 110.1, "a hit": 2.0}, was) == [
        "a pass: 110.10 floors, 100.00 committed: 10.1% more"
    ]
    assert committed.complaints({"index.by_name(name)": 1.04}, {"index.by_name(name)": 1.0})


def test_works_that_are_not_committed_are_told() -> None:
    """Or that are committed and gone: the file would say what nobody holds to."""
    assert committed.complaints({"new": 1.0}, {"old": 1.0}) == [
        "new: not committed",
        "old: committed, and counted no more",
    ]


def test_each_is_counted_against_the_floor() -> None:
    """Which is one of them."""
    assert against_floor({FLOOR: 200.0, "a hit": 500.0}) == {"a hit": 2.5}
