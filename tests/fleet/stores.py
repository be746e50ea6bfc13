"""The two stores that the contract is tried on, with the same things that can happen to them."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Protocol

from domindex.fleet import layout
from domindex.fleet.etcd import wire
from domindex.fleet.memory import MemoryStore
from domindex.fleet.opening import open_engine
from domindex.fleet.ports import TIMEOUT, Batch, Change, Engine, Feed, Progress
from domindex.fleet.url import Endpoint

from .servers import Etcd


class Store(Protocol):
    """What a test does to a store, behind the back of its engines."""

    def connect(self, timeout: float = TIMEOUT) -> Engine: ...
    def put(self, key: str, value: bytes) -> object: ...
    def delete(self, *keys: str) -> object: ...
    def compact(self) -> None: ...
    def wipe(self) -> None: ...
    def stop(self) -> None: ...
    def go_on(self) -> None: ...
    def expire(self, host: str) -> None: ...


class EtcdStore:
    """An etcd of one member, emptied for each test."""

    def __init__(self, server: Etcd) -> None:
        self.server = server
        self._engines: list[Engine] = []
        self._line = self._open()
        self._line.call(
            wire.transaction([], [wire.delete(layout.ROOT, wire.end_of(layout.ROOT))]), 10
        )

    def connect(self, timeout: float = TIMEOUT) -> Engine:
        """A new engine, closed at the end."""
        engine = open_engine(self.server.url, timeout=timeout)
        self._engines.append(engine)
        return engine

    def put(self, key: str, value: bytes) -> None:
        """Fenced by nothing."""
        self._line.call(wire.transaction([], [wire.put(key, value)]), 10)

    def delete(self, *keys: str) -> None:
        """In one transaction."""
        self._line.call(wire.transaction([], [wire.delete(key) for key in keys]), 10)

    def compact(self) -> None:
        """Forget all before now."""
        now = self._line.call(wire.range_of(layout.EPOCH), 10).header.revision
        self.server.ctl("compact", str(now))

    def wipe(self) -> None:
        """Start the server again with nothing."""
        self.server.one.wipe()
        self._line.close()
        self._line = self._open()

    def stop(self) -> None:
        """Freeze it."""
        self.server.one.stop()

    def go_on(self) -> None:
        """After `stop`."""
        self.server.one.go_on()

    def expire(self, host: str) -> None:
        """End the lease that the alive key is under."""
        (alive,) = self._line.call(wire.range_of(layout.alive_key(host)), 10).kvs
        self._line.call(wire.revoke(alive.lease), 10)

    def close(self) -> None:
        """End what the test left open."""
        self.go_on()
        for engine in self._engines:
            engine.close()
        self._line.close()

    def _open(self) -> wire.Line:
        return wire.Line(Endpoint("127.0.0.1", self.server.one.port), None)


__all__ = ["EtcdStore", "MemoryStore", "Store"]


def record(host: str) -> str:
    """The key of a host's record."""
    return layout.host_key(host)


def dom(host: str, domid: int) -> str:
    """The key of a domain."""
    return layout.dom_key(host, domid)


def heard(feed: Feed, position: int, timeout: float = 10.0) -> list[Batch]:
    """The batches up to `position`, which progress says to be all."""
    batches: list[Batch] = []
    feed.ask()
    while True:
        told = feed.next(timeout)
        assert told is not None, f"neither batch nor progress within {timeout} s"
        if isinstance(told, Batch):
            batches.append(told)
        elif told.position >= position:
            return batches
        else:
            feed.ask()


def progress(feed: Feed, timeout: float = 10.0) -> Progress:
    """The next progress; no batch may come before it."""
    told = feed.next(timeout)
    assert isinstance(told, Progress)
    return told


def the_end_of(feed: Feed, timeout: float = 10.0) -> Exception:
    """The error that ends a feed, whatever it tells before."""
    deadline = time.monotonic() + timeout
    try:
        while (left := deadline - time.monotonic()) > 0 and feed.next(left) is not None:
            pass
    except Exception as error:
        return error
    raise AssertionError(f"nothing ended it within {timeout} s")


def applied(pairs: dict[str, bytes], batches: Collection[Batch]) -> dict[str, bytes]:
    """What a reader holds that had `pairs` and heard these batches."""
    now = dict(pairs)
    for batch in batches:
        for change in batch.changes:
            if change.value is None:
                now.pop(change.key, None)
            else:
                now[change.key] = change.value
    return now


def changes(batches: Collection[Batch]) -> list[list[Change]]:
    """The changes of each, by key."""
    return [sorted(batch.changes) for batch in batches]
