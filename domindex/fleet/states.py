"""What a fleet answers with: a domain, the host that said so, and how much that is worth now.

Read after domain.py and layout.py; next records.py.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from domindex.domain import Domain, Life


class HostState(enum.StrEnum):
    """What is known of a host. A str: it prints and compares as its word.

    Attributes:
        LIVE: What it said last holds now.
        SYNCING: Its publisher has begun to write and is not done. What was known before counts.
        BLIND: Its publisher lives, but its index does not follow the host.
        LOST: Nobody publishes it: it ended, or its lease ran out. It may run on all the same.
        OFFLINE: An operator has said that it is off. It counts as holding no domain until it
            returns by itself.
    """

    LIVE = "live"
    SYNCING = "syncing"
    BLIND = "blind"
    LOST = "lost"
    OFFLINE = "offline"


class Confirmed(Protocol):
    """What a status asks of the picture that it is in."""

    @property
    def confirmed(self) -> float:
        """Up to when, on the reader's clock, the picture is known to be whole."""

    @property
    def clock(self) -> object:
        """Gives seconds that never go back."""


@dataclass(frozen=True, slots=True)
class Status:
    """One state of a host for as long as it lasts, shared by the answers from that host.

    Attributes:
        host: Its name.
        boot: Which boot of that host; "" if it does not say.
        state: See `HostState`.
        reason: Why, where that is known; "" otherwise.
        since: When the reader saw it begin, on its own clock (`reader_clock`).
        as_of: Until when its last word is known to have held; None while it holds on.
        reader: The picture of the reader.
    """

    host: str
    boot: str
    state: HostState
    reason: str
    since: float
    as_of: float | None
    reader: Confirmed


class HostLife(NamedTuple):
    """One run of a domain under one domid in one boot of one host.

    The unique ids of Xen begin anew with each boot, so the boot belongs to it.
    """

    host: str
    boot: str
    life: Life


class Found:
    """A domain, and the host that it runs on. It never changes: look it up again for news.

    Attributes:
        domain: What that host's index said of it.
        status: The state of that host, with a reason.
    """

    __match_args__ = ("host", "domain", "state")
    __slots__ = ("_until", "domain", "status")

    domain: Domain
    status: Status

    def __init__(self, domain: Domain, status: Status) -> None:
        self.domain = domain
        self.status = status
        self._until: float | None = None

    @property
    def host(self) -> str:
        """The name of the host."""
        return self.status.host

    @property
    def state(self) -> HostState:
        """What was known of that host: live, syncing, blind or lost."""
        return self.status.state

    @property
    def life(self) -> HostLife:
        """What stays the same as long as this domain runs there: a key for your own dicts."""
        return HostLife(self.status.host, self.status.boot, self.domain.life)

    @property
    def as_of(self) -> float:
        """Until when this is known to have been so, on the reader's clock (`CLOCK_BOOTTIME`).

        It moves on while the host is live and this is its last word. `-inf`: longer ago than the
        reader has been looking.
        """
        if self._until is not None:
            return self._until
        fixed = self.status.as_of
        return self.status.reader.confirmed if fixed is None else fixed

    def close(self) -> None:
        """There is a newer word. For the picture that gave it out."""
        self._until = self.as_of

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Found):
            return NotImplemented
        return (self.host, self.state, self.domain) == (other.host, other.state, other.domain)

    def __hash__(self) -> int:
        return hash((self.host, self.domain))

    def __repr__(self) -> str:
        return f"Found(host={self.host!r}, domain={self.domain!r}, state={self.state.value!r})"

    def __reduce__(self) -> tuple[object, ...]:
        as_of = self.as_of
        status = self.status
        fixed = Status(
            status.host, status.boot, status.state, status.reason, status.since, as_of, _NOBODY
        )
        return Found, (self.domain, fixed)


class _Nobody:
    confirmed = -math.inf
    clock = None

    def __reduce__(self) -> str:
        return "_NOBODY"


_NOBODY = _Nobody()


class HostView(NamedTuple):
    """A host as it was at one moment. Given by `fleet.hosts`.

    Attributes:
        host: Its name.
        state: See `HostState`.
        reason: Why, where that is known; "" otherwise.
        generation: Of its index, at which it said what is held; -1 if it has said nothing whole.
        domains: How many it has, or had when it was last heard.
        since: When this state began, on the reader's clock (`CLOCK_BOOTTIME`).
        as_of: Until when its last word is known to have held; `-inf` if that is not known.
        machine: The machine-id that it published with, hashed; "" if that is not known.
        unreadable: Domids of which the store holds what cannot be read.
    """

    host: str
    state: HostState
    reason: str
    generation: int
    domains: int
    since: float
    as_of: float
    machine: str
    unreadable: tuple[int, ...]
