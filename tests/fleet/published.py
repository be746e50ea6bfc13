"""Simulated hosts that are published to a store by its URL, and what a reader has of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import domindex
import domindex.fleet
from domindex.domain import Domain
from domindex.fleet import Fleet
from domindex.fleet.url import Tls
from domindex.index import Index
from domindex.testing import SimulatedHost

TTL = 2.0


@dataclass(frozen=True)
class Published:
    """A simulated host that is published."""

    host: SimulatedHost
    index: Index
    publisher: domindex.fleet.Publisher

    def flush(self) -> None:
        """Return once all of it is in the store."""
        self.index.refresh()
        self.publisher.flush(20)


@contextmanager
def published(
    url: str, name: str, *guests: str, tls: Tls | None = None, ttl: float = TTL
) -> Iterator[Published]:
    """A host with these guests."""
    with SimulatedHost() as host:
        for guest in guests:
            host.create(guest)
        with (
            host.connect() as index,
            domindex.fleet.publish(
                index, url, host=name, machine=f"m-{name}", lock=False, ttl=ttl, tls=tls
            ) as publisher,
        ):
            yield Published(host, index, publisher)


def names(fleet: Fleet, host: str) -> set[str | None]:
    """The names on a host."""
    return {found.domain.name for found in fleet.find(host=host)}


def all_of(heard: domindex.fleet.FleetStream) -> list[domindex.fleet.FleetEvent]:
    """What waits for a listener."""
    found = []
    while True:
        try:
            found.append(heard.get(0))
        except domindex.TimedOut:
            return found


def without_dom0(index: Index) -> dict[int, Domain]:
    """What a host publishes."""
    return {domid: domain for domid, domain in index.snapshot().items() if domid}
