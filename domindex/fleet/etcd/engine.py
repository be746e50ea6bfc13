"""The engine on etcd: load at one revision, follow, claim.

Read after claim.py; next fleet/opening.py.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from typing import Final

from domindex.fleet import layout
from domindex.fleet.errors import EngineError, Fenced
from domindex.fleet.etcd import wire
from domindex.fleet.etcd.claim import EtcdClaim, holder_of, make_claim
from domindex.fleet.etcd.feed import EtcdFeed
from domindex.fleet.etcd.members import Members
from domindex.fleet.etcd.versions import advice, dotted, rights_advice
from domindex.fleet.ports import TIMEOUT, Health, Loaded, check_claim
from domindex.fleet.url import Endpoint, Tls
from domindex.limits import as_seconds

_HOSTS: Final = 50
"""Hosts whose domains are loaded by one request. Not by `limit`: etcd counts the rest each time."""


class EtcdEngine:
    """As `ports.Engine`. Nothing is sent before the first call.

    Args:
        endpoints: Its members, or some of them. Those named first are asked first.
        tls: Certificates; None: the line is neither secret nor proven.
        timeout: Seconds for each call, however many members are asked.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], tls: Tls | None = None, timeout: float = TIMEOUT
    ) -> None:
        self._members = Members(endpoints, tls, timeout)
        self._feeds: weakref.WeakSet[EtcdFeed] = weakref.WeakSet()

    def claim(self, host: str, machine: str, ttl: float) -> EtcdClaim:
        """As `Engine.claim`. etcd gives a lease whole seconds, and no fewer than 2."""
        check_claim(host, machine, ttl)
        return make_claim(self._members, host, machine, ttl)

    def load(self, hosts: Collection[str] | None = None) -> Loaded:
        """As `Engine.load`. One request, and one more for each 50 hosts as they are iterated."""
        if hosts is not None:
            return self._load_some(layout.check_hosts(hosts))
        first = self._members.call(
            wire.transaction(
                [],
                [
                    wire.read(wire.range_of(layout.EPOCH)),
                    wire.read(wire.below(layout.ALIVE)),
                    wire.read(wire.below(layout.HOST)),
                ],
            )
        )
        epoch, alive, records = (one.response_range for one in first.responses)
        position = first.header.revision
        self._members.begin(first.header.cluster_id, first.header.raft_term)
        small = wire.pairs(alive) + wire.pairs(records)
        return Loaded(
            wire.text(epoch.kvs[0].value) if epoch.kvs else None,
            position,
            self._with_domains(small, position),
        )

    def follow(self, position: int, epoch: str | None) -> EtcdFeed:
        """As `Engine.follow`."""
        self._members.check()
        feed = EtcdFeed(self._members, position, epoch)
        self._feeds.add(feed)
        return feed

    def position(self, timeout: float | None = None) -> int:
        """As `Engine.position`."""
        limit = None if timeout is None else as_seconds(timeout)
        answer = self._members.call(wire.range_of(layout.EPOCH, count_only=True), limit)
        return int(answer.header.revision)

    def replace(self, host: str, expected: bytes, record: bytes | None) -> int:
        """As `Engine.replace`."""
        key = layout.host_key(layout.check_host(host))
        if record is not None:
            change = [wire.put(key, record)]
        else:
            domains = layout.dom_prefix(host)
            change = [wire.delete(key), wire.delete(domains, wire.end_of(domains))]
        answer = self._members.call(
            wire.transaction(
                [wire.is_from(layout.alive_key(host), 0), wire.has_value(key, expected)], change
            ),
            once=True,
        )
        if not answer.succeeded:
            raise Fenced(host, holder_of(self._members, host))
        return int(answer.header.revision)

    def health(self) -> Health:
        """As `Engine.health`."""
        versions, sizes, members = [], [], {}
        warnings: list[str] = []
        for endpoint, answer in self._members.each(self._members.timeout).items():
            if isinstance(answer, Exception):
                members[str(endpoint)] = str(answer)
                continue
            version, status = answer
            versions.append(version)
            members[str(endpoint)] = "; ".join(status.errors) if status is not None else ""
            if status is not None:
                sizes.append(int(status.dbSizeInUse))
        lowest = min(versions, default=None)
        if lowest is not None:
            warnings += filter(None, [advice(lowest), rights_advice(lowest)])
        epoch = None
        try:
            found = self._members.call(wire.range_of(layout.EPOCH)).kvs
            epoch = wire.text(found[0].value) if found else None
        except EngineError as error:
            warnings.append(f"the epoch cannot be read: {error}")
        version_text = "" if lowest is None else dotted(lowest)
        return Health(
            "etcd", version_text, epoch, members, max(sizes, default=None), None, warnings
        )

    def close(self) -> None:
        """As `Engine.close`."""
        for feed in list(self._feeds):
            feed.close()
        self._members.close()

    def _with_domains(
        self, small: list[tuple[str, bytes]], position: int
    ) -> Iterator[tuple[str, bytes]]:
        yield from small
        names = sorted(
            layout.dom_prefix(key.removeprefix(layout.HOST))
            for key, _ in small
            if key.startswith(layout.HOST)
        )
        # The blocks together are all that is below DOM, hosts without a record included.
        bounds = [layout.DOM, *islice(names, _HOSTS, None, _HOSTS), wire.end_of(layout.DOM)]
        requests = [wire.range_of(*block, revision=position) for block in pairwise(bounds)]
        # One block is on its way while the one before is taken in: etcd and we work at once.
        with ThreadPoolExecutor(1, "domindex-load") as ahead:
            coming = ahead.submit(self._members.call, requests[0])
            for request in requests[1:]:
                block = coming.result()
                coming = ahead.submit(self._members.call, request)
                yield from wire.pairs(block)
            yield from wire.pairs(coming.result())

    def _load_some(self, hosts: Sequence[str]) -> Loaded:
        position, found = 0, []
        for host in hosts:
            ranges = [
                wire.range_of(layout.alive_key(host), revision=position),
                wire.range_of(layout.host_key(host), revision=position),
                wire.below(layout.dom_prefix(host), revision=position),
            ]
            answer = self._members.call(wire.transaction([], map(wire.read, ranges)))
            position = position or answer.header.revision
            found.append([wire.pairs(one.response_range) for one in answer.responses])
        small = [pair for alive, record, _ in found for pair in alive + record]
        domains = [pair for _, _, block in found for pair in block]
        return Loaded(None, position or self.position(), iter(small + domains))
