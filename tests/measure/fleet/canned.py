"""A fleet of any size in a store: the keys that publishers would have written, without hosts."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

from domindex.domain import Domain, Life, OSType
from domindex.fleet import layout
from domindex.fleet.errors import Alive
from domindex.fleet.etcd import wire
from domindex.fleet.records import HostRecord, pack_domain, pack_host
from domindex.fleet.url import parse_url
from tests.fleet.servers import Etcd

MOST = 128  # operations that one transaction may have
_SECONDS = 60.0  # for one call

Call: TypeAlias = Callable[[wire.Message], wire.Message]
"""Sends one request, and gives its answer."""


class Canned:
    """So many hosts, all live, with so many domains each. Every uuid and name is another one."""

    def __init__(self, hosts: int, domains: int) -> None:
        self.hosts, self.domains = hosts, domains
        self._random = random.Random(1)
        self._changed = 0

    def pairs(self, number: int) -> Iterator[tuple[str, bytes]]:
        """All keys of one host but the one that says who publishes it."""
        host = name_of(number)
        yield layout.host_key(host), self._record(number, 1)
        for domid in range(1, self.domains + 1):
            yield layout.dom_key(host, domid), self._domain(number, domid, f"vm-{number}-{domid}")

    def alive(self, number: int) -> tuple[str, bytes]:
        """The key that says who publishes it, and its value."""
        alive = Alive(f"i{number}", f"m{number}")
        return layout.alive_key(name_of(number)), layout.pack_alive(alive)

    def everything(self) -> Iterator[tuple[str, bytes]]:
        """All keys of all hosts."""
        for number in range(self.hosts):
            yield self.alive(number)
            yield from self.pairs(number)

    def rename(self) -> dict[str, bytes]:
        """What one publisher commits when one of its domains gets another name: see `sent_at`."""
        self._changed += 1
        number = self._random.randrange(self.hosts)
        domid = self._random.randrange(self.domains) + 1
        return {
            layout.dom_key(name_of(number), domid): self._domain(
                number, domid, f"vm-{number}-{domid}-{time.monotonic()!r}"
            ),
            layout.host_key(name_of(number)): self._record(number, 1 + self._changed),
        }

    def _record(self, number: int, generation: int) -> bytes:
        return pack_host(
            HostRecord(
                f"i{number}", generation, self.domains, True, "live", f"m{number}", "boot", 15.0
            )
        )

    def _domain(self, number: int, domid: int, name: str) -> bytes:
        unique = number * 100_000 + domid
        uuid = UUID(int=(unique << 64) | (unique * 0x9E3779B97F4A7C15 & (1 << 64) - 1))
        life = Life(domid, unique, None, None)
        return pack_domain(Domain(domid, uuid, name, OSType.PVH, life, 1.7e9 + unique), 1)


def sent_at(name: str) -> float:
    """When the rename to this name was made, by `time.monotonic`."""
    return float(name.rpartition("-")[2])


def name_of(number: int) -> str:
    """Of a host."""
    return f"xen{number}"


@contextmanager
def line_to(server: Etcd) -> Iterator[Call]:
    """A plain line to an etcd: what it answers to one request."""
    line = wire.Line(parse_url(server.url)[0], None)
    try:
        yield lambda request: line.call(request, _SECONDS)
    finally:
        line.close()


def fill(call: Call, canned: Canned) -> None:
    """Write all of it."""
    operations = [wire.put(layout.EPOCH, b"canned")]
    for key, value in canned.everything():
        operations.append(wire.put(key, value))
        if len(operations) == MOST:
            call(wire.transaction([], operations))
            operations = []
    if operations:
        call(wire.transaction([], operations))


def under_leases(call: Call, canned: Canned) -> list[int]:
    """Put each alive key under a lease of its own that does not run out; these leases."""
    leases = []
    for number in range(canned.hosts):
        leases.append(call(wire.grant(3600)).ID)
        key, value = canned.alive(number)
        call(wire.transaction([], [wire.put(key, value, leases[-1])]))
    return leases


def commit(call: Call, puts: dict[str, bytes]) -> int:
    """One transaction of a publisher; the revision that it made."""
    operations = [wire.put(key, value) for key, value in puts.items()]
    return int(call(wire.transaction([], operations)).header.revision)


def cpu_of(pid: int) -> float:
    """Seconds of processor time that a process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int) -> int:
    """Bytes that a process holds in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024
