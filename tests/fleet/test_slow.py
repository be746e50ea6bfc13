"""A slow reader on etcd, within a process and as one: it costs nobody else anything."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

import domindex.fleet
from domindex.domain import Domain, Life, OSType
from domindex.events import Renamed
from domindex.fleet import Fleet, FleetEvent, HostEvent, Resync
from domindex.fleet.layout import dom_key, host_key
from domindex.fleet.ports import Claim
from domindex.fleet.records import HostRecord, pack_domain, pack_host
from tests.whole.helpers import eventually

from .processes import child
from .stage import Believer
from .stores import EtcdStore

DOMAINS = 100
WRITES = 220
LONG = "x" * 1800
"""So 45 MB in all. For a reader that takes nothing, etcd and the line hold 128 transactions and
some 5 MB: what it has not got by then is gone.
"""
LIMIT = 30.0


class Written:
    """A host that is written by hand: all of its domains have another name at each write."""

    def __init__(self, claim: Claim) -> None:
        self.names: list[str] = []
        self._claim = claim
        self._writes = 0

    def write(self, first: int = 1) -> None:
        """As one transaction. first: the lowest domid; those below it have ended."""
        self._writes += 1
        before = range(1, len(self.names) + 1)
        domids = range(first, first + DOMAINS)
        self.names = [f"{LONG}-{self._writes}-{domid}" for domid in domids]
        puts = {
            dom_key(self._claim.host, domid): pack_domain(
                Domain(
                    domid, UUID(int=domid), name, OSType.PVH, Life(domid, domid, None, None), 1.0
                ),
                self._writes,
            )
            for domid, name in zip(domids, self.names, strict=True)
        }
        puts[host_key(self._claim.host)] = pack_host(
            HostRecord(
                self._claim.incarnation, self._writes, DOMAINS, True, "live", "m", "boot", 60.0
            )
        )
        gone = [dom_key(self._claim.host, domid) for domid in before if domid < first]
        self._claim.commit(puts, gone)


@pytest.fixture
def written(etcd_store: EtcdStore) -> Written:
    """The host `many`."""
    host = Written(etcd_store.connect().claim("many", "m", 60))
    host.write()
    return host


@pytest.fixture
def beside(etcd_store: EtcdStore) -> Iterator[Fleet]:
    """A reader that is not slow."""
    with domindex.fleet.connect(etcd_store.connect()) as fleet:
        yield fleet


def memory_of(pid: int) -> int:
    """Resident MiB."""
    (line,) = [
        one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in one
    ]
    return int(line.split()[1]) // 1024


def test_a_handler_that_blocks_gets_a_resync_and_delays_nobody(
    written: Written, beside: Fleet
) -> None:
    """Its queue is bounded; the reader and other handlers go on meanwhile."""
    blocks, go_on, resync = threading.Event(), threading.Event(), threading.Event()
    slow, quick = Believer(), Believer()

    def handler(event: FleetEvent) -> None:
        slow(event)
        if isinstance(event, HostEvent) and isinstance(event.event, Renamed):
            blocks.set()
            go_on.wait(LIMIT)
        elif isinstance(event, Resync):
            resync.set()

    with (
        beside.subscribe(handler, queue=5 * DOMAINS),
        beside.subscribe(quick, queue=WRITES * DOMAINS),
    ):
        written.write()
        assert blocks.wait(LIMIT)
        for _ in range(20):
            written.write()
            beside.refresh()
        assert beside.live
        assert beside.stats.overflows == 1
        held = {found.domain.domid: found.domain for found in beside}
        eventually(lambda: quick.domains == {"many": held}, LIMIT)
        assert not resync.is_set()
        go_on.set()
        assert resync.wait(LIMIT)
        assert slow.domains == {"many": held}
        assert sorted(held[domid].name or "" for domid in held) == sorted(written.names)


def test_a_reader_that_is_frozen_amid_many_changes_hears_exactly_the_difference(
    etcd_store: EtcdStore, written: Written, beside: Fleet
) -> None:
    """Of 22,000 changes, which the store has forgotten by then. Nobody else waits for it."""
    server = etcd_store.server.one.pid
    with child("read", etcd_store.server.url, "60") as slow:
        slow.ask("refresh")
        assert slow.ask("heard")["Added"] == DOMAINS
        before = memory_of(server)
        slow.freeze()
        waits = []
        for number in range(WRITES):
            written.write(first=11 if number == WRITES - 1 else 1)
            began = time.monotonic()
            beside.refresh()
            waits.append(time.monotonic() - began)
        etcd_store.compact()
        beside.refresh()
        more = memory_of(server) - before
        assert sorted(found.domain.name or "" for found in beside) == sorted(written.names)
        assert beside.stats.loads == 1
        slow.thaw()
        slow.ask("refresh")
        live, _, names = slow.ask("look")
        assert live
        assert names == sorted(written.names)
        heard = slow.ask("heard")
        assert slow.ask("believes")
        assert heard["Removed"] == heard["Added"] == 10  # some have ended, as many have begun
        assert set(heard) <= {"Removed", "Added", "Ready", "Renamed", "Lost", "Recovered"}
        loads, resumed, drift = slow.ask("stats")
        assert (loads, drift) == (2, 0)
        waits.sort()
        print(
            f"{WRITES} transactions of {DOMAINS} changes: another reader had each after "
            f"{waits[WRITES // 2] * 1000:.1f} ms in the middle, {waits[-1] * 1000:.0f} ms at the "
            f"most; etcd took {more} MiB more; the frozen one resumed {resumed} times and heard "
            f"{heard}"
        )
        assert waits[WRITES // 2] < 0.25  # it is some milliseconds, and 3.5 s if lines were lost
        assert more < 300


def test_a_reader_that_was_frozen_and_missed_nothing_that_is_gone_resumes(
    etcd_store: EtcdStore, written: Written
) -> None:
    """What waits in etcd and in the line is taken in, or asked for again, without a load."""
    with child("read", etcd_store.server.url, "60") as slow:
        slow.ask("refresh")
        slow.ask("heard")
        slow.freeze()
        for _ in range(100):
            written.write()
        slow.thaw()
        slow.ask("refresh")
        assert slow.ask("look")[2] == sorted(written.names)
        heard = slow.ask("heard")
        assert heard["Renamed"] == 100 * DOMAINS
        assert set(heard) <= {"Renamed", "Lost", "Recovered"}
        assert slow.ask("believes")
        assert slow.ask("stats")[0] == 1
