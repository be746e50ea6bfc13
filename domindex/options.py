"""How often and how long: the settings of an index."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

Stale: TypeAlias = Literal["serve", "refuse", "wait"]
"""What a look-up does while the line to the host is down: answer from what was last known, raise
NotLive, or wait for the line (at most `Timing.wait` seconds)."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How often and how long, in seconds.

    request: the limit of one request to xenstore, and of opening a line.
    probe: the line is asked for a sign of life and the domains are listed this often. So what no
        event tells of (a birth that was not introduced, an end after xenstored had let go of the
        domain, a new uuid, a resume) is in the index within that time, and a deaf line or a
        watcher that is held up is noticed within `probe + request` (that one not below a second).
    audit: every name and node is read again this often, in case an event was lost.
    retry, retry_most: the first and the longest pause before a line that never worked is opened
        again; it doubles in between and is jittered by up to half. One that had worked is opened
        again at once.
    wait: how long a look-up with `stale="wait"` waits for a line that is down.

    probe and audit may be infinite, for never. Raises ValueError for what is no such time.
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
            never = name in ("probe", "audit")  # these two may be left out
            if not seconds > 0 or (math.isinf(seconds) and not never):
                raise ValueError(f"{name} is a number of seconds above 0, not {seconds!r}")
