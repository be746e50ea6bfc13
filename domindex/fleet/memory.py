"""An engine in memory: for tests, examples, and one process that has several indexes.

Read after memory_server.py; next url.py.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Mapping
from typing import Final

from domindex import forking
from domindex.errors import Closed
from domindex.fleet import layout
from domindex.fleet.errors import Alive, Fenced, HostTaken, LineLost, TooOld
from domindex.fleet.memory_server import MemoryServer
from domindex.fleet.ports import (
    SILENCE,
    TIMEOUT,
    Batch,
    Health,
    Loaded,
    Progress,
    check_claim,
    check_commit,
)
from domindex.limits import as_seconds

_BEAT: Final = SILENCE / 2


class MemoryStore(MemoryServer):
    """A store in memory. Each `connect` is a line to it."""

    def connect(self, timeout: float = TIMEOUT) -> MemoryEngine:
        """A new line. timeout: seconds that a stopped store is waited for."""
        return MemoryEngine(self, timeout)


class MemoryEngine:
    """A line to a `MemoryStore`. As `ports.Engine`."""

    def __init__(self, store: MemoryServer, timeout: float = TIMEOUT) -> None:
        self.store = store
        self._timeout = as_seconds(timeout)
        self._closed = ""
        forking.register(self._forked)

    def claim(self, host: str, machine: str, ttl: float) -> MemoryClaim:
        """As `Engine.claim`."""
        check_claim(host, machine, ttl)
        alive, key = Alive(uuid.uuid4().hex, machine), layout.alive_key(host)
        self.check()
        with self.store.changed:
            if self.store.held(layout.EPOCH) is None:
                self.store.write({layout.EPOCH: uuid.uuid4().hex.encode("ascii")})
            before = self.store.held(key)
            if before is not None:
                holder = layout.unpack_alive(before.value) or Alive("", "")
                if holder.machine != machine:
                    raise HostTaken(host, holder)
            lease = self.store.grant(ttl)
            self.store.write({key: layout.pack_alive(alive)}, lease=lease)
            if before is not None and before.lease is not None:
                self.store.revoke(before.lease)
            record = self.store.held(layout.host_key(host))
        return MemoryClaim(self, host, alive, ttl, lease, record.position if record else 0)

    def load(self, hosts: Collection[str] | None = None) -> Loaded:
        """As `Engine.load`."""
        self.check()
        names = layout.check_hosts(hosts or ())
        prefixes = [layout.ROOT] if hosts is None else list(map(layout.dom_prefix, names))
        with self.store.changed:
            position, pairs = self.store.read(prefixes)
            for host in names:
                for key in (layout.alive_key(host), layout.host_key(host)):
                    if (held := self.store.held(key)) is not None:
                        pairs[key] = held.value
        epoch = pairs.pop(layout.EPOCH, None)  # not read where only hosts are asked for
        first = sorted(pairs.items(), key=lambda pair: (pair[0].startswith(layout.DOM), pair[0]))
        return Loaded(_text(epoch), position, iter(first))

    def follow(self, position: int, epoch: str | None) -> MemoryFeed:
        """As `Engine.follow`."""
        self.check(0)
        return MemoryFeed(self, position, epoch)

    def position(self, timeout: float | None = None) -> int:
        """As `Engine.position`."""
        self.check(self._timeout if timeout is None else as_seconds(timeout))
        return self.store.read(())[0]

    def replace(self, host: str, expected: bytes, record: bytes | None) -> int:
        """As `Engine.replace`."""
        key = layout.host_key(layout.check_host(host))
        self.check()
        with self.store.changed:
            alive = self.store.held(layout.alive_key(host))
            held = self.store.held(key)
            if alive is not None or held is None or held.value != expected:
                raise Fenced(host, layout.unpack_alive(alive.value) if alive else None)
            if record is not None:
                return self.store.write({key: record})
            _, domains = self.store.read([layout.dom_prefix(host)])
            return self.store.write({}, [key, *domains])

    def health(self) -> Health:
        """As `Engine.health`."""
        self.check()
        held = self.store.held(layout.EPOCH)
        warnings = ["the store is full: no write is taken"] if self.store.full else []
        return Health(
            "memory", "", _text(held and held.value), {"memory": ""}, None, None, warnings
        )

    def close(self) -> None:
        """As `Engine.close`."""
        self._close("the engine was closed")

    def check(self, timeout: float | None = None) -> None:
        """Raises Closed, or LineLost if the store does not answer in the time."""
        if self._closed:
            raise Closed(self._closed)
        if not self.store.answers(self._timeout if timeout is None else timeout):
            raise LineLost("the store in memory is stopped")
        if self._closed:
            raise Closed(self._closed)

    @property
    def closed(self) -> str:
        """Why it is closed; "" if it is not."""
        return self._closed

    def _close(self, why: str) -> None:
        with self.store.changed:
            self._closed = self._closed or why
            self.store.changed.notify_all()

    def _forked(self) -> None:
        self._close("the engine was opened by the parent of this forked process")


class MemoryClaim:
    """As `ports.Claim`."""

    def __init__(
        self, engine: MemoryEngine, host: str, alive: Alive, ttl: float, lease: int, last: int
    ) -> None:
        self.host = host
        self.incarnation: str = alive.incarnation
        self.ttl = ttl
        self._engine = engine
        self._store = engine.store
        self._mine = layout.pack_alive(alive)
        self._lease = lease
        self._last = last  # where the host's record is: nobody else may have written it
        self._released = False

    def commit(self, puts: Mapping[str, bytes], deletes: Collection[str] = ()) -> int:
        """As `Claim.commit`."""
        check_commit(self.host, puts, deletes)
        self._engine.check()
        with self._store.changed:
            self._fence()
            self._last = self._store.write(puts, deletes)
            return self._last

    def renew(self) -> None:
        """As `Claim.renew`."""
        self._engine.check()
        with self._store.changed:
            self._fence()
            self._store.renew(self._lease)

    def release(self, puts: Mapping[str, bytes] | None = None) -> None:
        """As `Claim.release`."""
        if self._released:
            return
        if puts is not None:
            check_commit(self.host, puts, ())
        self._engine.check()
        with self._store.changed:
            self._fence()
            self._store.write(puts or {}, [layout.alive_key(self.host)])
            self._store.revoke(self._lease)
        self._released = True

    def _fence(self) -> None:
        alive = self._store.held(layout.alive_key(self.host))
        record = self._store.held(layout.host_key(self.host))
        is_mine = alive is not None and alive.value == self._mine
        if self._released or not is_mine or (record.position if record else 0) != self._last:
            raise Fenced(self.host, self._holder())

    def _holder(self) -> Alive | None:
        held = self._store.held(layout.alive_key(self.host))
        if held is None or held.value == self._mine:
            return None
        return layout.unpack_alive(held.value)


class MemoryFeed:
    """As `ports.Feed`."""

    def __init__(self, engine: MemoryEngine, position: int, epoch: str | None) -> None:
        self._engine = engine
        self._store = engine.store
        self._from = self._position = position
        self._epoch = epoch
        self._wiped = engine.store.wiped
        self._due = 0.0  # when Progress is to be told
        self._error: Exception | None = None
        self._closed = False

    def next(self, timeout: float | None = None) -> Batch | Progress | None:
        """As `Feed.next`."""
        deadline = time.monotonic() + as_seconds(timeout)
        with self._store.changed:
            while True:
                if self._closed or self._engine.closed:
                    raise Closed(self._engine.closed or "the feed was closed")
                if self._error is not None:
                    raise self._error
                try:
                    found = self._look()
                except (LineLost, TooOld) as error:
                    self._error = error
                    raise
                now = time.monotonic()
                if found is not None:
                    return found
                if now >= deadline:
                    return None
                until = min(deadline, self._due) - now
                self._store.changed.wait(max(0.0, min(until, self._store.next_expiry())))

    def ask(self) -> None:
        """As `Feed.ask`."""
        with self._store.changed:
            self._due = 0.0
            self._store.changed.notify_all()

    def close(self) -> None:
        """As `Feed.close`."""
        with self._store.changed:
            self._closed = True
            self._store.changed.notify_all()

    def _look(self) -> Batch | Progress | None:
        if self._store.stopped:
            raise LineLost("the store in memory is stopped")
        if self._store.wiped != self._wiped:
            raise LineLost("the store in memory was started anew, with nothing in it")
        found = self._store.since(self._position)
        held = self._store.held(layout.EPOCH)
        epoch = _text(held and held.value)
        if epoch != self._epoch:
            # The first publisher of all made it, unless it should have been loaded already.
            if self._epoch is not None or held is None or held.position <= self._from:
                raise TooOld("the store is another one: it has another epoch")
            self._epoch = epoch
        if isinstance(found, Batch):
            self._position = found.position
            return found
        if time.monotonic() < self._due:
            return None
        self._due = time.monotonic() + _BEAT
        return Progress(found)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("ascii", "backslashreplace")
