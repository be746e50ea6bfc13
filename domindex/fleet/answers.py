"""The errors of look-ups in a fleet: those of an index, with the hosts in them.

Read after states.py; next lookups.py.
"""

from __future__ import annotations

from domindex.domain import Domain, printable
from domindex.errors import Ambiguous, DomindexError, NotLive
from domindex.fleet.states import Found, HostState

_NAMED = 5


class SeveralFound(Ambiguous):
    """Several domains have this key: on several hosts, or on one.

    Attributes:
        key: What was looked up.
        found: Every one, by host and domid.
        domains: The same without their hosts.
    """

    def __init__(self, what: str, key: object, found: tuple[Found, ...]) -> None:
        places = ", ".join(f"{f.domain.domid} on {f.host} ({f.state})" for f in found[:_NAMED])
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        DomindexError.__init__(
            self,
            f"{what} {key!r} belongs to domains {places}{more}; settled=True takes the one that "
            f"has arrived, among= asks of some hosts only, all_by_{what}() gives all",
        )
        self.key = key
        self.found = found
        self.domains: tuple[Domain, ...] = tuple(f.domain for f in found)


class HostsSilent(NotLive):
    """It is on no host that can tell, and some hosts cannot tell now.

    Attributes:
        hosts: These, by name, and their states.
    """

    def __init__(self, what: str, key: object, hosts: dict[str, HostState]) -> None:
        some = ", ".join(f"{name} ({state})" for name, state in list(hosts.items())[:_NAMED])
        more = f" and {len(hosts) - _NAMED} more" if len(hosts) > _NAMED else ""
        super().__init__(
            f"cannot tell: no host that can tell has {what} {key!r}, and these cannot: "
            f"{some}{more}; a host that is off is declared so with declare_offline()"
        )
        self.hosts = hosts


class OldAnswer(NotLive):
    """There is an answer, but it is older than `max_age=` allows.

    Attributes:
        found: That answer.
    """

    def __init__(self, found: Found, age: float, max_age: float) -> None:
        super().__init__(
            f"cannot tell: host {found.host} is {found.state}, and what it said of "
            f"{printable(found.domain.name or '')!r} held {age:.1f} s ago, not {max_age:g} s"
        )
        self.found = found


class NoSuchHost(DomindexError, KeyError):
    """This reader knows no host of that name.

    Attributes:
        host: The name.
    """

    def __init__(self, host: str) -> None:
        super().__init__(f"no host {host!r} is known; fleet.hosts has those that are")
        self.host = host

    def __str__(self) -> str:
        return Exception.__str__(self)


class HostIsLive(DomindexError, RuntimeError):
    """A host that somebody publishes cannot be forgotten or declared offline: stop that first."""

    def __init__(self, host: str, state: HostState) -> None:
        super().__init__(f"host {host!r} is {state}: stop its publisher first")
        self.host = host
