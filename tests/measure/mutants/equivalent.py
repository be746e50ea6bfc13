"""Faults that change nothing a program could see, and why: they are not made.

Each was looked at. What is sure by its kind alone is left out in kinds.py.
"""

from __future__ import annotations

from typing import Final

from tests.measure.mutants.kinds import Mutant

_EQUIVALENT: Final[dict[tuple[str, str], str]] = {}
"""By the function and the difference."""


def why_equivalent(mutant: Mutant) -> str | None:
    """Why no test can notice it; None if one should."""
    return _EQUIVALENT.get((mutant.where, mutant.diff))
