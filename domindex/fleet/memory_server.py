"""The store of an engine in memory: what a server would be.

It misbehaves on request, in the ways that real stores were seen to.

Read after ports.py; next memory.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

from domindex import forking
from domindex.fleet import layout
from domindex.fleet.errors import EngineFull, TooOld
from domindex.fleet.ports import NEW, Batch, Change

KEPT: Final = 10_000
"""Batches that are kept for feeds. A feed that is further behind has to load anew."""


class Held(NamedTuple):
    """A value, where it was written, and the lease that it is under."""

    value: bytes
    position: int
    lease: int | None


class MemoryServer:
    """What the lines of one or more `MemoryEngine` lead to.

    One lock guards it all. A caller that holds it over several calls makes them one transaction.

    Attributes:
        full: Writes are refused, as by an etcd whose quota is used up.
        changed: The lock, notified with each change.
        wiped: How often it was. A server that is emptied is started anew, so every line breaks.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.full = False
        self.wiped: int = 0
        self.changed: threading.Condition = threading.Condition(forking.rlock())
        self._clock = clock
        self._pairs: dict[str, Held] = {}
        self._history: list[Batch] = []
        self._position = NEW
        self._leases: dict[int, tuple[float, float]] = {}  # seconds, and when it runs out
        self._made = 0
        self._stopped = False

    # What can happen to a store.

    def stop(self) -> None:
        """Answer nobody until `go_on`. Leases wait meanwhile, as those of etcd do not."""
        with self.changed:
            self._stopped = True
            self.changed.notify_all()

    def go_on(self) -> None:
        """Answer again."""
        with self.changed:
            self._stopped = False
            self.changed.notify_all()

    def compact(self) -> None:
        """Forget how it came to be as it is: who is behind must load anew."""
        with self.changed:
            self._history.clear()
            self.changed.notify_all()

    def wipe(self) -> None:
        """Lose everything, and begin again at position 1."""
        with self.changed:
            self._pairs.clear()
            self._history.clear()
            self._leases.clear()
            self._position = NEW
            self.wiped += 1
            self.changed.notify_all()

    def expire(self, host: str) -> None:
        """Let the lease of a host run out now."""
        with self.changed:
            held = self._pairs.get(layout.alive_key(host))
            if held is not None and held.lease is not None:
                self._revoke(held.lease)

    def put(self, key: str, value: bytes) -> int:
        """Write as an administrator or a broken client would, fenced by nothing."""
        with self.changed:
            return self._write({key: value}, ())

    def delete(self, *keys: str) -> int:
        """Delete as an administrator would."""
        with self.changed:
            return self._write({}, keys)

    # What engines ask. Each holds the lock for its whole length: that is a transaction.

    def read(self, prefixes: Collection[str]) -> tuple[int, dict[str, bytes]]:
        """The position, and everything below these prefixes in the order of keys.

        Args:
            prefixes: How the wanted keys begin. None wanted gives the position alone.
        """
        with self.changed:
            self._expire()
            held = sorted(self._pairs.items())
            wanted = tuple(prefixes)
            return self._position, {k: h.value for k, h in held if k.startswith(wanted)}

    def held(self, key: str) -> Held | None:
        """One key."""
        with self.changed:
            self._expire()
            return self._pairs.get(key)

    def write(
        self, puts: Mapping[str, bytes], deletes: Collection[str] = (), lease: int | None = None
    ) -> int:
        """Write one batch.

        Args:
            puts: Values by key.
            deletes: Keys. Those that are not there are left out of the batch.
            lease: What the puts are under, if anything.

        Returns:
            The new position; the old one if nothing changed.

        Raises:
            EngineFull: There is something to put, and no room.
        """
        with self.changed:
            self._expire()
            if self.full and puts:
                raise EngineFull("the store is full: no write is taken")
            return self._write(puts, deletes, lease)

    def grant(self, ttl: float) -> int:
        """A new lease."""
        with self.changed:
            self._made += 1
            self._leases[self._made] = (ttl, self._clock() + ttl)
            return self._made

    def renew(self, lease: int) -> bool:
        """Whether it was still there."""
        with self.changed:
            self._expire()
            if lease not in self._leases:
                return False
            ttl, _ = self._leases[lease]
            self._leases[lease] = (ttl, self._clock() + ttl)
            return True

    def revoke(self, lease: int) -> None:
        """End it, and delete what is under it."""
        with self.changed:
            self._revoke(lease)

    def since(self, position: int) -> Batch | int:
        """The batch after `position`, or the position of the store if that is all.

        Raises TooOld.
        """
        with self.changed:
            self._expire()
            if position == self._position:
                return position
            first = self._history[0].position if self._history else self._position + 1
            if not first - 1 <= position < self._position:
                raise TooOld(
                    f"the store at position {self._position} tells nothing since {position}"
                )
            # Each write is one position further, so the place in the list follows from it.
            return self._history[position - first + 1]

    def answers(self, timeout: float) -> bool:
        """Whether it is not stopped, or goes on within the time."""
        with self.changed:
            return self.changed.wait_for(lambda: not self._stopped, timeout)

    @property
    def stopped(self) -> bool:
        """It answers nobody."""
        return self._stopped

    def next_expiry(self) -> float:
        """Seconds until the next lease runs out."""
        with self.changed:
            ends = [end for _, end in self._leases.values()]
            return max(0.0, min(ends, default=float("inf")) - self._clock())

    def _write(
        self, puts: Mapping[str, bytes], deletes: Collection[str], lease: int | None = None
    ) -> int:
        gone = [key for key in dict.fromkeys(deletes) if key in self._pairs]
        if not puts and not gone:
            return self._position
        self._position += 1
        changes = [Change(key, None) for key in gone]
        for key in gone:
            del self._pairs[key]
        for key, value in puts.items():
            self._pairs[key] = Held(value, self._position, lease)
            changes.append(Change(key, value))
        self._history.append(Batch(self._position, changes))
        if len(self._history) > 2 * KEPT:
            del self._history[:KEPT]
        self.changed.notify_all()
        return self._position

    def _revoke(self, lease: int) -> None:
        if self._leases.pop(lease, None) is not None:
            self._write({}, [key for key, held in self._pairs.items() if held.lease == lease])

    def _expire(self) -> None:
        now = self._clock()
        if not self._stopped:
            for lease in [lease for lease, (_, end) in self._leases.items() if end <= now]:
                self._revoke(lease)
