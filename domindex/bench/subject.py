"""What is asked about: a host, its domains, and the one of them that every way looks for."""

from __future__ import annotations

from dataclasses import dataclass

from domindex.domain import NIL_UUID, Domain
from domindex.ports import Host
from domindex.testing import SimulatedHost

ABSENT = "domindex-bench-no-such-domain"
"""A name that nobody gives a domain, for misses."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A host as it was found.

    domains: all of it, lowest domid first.
    target: the one in the middle, so that a scan that ends at a hit has half of them to read:
        its mean. Dom0 only where there is no guest with a name and a uuid of its own.
    """

    host: Host
    domains: tuple[Domain, ...]
    target: Domain

    @classmethod
    def of(cls, host: Host, domains: tuple[Domain, ...]) -> Subject:
        """Chosen from what the host has. Raises ValueError without any domain."""
        if not domains:
            raise ValueError("a host has at least its own domain")
        names = [domain.name for domain in domains]
        uuids = [domain.uuid for domain in domains]
        usable = [
            domain
            for domain in domains
            if domain.name
            and names.count(domain.name) == uuids.count(domain.uuid) == 1
            and domain.uuid != NIL_UUID
            and domain.domid
        ]
        return cls(host, domains, usable[len(usable) // 2] if usable else domains[0])

    @property
    def simulated(self) -> bool:
        """No Xen is asked."""
        return isinstance(self.host, SimulatedHost)

    @property
    def guests(self) -> bool:
        """The target is one, with a uuid of its own."""
        return self.target.uuid != NIL_UUID

    @property
    def domids(self) -> list[int]:
        return [domain.domid for domain in self.domains]

    @property
    def name(self) -> str:
        """Of the target."""
        return self.target.name or ""
