"""What a caller gives for a number: seconds to wait, or a count.

Read after keys.py.
"""

from __future__ import annotations

import threading
from typing import Final

LONGEST: Final = threading.TIMEOUT_MAX / 2
"""Seconds that stand for "without a limit". Half of what the system takes: what is left of a wait
is a difference of floats, and may be rounded up."""


def as_seconds(seconds: object, what: str = "timeout") -> float:
    """A time limit given as a number of seconds, or None for no limit: from 0 to `LONGEST`.

    A number below 0 is 0: it is what is left until a deadline that has passed.

    Args:
        seconds: What the caller gave.
        what: How the caller knows it.

    Raises:
        TypeError: It is neither a number nor None.
        ValueError: It is not a number (NaN).
    """
    if seconds is None:
        return LONGEST
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        raise TypeError(f"{what} is a number of seconds or None, not {seconds!r}")
    if seconds != seconds:
        raise ValueError(f"{what} is a number of seconds or None, not NaN")
    return min(max(0.0, seconds), LONGEST)


def as_count(count: object, what: str, least: float = 0) -> int:
    """A whole number of at least `least`.

    Raises:
        TypeError: It is no int.
        ValueError: It is below that.
    """
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"{what} is an int, not {count!r}")
    if count < least:
        raise ValueError(f"{what} must not be below {least}, not {count}")
    return count
