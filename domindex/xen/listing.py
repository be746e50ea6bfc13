"""Rows from the bytes of a whole list, without decoding again what is as it was. No I/O.

A list is compared with the one before in pieces, each of the entries of some domids, so that a
domain that comes or goes changes its own piece and no other. Up to there every piece lies where
it lay, and nothing of a piece whose bytes are the same is looked at; most domains come last.
"""

from __future__ import annotations

import bisect
import itertools
import struct
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from domindex.domain import FIRST_RESERVED_DOMID, DomainInfo
from domindex.errors import HypercallFailed
from domindex.ports import Row

R = TypeVar("R", Row, DomainInfo)

_PIECE: Final = 32
"""Domids of one piece."""


class Listing(Generic[R]):
    """The last list, as bytes and as rows. One caller at a time.

    entry: of one domain, the domid first. decode: makes a row of what `entry` unpacks.
    """

    def __init__(self, entry: struct.Struct, decode: Callable[[tuple[Any, ...]], R]) -> None:
        self._entry = entry
        self._decode: Callable[[tuple[Any, ...]], R] = decode
        self._pieces: list[bytes] = []
        self._rows: list[R] = []  # of all pieces

    def rows(self, raw: bytes) -> list[R]:
        """The rows of these entries; the very same ones where nothing has changed.

        Raises HypercallFailed if the domids do not follow each other.
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
        self._cut(raw, max(0, number - 1))  # the piece before may have room for what comes now
        return self._rows.copy()

    def _cut(self, raw: bytes, number: int) -> None:
        """Make pieces and rows anew from that piece on, of the old ones where they are there."""
        at = sum(map(len, self._pieces[:number]))
        size = self._entry.size
        known, rows = self._pieces[number:], self._rows[at // size :]
        del self._pieces[number:], self._rows[at // size :]
        old = {}
        for piece in known:
            old[rows[0].domid] = piece, rows[: len(piece) // size]
            del rows[: len(piece) // size]
        last = self._rows[-1].domid if self._rows else -1
        domids = _in_order(last, memoryview(raw)[at:].cast("H")[:: size // 2].tolist())
        first = 0
        while first < len(domids):
            # dom0, which has always changed as it is the one that asks, is apart.
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

    def _decoded(self, piece: bytes) -> list[R]:
        return list(map(self._decode, self._entry.iter_unpack(piece)))


def _in_order(last: int, domids: list[int]) -> list[int]:
    if domids == sorted({*domids}) and domids[:1] > [last] and domids[-1] < FIRST_RESERVED_DOMID:
        return domids  # nearly always, and found out without a line of Python for each
    for before, domid in itertools.pairwise((last, *domids)):
        if not before < domid < FIRST_RESERVED_DOMID:
            raise HypercallFailed(f"domid {domid} is listed after {before}")
    return domids
