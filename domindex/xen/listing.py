"""Rows from the bytes of a whole list; what has not changed is not decoded again. No I/O.

A list is compared with the last one in pieces. A piece has the entries of 32 domids, not 32
entries, so that a domain that comes or goes changes its own piece and moves the later ones. A piece
with the same bytes keeps its rows, and is not looked into. New domains mostly have the highest
domids, so mostly nothing moves.

A domain that has not changed has the same row object in both lists. That makes comparing lists of
rows cheap too, see core/listed.py: Python compares two objects only if they are not the same one.

Read after layouts.py; next hypercall.py.
"""

from __future__ import annotations

import bisect
import itertools
import struct
from collections.abc import Callable
from typing import Any, Final

from domindex.domain import FIRST_RESERVED_DOMID
from domindex.errors import HypercallFailed
from domindex.ports import Row

_PIECE: Final = 32
"""Domids of one piece."""


class Listing:
    """The last list, as bytes and as rows. One caller at a time.

    Args:
        entry: Unpacks the entry of one domain, the domid first.
        decode: Makes a row of what `entry` unpacked.
    """

    def __init__(self, entry: struct.Struct, decode: Callable[[tuple[Any, ...]], Row]) -> None:
        self._entry = entry
        self._decode: Callable[[tuple[Any, ...]], Row] = decode
        self._pieces: list[bytes] = []
        self._rows: list[Row] = []  # of all pieces

    def rows(self, raw: bytes) -> list[Row]:
        """The rows of these entries; the same objects as last time where nothing has changed.

        Raises HypercallFailed if the domids do not ascend.
        """
        at = 0
        for number, before in enumerate(self._pieces):
            if not raw.startswith(before, at):
                piece = raw[at : at + len(before)]
                known, rows = self._rows[self._span(at, before)], self._decoded(piece)
                if [row.domid for row in rows] != [row.domid for row in known]:
                    break
                rows = [old if old == row else row for old, row in zip(known, rows, strict=True)]
                self._rows[self._span(at, before)] = rows
                self._pieces[number] = piece
            at += len(before)
        else:
            if at == len(raw):
                return self._rows.copy()
            number = len(self._pieces)
        # From the piece before on: a new domid may belong to it.
        self._cut(raw, max(0, number - 1))
        return self._rows.copy()

    def _cut(self, raw: bytes, number: int) -> None:
        """Make the pieces from this one on again; old ones that are unchanged keep their rows."""
        at = sum(map(len, self._pieces[:number]))
        size = self._entry.size
        known, rows = self._pieces[number:], self._rows[at // size :]
        del self._pieces[number:], self._rows[at // size :]
        old = {}
        for piece in known:
            old[rows[0].domid] = piece, rows[: len(piece) // size]
            del rows[: len(piece) // size]
        last = self._rows[-1].domid if self._rows else -1
        domids = domids_of(memoryview(raw)[at:], size, last)
        first = 0
        while first < len(domids):
            # Domid 0 has a piece of its own: dom0 makes this call, so its times always change.
            domid = domids[first]
            end = bisect.bisect_left(domids, (domid + _PIECE - 1) // _PIECE * _PIECE + 1)
            piece = raw[at + first * size : at + end * size]
            before, rows = old.get(domid, (b"", []))
            self._pieces.append(piece)
            self._rows += rows if piece == before else self._decoded(piece)
            first = end

    def _span(self, at: int, piece: bytes) -> slice:
        """Where its rows are."""
        return slice(at // self._entry.size, (at + len(piece)) // self._entry.size)

    def _decoded(self, piece: bytes) -> list[Row]:
        return list(map(self._decode, self._entry.iter_unpack(piece)))


def domids_of(raw: bytes | memoryview, size: int, last: int = -1) -> list[int]:
    """The domids of entries of this size, behind `last`. Raises HypercallFailed, see `rows`."""
    domids = memoryview(raw).cast("H")[:: size // 2].tolist()
    if domids == sorted({*domids}) and domids[:1] > [last] and domids[-1] < FIRST_RESERVED_DOMID:
        return domids  # nearly always, and without Python code for each domid
    for before, domid in itertools.pairwise((last, *domids)):
        if not before < domid < FIRST_RESERVED_DOMID:
            raise HypercallFailed(f"domid {domid} is listed after {before}")
    return domids
