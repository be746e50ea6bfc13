"""The last list of domains, and in what the next one differs from it. No I/O.

Read after scope.py; reconcile.py uses it.

Nearly all rows of a list are those of the list before. `ports.Hypervisor.list` gives such a row
again as the same object, so that most of two lists is compared without a line of Python for each.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from operator import itemgetter
from typing import Final

from domindex.core.scope import Scope
from domindex.domain import FIRST_RESERVED_DOMID
from domindex.ports import Row

DOMID: Final = itemgetter(0)
"""Of a row."""

_SHORT: Final = 32
"""Rows of which it is not worth finding out which have changed."""


class LastList:
    """What was listed last, by domid."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def compared(self, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
        """What there was and what there is in `rows`, without most of what is in both."""
        return _differences(self._rows, _as_list(rows))

    def keep(self, rows: Sequence[Row], scope: Scope) -> None:
        """Compare the next list with this one. `rows` is all that there is of `scope`."""
        if scope is Scope.ALL:
            self._rows = _as_list(rows)
            return
        for domid in scope.domids:
            at = bisect_left(self._rows, domid, key=DOMID)
            if at < len(self._rows) and self._rows[at].domid == domid:
                del self._rows[at]
        for row in rows:
            insort(self._rows, row, key=DOMID)


def _as_list(rows: Sequence[Row]) -> list[Row]:
    return rows if isinstance(rows, list) else [*rows]


def _differences(before: list[Row], after: list[Row]) -> tuple[list[Row], list[Row]]:
    """Of two lists by domid all in which they differ, and little else.

    Cost: what is alike, so nearly all, is compared without a line of Python for each row.
    """
    rest = before.copy()
    rest[:1] = after[:1]
    if rest == after:
        return before[:1], after[:1]  # dom0 alone, which has always changed: it is who asks
    old: list[Row] = []
    new: list[Row] = []
    i = j = 0
    while i < len(before) or j < len(after):
        end_i, end_j = i + _SHORT, j + _SHORT
        if before[i:end_i] != after[j:end_j]:
            limit = before[end_i].domid if end_i < len(before) else FIRST_RESERVED_DOMID
            end_j = bisect_left(after, limit, j, key=DOMID)  # go on at the same domid
            old += before[i:end_i]
            new += after[j:end_j]
        i, j = end_i, end_j
    return old, new
