"""The walk of `tests.real.inside.walk` on the simulated host, where it can be long.

The real host walks the same in `tests.real.inside.test_walk`. DOMINDEX_SEED repeats a walk,
DOMINDEX_STEPS sets its length.
"""

from __future__ import annotations

import os

import pytest

from domindex.testing import SimulatedHost
from tests.real.inside.walk import Walk, go, seed, steps
from tests.whole.helpers import CALM

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


@pytest.mark.timeout(3600 if LONG else 60)
def test_walk(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    """2,000 steps a day, 100,000 at length, over the four kinds of host."""
    chosen = seed()
    length = steps((100_000 if LONG else 2_000) // 4)
    with capsys.disabled():
        print(f"\nwalk of {length} steps: DOMINDEX_SEED={chosen}")
    try:
        with host.connect(timing=CALM) as index:
            go(Walk(host, chosen, host.cut_line), index, host, length)
    except BaseException as error:
        error.add_note(f"DOMINDEX_SEED={chosen} DOMINDEX_STEPS={length}")
        raise
