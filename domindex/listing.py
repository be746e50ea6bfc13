"""Rows from the bytes of a whole list, without decoding again what is as it was. No I/O.

A list is compared with the one before in pieces, each of the entries of some domids, so that a
domain that comes or goes changes its own piece and no other. Up to there every piece lies where
it lay, and nothing of a piece whose bytes are the same is looked at; most domains come last.
"""

from __future__ import annotations

import bisect
import itertools
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from domindex.domain import FIRST_RESERVED_DOMID
from domindex.errors import HypercallFailed
from domindex.ports import Row

_PIECE: Final = 32
"""Domids of one piece."""


class Listing:
    """The last list, as bytes and as rows. One caller at a time.

    entry: of one domain, the domid first. decode: makes a row of what `entry` unpacks.
    """

    def __init__(self, entry: struct.Struct, decode: Callable[[tuple[Any, ...]], Row]) -> None:
        self._entry = entry
        self._decode = decode
        self._pieces: list[tuple[bytes, Sequence[Row]]] = []

    def rows(self, raw: bytes) -> list[Row]:
        """The rows of these entries; the very same ones where nothing has changed.

        Raises HypercallFailed if the domids do not follow each other.
        """
        listed: list[Row] = []
        at = 0
        for number, (before, rows) in enumerate(self._pieces):
            piece = raw[at : at + len(before)]
            if piece != before:
                known, rows = rows, self._decoded(piece)
                if [row.domid for row in rows] != [row.domid for row in known]:
                    break
                rows = [old if old == row else row for old, row in zip(known, rows, strict=True)]
                self._pieces[number] = piece, rows
            listed += rows
            at += len(piece)
        else:
            if at == len(raw):
                return listed
            number = len(self._pieces)
        number = max(0, number - 1)  # the piece before may have room for what comes now
        elsewhere = self._pieces[number:]
        del self._pieces[number:]
        at = sum(len(piece) for piece, _ in self._pieces)
        del listed[at // self._entry.size :]
        self._pieces += self._cut(raw[at:], listed[-1].domid if listed else -1, elsewhere)
        for _, rows in self._pieces[number:]:
            listed += rows
        return listed

    def _cut(
        self, raw: bytes, last: int, known: Sequence[tuple[bytes, Sequence[Row]]]
    ) -> list[tuple[bytes, Sequence[Row]]]:
        """The pieces of what comes after the domid `last`; `known` may be among them."""
        size = self._entry.size
        domids = _in_order(last, memoryview(raw).cast("H")[:: size // 2].tolist())
        old = {rows[0].domid: (piece, rows) for piece, rows in known}
        pieces: list[tuple[bytes, Sequence[Row]]] = []
        at = 0
        while at < len(domids):
            # dom0, which has always changed as it is the one that asks, is apart.
            domid = domids[at]
            end = bisect.bisect_left(domids, (domid + _PIECE - 1) // _PIECE * _PIECE + 1)
            piece = raw[at * size : end * size]
            before, rows = old.get(domid, (b"", ()))
            pieces.append((piece, rows if piece == before else self._decoded(piece)))
            at = end
        return pieces

    def _decoded(self, piece: bytes) -> list[Row]:
        return [*map(self._decode, self._entry.iter_unpack(piece))]


def _in_order(last: int, domids: list[int]) -> list[int]:
    if domids == sorted({*domids}) and domids[:1] > [last] and domids[-1] < FIRST_RESERVED_DOMID:
        return domids  # nearly always, and found out without a line of Python for each
    for before, domid in itertools.pairwise((last, *domids)):
        if not before < domid < FIRST_RESERVED_DOMID:
            raise HypercallFailed(f"domid {domid} is listed after {before}")
    return domids
