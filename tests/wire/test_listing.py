"""The rows of a list against those of a fresh decoding, and how much is decoded again."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domindex.domain import OSType
from domindex.errors import HypercallFailed
from domindex.ports import Row
from domindex.xen.listing import Listing

ENTRY = struct.Struct("<HHI")


class Counted:
    """A `Listing` of (domid, cpu time), and what it has decoded since it was last asked."""

    def __init__(self) -> None:
        self.listing = Listing(ENTRY, self._decode)
        self._decoded: list[int] = []

    def _decode(self, entry: tuple[Any, ...]) -> Row:
        self._decoded.append(entry[0])
        return Row(entry[0], bytes(16), OSType.PV, None, False, entry[2], None)

    def rows(self, domains: dict[int, int]) -> list[tuple[int, int]]:
        listed = self.listing.rows(raw(domains.items()))
        return [(row.domid, row.cpu_time) for row in listed]

    def decoded(self) -> list[int]:
        decoded, self._decoded = self._decoded, []
        return decoded


def raw(entries: Any) -> bytes:
    return b"".join(ENTRY.pack(domid, 0, value) for domid, value in entries)


hosts = st.dictionaries(st.integers(0, 150), st.integers(0, 3)).map(
    lambda host: dict(sorted(host.items()))
)


@given(st.lists(hosts, max_size=8))
def test_it_tells_what_is_there(history: list[dict[int, int]]) -> None:
    """P1: whatever came before it, which leaves no smaller pieces behind either."""
    counted = Counted()
    for host in history:
        assert counted.rows(host) == [*host.items()]
        fresh = Counted()
        fresh.rows(host)
        assert counted.listing._pieces == fresh.listing._pieces


@given(hosts, st.lists(st.integers(0, 150), min_size=2, max_size=8), hosts)
def test_a_list_out_of_order_is_refused_and_leaves_nothing(
    before: dict[int, int], domids: list[int], after: dict[int, int]
) -> None:
    """P4."""
    counted = Counted()
    counted.rows(before)
    if domids == sorted(set(domids)):
        domids.append(domids[-1])
    with pytest.raises(HypercallFailed, match="is listed after"):
        counted.listing.rows(raw((domid, 0) for domid in domids))
    assert counted.rows(after) == [*after.items()]


@pytest.mark.parametrize("domid", [0x7FF0, 0xFFFF])
def test_a_domid_that_nobody_can_have_is_refused(domid: int) -> None:
    with pytest.raises(HypercallFailed):
        Counted().rows({0: 0, domid: 0})


def test_what_is_as_it_was_is_not_decoded_again() -> None:
    """P11: a change costs its own piece, wherever it is; an end costs it twice, dom0's one row."""
    counted = Counted()
    host = dict.fromkeys(range(1000), 0)

    def cost(**changes: int) -> int:
        host.update({int(domid[1:]): value for domid, value in changes.items()})
        counted.rows(dict(sorted(host.items())))
        return len(counted.decoded())

    assert cost() == 1000
    assert cost() == 0
    assert cost(d0=1) == 1
    assert 1 <= cost(d500=1) <= 32
    assert 1 <= cost(d1000=0) <= 33  # it comes last
    del host[500]
    assert 1 <= cost() <= 64
    assert 1 <= cost(d500=2) <= 64  # born among others
    assert cost(d2000=0) == 1
