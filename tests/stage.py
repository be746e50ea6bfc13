"""Where a test plays: a host, simulated or real, and the toolstack that changes it.

The tests of `contract/` and `scenarios/` are written once and run on both: here on the
simulated host, in the dom0 of a real one with DOMINDEX_DOM0 set. What both do is `Toolstack`.
"""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar
from uuid import UUID

import domindex
from domindex.domain import Domain
from domindex.events import Added, Event, Renamed
from domindex.ports import Host
from domindex.testing import SimulatedHost

IN_DOM0 = bool(os.environ.get("DOMINDEX_DOM0"))
PATIENCE = 60.0 if IN_DOM0 else 10.0
"""Seconds that anything may take. An emulated host is some 50 times slower than it looks."""

E = TypeVar("E", bound=Event)


class Toolstack(Protocol):
    """What changes a host. `SimulatedHost` and `tests.dom0.toolstack.RealHost` both do it."""

    def create(
        self,
        name: str | bytes | None = None,
        *,
        uuid: UUID | None = None,
        type: str = "pv",
        domid: int | None = None,
        introduce: bool = True,
    ) -> int: ...
    def rename(self, domid: int, name: str | bytes | None) -> None: ...
    def shutdown(self, domid: int, reason: int = 0) -> None: ...
    def crash(self, domid: int) -> None: ...
    def pause(self, domid: int) -> None: ...
    def unpause(self, domid: int) -> None: ...
    def change_handle(self, domid: int, uuid: UUID) -> None: ...
    def destroy(self, domid: int, *, order: str = "libxl") -> None: ...
    def leave_node(self, domid: int, name: str | bytes) -> None: ...
    def clear_node(self, domid: int) -> None: ...
    def zombie(self, domid: int) -> Callable[[], None]: ...
    def domids(self) -> list[int]: ...
    def close(self) -> None: ...


@dataclass
class Heard:
    """A listener that keeps what it hears, and lets a test wait for it."""

    events: list[Event] = field(default_factory=list)
    _queue: queue.Queue[Event] = field(default_factory=queue.Queue)

    def __call__(self, event: Event) -> None:
        self._queue.put(event)

    def until(self, kind: type[E] | tuple[type[E], ...], **wanted: object) -> E:
        """The next event of this kind whose domain (or new domain) has these attributes."""
        deadline = time.monotonic() + PATIENCE
        while (left := deadline - time.monotonic()) > 0:
            try:
                event = self._queue.get(timeout=left)
            except queue.Empty:
                break
            self.events.append(event)
            subject = getattr(event, "domain", getattr(event, "new", None))
            if isinstance(event, kind) and all(
                getattr(subject, key) == value for key, value in wanted.items()
            ):
                return event
        raise AssertionError(f"no {kind} with {wanted}; heard {self.events}")

    def named(self, domid: int, name: str | None) -> Domain:
        """The domain, once it is told to be called `name`: as it is added, or a moment later.

        It exists before its name is written, and the index may have looked in between.
        """
        while True:
            event = self.until((Added, Renamed), domid=domid)
            assert isinstance(event, (Added, Renamed))
            domain = event.domain if isinstance(event, Added) else event.new
            if domain.name == name:
                return domain

    def rest(self) -> list[Event]:
        """What has come since, without waiting."""
        found = []
        while not self._queue.empty():
            found.append(self._queue.get())
        self.events += found
        return found


@dataclass
class Stage:
    """A host with the toolstack to change it. `only` narrows what is looked at to its own."""

    host: Host
    toolstack: Toolstack
    real: bool

    @contextmanager
    def index(self) -> Iterator[tuple[domindex.Index, Heard]]:
        """The live index, and a listener that has heard of all that was there before."""
        with domindex.connect(self.host, timeout=PATIENCE) as index:
            heard = Heard()
            present = len(index)
            with index.subscribe(heard):
                for _ in range(present):
                    heard.until(Added)
                yield index, heard


@contextmanager
def stage(transport: str | None = None, *, newest: bool = False) -> Iterator[Stage]:
    """The stage of this machine: the real host in a dom0 of the tests, else a simulated one.

    newest: the simulated one with what only the newest Xen has.
    """
    if not IN_DOM0:
        with SimulatedHost(unique_ids=newest, watch_depth=newest) as simulated:
            yield Stage(simulated, simulated, real=False)
        return
    from tests.dom0.toolstack import RealHost

    toolstack = RealHost()
    try:
        yield Stage(domindex.XenHost(transport=transport), toolstack, real=True)
    finally:
        toolstack.close()


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait for what nothing tells of. Only for outsiders' state; else wait for an event."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"it never came to be that {what}"
        time.sleep(0.01)


def believed(events: list[Event], start: list[Domain]) -> dict[int, Domain]:
    """What a listener that heard these events holds to be running."""
    held = {domain.domid: domain for domain in start}
    for event in events:
        match event:
            case domindex.Added(domain):
                assert domain.domid not in held
                held[domain.domid] = domain
            case domindex.Removed(domain):
                assert held.pop(domain.domid) == domain
            case domindex.Renamed(old, new) | domindex.Changed(old, new):
                assert held[old.domid] == old
                held[new.domid] = new
            case domindex.ShutDown(domain):
                held[domain.domid] = domain
    return held
