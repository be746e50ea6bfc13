"""What has been logged already, so that what is refused again and again is logged once.

Used by looks.py and following.py.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Final

from domindex.errors import HostError
from domindex.stats import Counters

log: logging.Logger = logging.getLogger("domindex")

_KEPT: Final = 256
"""Complaints that are remembered. A host that refuses more is logged again: memory has a bound."""


class Complaints:
    """Warnings about what a host refuses. Outlives the lines.

    counters: have the number of all refusals.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._logged: dict[object, int | None] = {}  # by what it is about: the errno

    def refused(self, what: bytes, error: HostError) -> None:
        """The host has refused this: a path, or a question about a domain."""
        self._counters.refusals += 1
        self.log(what, error.errno, str(error))

    def log(self, about: object, errno: int | None, sentence: str) -> None:
        """Log it, unless the same was logged before. Never fails."""
        if about in self._logged and self._logged[about] == errno:
            return
        if len(self._logged) > _KEPT:
            self._logged.clear()
        self._logged[about] = errno
        with contextlib.suppress(Exception):
            log.warning("%s", sentence)
