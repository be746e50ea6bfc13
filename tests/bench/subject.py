"""What is asked about: a host, its domains, and the one of them that every way looks for.

Read after questions.py; next ways.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from domindex import Domain
from domindex.ports import Host
from domindex.testing import SimulatedHost

ABSENT = "domindex-bench-no-such-domain"
"""A name that no domain has, for misses."""

_NIL = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Subject:
    """A host at the start of the run.

    domains: all of it, lowest domid first.
    target: the one in the middle, so that a scan that ends at a hit reads half of them, which is
        its mean. Dom0 only where there is no guest with a name and a uuid of its own.
    """

    host: Host
    domains: tuple[Domain, ...]
    target: Domain

    @classmethod
    def of(cls, host: Host, domains: tuple[Domain, ...]) -> Subject:
        """Choose the target. Raises ValueError without any domain."""
        if not domains:
            raise ValueError("a host has at least its own domain")
        names = [domain.name for domain in domains]
        uuids = [domain.uuid for domain in domains]
        usable = [
            domain
            for domain in domains
            if domain.name
            and names.count(domain.name) == uuids.count(domain.uuid) == 1
            and domain.uuid != _NIL
            and domain.domid
        ]
        return cls(host, domains, usable[len(usable) // 2] if usable else domains[0])

    @property
    def simulated(self) -> bool:
        """Whether there is no Xen."""
        return isinstance(self.host, SimulatedHost)

    @property
    def name_paths(self) -> list[bytes]:
        """The node of each domain's name in xenstore."""
        return [b"/local/domain/%d/name" % domain.domid for domain in self.domains]

    @property
    def name(self) -> str:
        """The target's."""
        return self.target.name or ""
