"""What a look-up does while the picture is out of date: answer, refuse or wait.

Read after liveness.py; next lookups.py, which asks it before each answer that is not a plain hit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from domindex.liveness import Liveness
from domindex.options import Stale

S = TypeVar("S", bound=Stale)
"""What `stale=` may be: a coat whose look-ups must not wait leaves "wait" out."""


class Staleness(Generic[S]):
    """The `stale=` of an index, and of single calls.

    wait: seconds for which `stale="wait"` waits; None if it must not be asked for.
    """

    def __init__(self, picture: Liveness, stale: S, wait: float | None) -> None:
        self._picture = picture
        self._most_wait = wait
        self.default: S = self.checked(stale)
        self.any_age: bool = picture.max_age == math.inf
        """Of an answer; nothing is ever refused."""

    def check(self, stale: Stale | None = None) -> None:
        """Raises Closed, or NotLive where an old answer is not wanted. The lock is held."""
        picture = self._picture
        picture.check_open()
        if stale == "serve" or not (picture.too_old() if stale is None else not picture.live):
            return
        self.wait_if(stale or self.default, lambda: picture.live)
        if not picture.live:
            raise picture.not_live()

    def wait_if(self, stale: Stale, holds: Callable[[], bool]) -> None:
        """Wait until this holds, if `stale` says so. The lock is held, but not in the wait."""
        if stale == "wait" and self._most_wait is not None:
            self._picture.changed.wait_for(
                lambda last: holds() or self._picture.has_ended or last or None, self._most_wait
            )
            self._picture.check_open()

    def checked(self, stale: Any) -> S:
        """What a caller gave for `stale=`. Raises ValueError."""
        if stale == "wait" and self._most_wait is None:
            raise ValueError('stale="wait" would block the loop: await wait_live() instead')
        if stale not in ("serve", "refuse", "wait"):
            raise ValueError(f"stale is 'serve', 'refuse' or 'wait', not {stale!r}")
        return cast(S, stale)
