"""What the tests of the whole share: ways to wait, to listen, and to step in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from domindex.domain import Domain, DomainInfo
from domindex.errors import StoreError
from domindex.events import DuplicateName, DuplicateUuid, Event, Ready, Synced
from domindex.index import Index
from domindex.infos import Infos
from domindex.options import Timing
from domindex.ports import Hypervisor, LifeState, Row, Store, Watch
from domindex.testing import QUICK, SimulatedHost
from tests.believer import Believer
from tests.delivery_log import DeliveryLog

LIMIT: Final = 5.0
"""Seconds after which what should have happened has failed to."""

CALM: Final = Timing(request=1.0, probe=60.0, audit=600.0, retry=0.005, retry_most=0.05)
"""Nothing happens by itself: neither probe nor audit comes to help during a test."""

SHARP: Final = replace(QUICK, request=0.05)
"""As QUICK, and a deaf line is noticed within a tenth of a second."""


def eventually(condition: Callable[[], object], timeout: float = LIMIT) -> None:
    """Return once `condition()` holds; fail after `timeout`. For what nobody can be told of.

    What can be waited for is waited for: see `Ear.until`. This looks again every millisecond.
    """
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"did not come about within {timeout} s"
        pause.wait(0.001)


class Ear:
    """A handler that keeps what it hears, holds it to P8, and can be waited on.

    log: all that came, which is checked once more at the end of the test, as a whole.
    """

    def __init__(self, index: Index | None = None, *, strict: bool = True) -> None:
        self.events: list[Event] = []
        self.log = DeliveryLog(index)
        self.believer = Believer(strict=strict)
        self._wrong: list[str] = []
        self._changed = threading.Condition()
        self._index = index

    def __call__(self, event: Event) -> None:
        self.log(event)
        if isinstance(event, (Synced, DuplicateName, DuplicateUuid)):
            return  # they change nothing of what one believes
        with self._changed:
            try:
                if self._index is not None:  # P8: the index holds it before it is told
                    assert self._index.generation >= event.generation
                if self.events:
                    assert event.generation >= self.events[-1].generation
                if isinstance(event, Ready):
                    assert event.domain.life not in self.believer.was_ready
                self.believer.hear(event)
            except AssertionError as error:
                self._wrong.append(f"{event}: {error}")
            if not isinstance(event, Ready):  # test_ready.py has the tests of these
                self.events.append(event)
            self._changed.notify_all()

    def until(self, condition: Callable[[], object], timeout: float = LIMIT) -> None:
        """Wait until what was heard makes `condition()` hold."""
        with self._changed:
            came = self._changed.wait_for(lambda: self._wrong or condition(), timeout)
            assert not self._wrong, self._wrong
            assert came, f"not within {timeout} s; heard {self.events}"

    def hear(self, *events: Event, since: int = 0) -> None:
        """Wait until exactly these came after the first `since`."""
        self.until(lambda: len(self.events) >= since + len(events))
        assert self.events[since:] == list(events)

    def count(self, kind: type[Event]) -> int:
        """How many of that kind were heard until now."""
        return sum(isinstance(event, kind) for event in list(self.events))

    def believes(self, domains: Iterable[Domain]) -> None:
        """Wait until what a listener believes is exactly that."""
        expected = {domain.domid: domain for domain in domains}
        ready = {domain.life for domain in expected.values() if domain.ready}
        self.until(lambda: self.believer.domains == expected and ready <= self.believer.was_ready)


def told(index: Iterable[Domain]) -> list[tuple[object, ...]]:
    """What the index says of every domain, without what only the index knows."""
    return [(d.domid, d.uuid, d.name, d.type, d.shutdown) for d in index]


def our_threads() -> list[str]:
    """The threads of this package that are alive."""
    return [t.name for t in threading.enumerate() if t.name.startswith("domindex")]


class Meddler:
    """A host whose calls can be counted, and before and after which something can be done.

    `meddle["read"] = what` runs `what()` once, after the next such call has its answer and
    before the caller gets it; with "before read", before it is sent. "look" is list or get.
    """

    def __init__(self, host: SimulatedHost) -> None:
        self.host = host
        self.meddle: dict[str, Callable[[], object]] = {}
        self.calls: list[str] = []
        self.lines: list[_Line] = []
        self.opened: list[float] = []
        self.hypervisor: _Hypervisor | None = None

    def open_hypervisor(self) -> Hypervisor:
        self.hypervisor = _Hypervisor(self, self.host.open_hypervisor())
        return self.hypervisor

    def open_store(self, timeout: float) -> Store:
        self.opened.append(time.monotonic())
        self.happens("before open")
        line = _Line(self, self.host.open_store(timeout))
        self.lines.append(line)
        return line

    def pending(self) -> bool:
        """Whether the simulated xenstored has sent events that nobody has taken yet."""
        return any(store._queue or store._woken for store in self.host._stores)

    def happens(self, call: str) -> None:
        if not call.startswith("before "):
            self.calls.append(call)
        if (what := self.meddle.pop(call, None)) is not None:
            what()


class _Hypervisor:
    def __init__(self, host: Meddler, behind: Hypervisor) -> None:
        self._host, self._behind = host, behind
        self.version, self.has_unique_ids = behind.version, behind.has_unique_ids
        self.closed = 0

    def list(self) -> Sequence[Row]:
        self._host.happens("before look")
        rows = self._behind.list()
        self._host.happens("list")
        self._host.happens("look")
        return rows

    def get(self, domid: int) -> Row | None:
        self._host.happens("before look")
        row = self._behind.get(domid)
        self._host.happens("get")
        self._host.happens("look")
        return row

    def confirms(self, domain: Domain) -> bool:
        self._host.happens("before look")
        confirmed = self._behind.confirms(domain)
        self._host.happens("confirms")
        self._host.happens("look")
        return confirmed

    def state(self, domid: int) -> LifeState | None:
        state = self._behind.state(domid)
        self._host.happens("state")
        return state

    def info(self, domid: int) -> DomainInfo | None:
        return self._behind.info(domid)

    def infos(self) -> Infos:
        return self._behind.infos()

    def close(self) -> None:
        self.closed += 1
        self._behind.close()


class _Line:
    def __init__(self, host: Meddler, behind: Store) -> None:
        self._host, self._behind = host, behind
        self.forgets = behind.forgets
        self.watched: set[Watch] = set()
        self.waiting = False
        self.closed = 0

    def watch(
        self, watches: Sequence[Watch], *, depth: int | None = None
    ) -> list[StoreError | None]:
        answers = self._behind.watch(watches, depth=depth)
        self.watched |= {
            watch for watch, error in zip(watches, answers, strict=True) if error is None
        }
        self._host.happens("watch")
        return answers

    def unwatch(self, watches: Sequence[Watch]) -> None:
        self._behind.unwatch(watches)
        self.watched -= set(watches)
        self._host.happens("unwatch")

    def read(self, paths: Sequence[bytes]) -> list[bytes | StoreError | None]:
        self._host.happens("before read")
        values = self._behind.read(paths)
        self._host.happens("read")
        return values

    def is_introduced(self, domid: int) -> bool | None:
        return self._behind.is_introduced(domid)

    def barrier(self) -> None:
        self._behind.barrier()
        self._host.happens("barrier")

    def events(self, *, arrived: bool = False) -> Iterable[Watch]:
        return self._behind.events(arrived=arrived)

    def wait(self, timeout: float) -> None:
        self.waiting = True
        try:
            self._behind.wait(timeout)
        finally:
            self.waiting = False
        self._host.happens("wait")

    def wake(self) -> None:
        self._behind.wake()

    def interrupt(self) -> None:
        self._behind.interrupt()

    def close(self) -> None:
        self.closed += 1
        self._behind.close()
