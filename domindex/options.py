"""The settings of an index: how often it checks, and how long it waits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

Stale: TypeAlias = Literal["serve", "refuse", "wait"]
"""What a look-up does while the line to the host is down: answer from what was last known, raise
NotLive, or wait for the line (at most `Timing.wait` seconds)."""


def most_age(stale: Stale, max_stale: float | None) -> float:
    """The age in seconds up to which look-ups are answered from a picture that is out of date.

    -1.0 is never. Raises ValueError, TypeError.
    """
    if max_stale is None:
        return math.inf if stale == "serve" else -1.0
    if not isinstance(max_stale, (int, float)) or isinstance(max_stale, bool):
        raise TypeError(f"max_stale is a number of seconds or None, not {max_stale!r}")
    if stale != "serve" or not max_stale >= 0:
        raise ValueError(f'max_stale is seconds from 0, with stale="serve", not {max_stale!r}')
    return max_stale


@dataclass(frozen=True, slots=True)
class Timing:
    """How often an index checks the host, and how long it waits. All in seconds.

    Attributes:
        request: Time limit of one request to xenstore, and of opening a line.
        probe: Interval of probes. A probe tests the line and lists the domains. It finds what no
            watch event reports: a domain that was not introduced, the end of one that xenstored
            had already released, a new uuid, a resume. It also bounds how long a silent line or
            a watcher that is held up can stay unnoticed: `probe + request` (for the watcher one
            second at least).
        audit: Interval of audits. An audit reads every name and every followed node again, in
            case a watch event was lost.
        retry: First pause before another attempt to open a line that never worked. The pause
            doubles with each attempt and varies at random by up to half. A line that had worked
            is opened again at once.
        retry_most: Longest such pause.
        wait: How long a look-up with `stale="wait"` waits for a line that is down.

    Raises:
        TypeError: A value is no number.
        ValueError: A value is not above 0. Only `probe` and `audit` may be infinite,
            which means never.
    """

    request: float = 5.0
    probe: float = 5.0
    audit: float = 300.0
    retry: float = 0.1
    retry_most: float = 10.0
    wait: float = 10.0

    def __post_init__(self) -> None:
        for name in ("request", "probe", "audit", "retry", "retry_most", "wait"):
            seconds = getattr(self, name)
            may_be_never = name in ("probe", "audit")
            if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
                raise TypeError(f"{name} is a number of seconds, not {seconds!r}")
            if not seconds > 0 or (math.isinf(seconds) and not may_be_never):
                finite = "" if may_be_never else "finite "
                raise ValueError(
                    f"{name} must be a {finite}number of seconds above 0, not {seconds!r}"
                )
