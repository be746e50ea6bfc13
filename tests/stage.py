"""Where a test plays: a host, simulated or real, and the toolstack that changes it.

The tests of `contract/` and `scenarios/` are written once and run on both: here on the
simulated host, in the dom0 of a real one with DOMINDEX_DOM0 set. What both do is `Toolstack`.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Protocol, TypeVar
from uuid import UUID

import domindex
from domindex.domain import Domain
from domindex.events import Added, Changed, Event, Lost, Recovered, Removed, Renamed, ShutDown
from domindex.ports import Host, Hypervisor, Store
from domindex.testing import SimulatedHost
from tests.delivery_log import DeliveryLog

IN_DOM0 = bool(os.environ.get("DOMINDEX_DOM0"))
PATIENCE = 60.0 if IN_DOM0 else 10.0
"""Seconds that anything may take. An emulated host is some 50 times slower than it looks."""

LIVES = (Added, Renamed, ShutDown, Changed, Removed, Lost, Recovered)
"""The events that a tale is made of."""

E = TypeVar("E", bound=Event)


class Toolstack(Protocol):
    """What changes a host: `SimulatedHost`, or RealHost of `tests.real.inside.toolstack`."""

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
    def write(self, domid: int, path: str, value: bytes | None) -> None: ...
    def shutdown(self, domid: int, reason: int = 0) -> None: ...
    def crash(self, domid: int) -> None: ...
    def pause(self, domid: int) -> None: ...
    def unpause(self, domid: int) -> None: ...
    def change_handle(self, domid: int, uuid: UUID) -> None: ...
    def introduce(self, domid: int) -> None: ...
    def release(self, domid: int) -> None:
        """xenstored gives up its connection to a domain that goes on."""
        ...

    def resume(self, domid: int) -> None: ...
    def soft_reset(self, domid: int) -> None: ...
    def destroy(self, domid: int, *, order: str = "libxl") -> None:
        """End it. Its nodes are removed before, which an index that looks in between sees
        ("libxl"), or stay until `clear_node` ("xapi")."""
        ...

    def leave_node(self, domid: int, name: str | bytes) -> None: ...
    def clear_node(self, domid: int) -> None: ...
    def zombie(self, domid: int) -> Callable[[], None]: ...
    def domids(self) -> list[int]: ...
    def close(self) -> None: ...


@dataclass
class Heard:
    """A listener that keeps what it hears, and lets a test wait for it."""

    events: list[Event] = field(default_factory=list)
    subscription: domindex.Subscription | None = None
    log: DeliveryLog | None = None
    """Keeps all that came, if it is to be checked as a whole."""
    _queue: queue.Queue[Event] = field(default_factory=queue.Queue)

    def __call__(self, event: Event) -> None:
        if self.log is not None:
            self.log(event)
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

    def told(self, index: domindex.Index) -> list[Event]:
        """All that is told of what is complete on the host by now, not given out before."""
        index.refresh(timeout=PATIENCE)
        assert self.subscription is not None
        assert self.subscription.drain(PATIENCE)
        return self.rest()


class Eyelid:
    """A host seen through something that can be shut: then nobody looks, and all wait.

    Both a real and a simulated host can so be changed several times between two looks.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._shut = threading.Lock()

    @contextmanager
    def shut(self) -> Iterator[None]:
        """In this block no list is made and no name is read."""
        with self._shut:
            yield

    def open_hypervisor(self) -> Hypervisor:
        opened = self._host.open_hypervisor()
        _behind(self._shut, opened, "list", "get", "unique_id")
        return opened

    def open_store(self, timeout: float) -> Store:
        opened = self._host.open_store(timeout)
        _behind(self._shut, opened, "read")
        return opened


def _behind(lock: threading.Lock, port: object, *methods: str) -> None:
    for method in methods:
        setattr(port, method, _locked(lock, getattr(port, method)))


def _locked(lock: threading.Lock, call: Callable[..., object]) -> Callable[..., object]:
    def locked(*arguments: object, **named: object) -> object:
        with lock:
            return call(*arguments, **named)

    return locked


@dataclass
class Stage:
    """A host with the toolstack to change it. `only` narrows what is looked at to its own."""

    host: Host
    toolstack: Toolstack
    real: bool

    def __post_init__(self) -> None:
        self._eyelid = Eyelid(self.host)

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """What happens to the host in this block, the index first sees after it, all at once."""
        with self._eyelid.shut():
            yield

    @contextmanager
    def index(
        self, timing: domindex.Timing | None = None
    ) -> Iterator[tuple[domindex.Index, Heard]]:
        """The live index, and a listener that has heard of all that was there before.

        At the end all that it received is held to what is promised of deliveries.
        """
        with domindex.connect(self._eyelid, timing=timing, timeout=PATIENCE) as index:
            log = DeliveryLog(index, duplicates=False)
            heard = Heard(log=log)
            present = len(index)
            with index.subscribe(heard, events=LIVES) as heard.subscription:
                for _ in range(present):
                    heard.until(Added)
                yield index, heard
                log.check_whole(heard.subscription, PATIENCE)


KINDS: Final = {
    "plain": partial(SimulatedHost, idle=True),
    "newest": partial(SimulatedHost, unique_ids=True, watch_depth=True, idle=True),
    "depth": partial(SimulatedHost, watch_depth="paths", idle=True),
}
"""The simulated hosts that are played on: as Xen was up to 4.20, with what C xenstored and Xen
have of the newest, and with a new oxenstored on an older Xen."""


@contextmanager
def stage(transport: str | None = None, *, kind: str = "plain") -> Iterator[Stage]:
    """The stage of this machine: the real host in a dom0 of the tests, else a simulated one.

    kind: of the simulated one; see `KINDS`.
    """
    if not IN_DOM0:
        with KINDS[kind]() as simulated:
            yield Stage(simulated, simulated, real=False)
        return
    from tests.real.inside.toolstack import RealHost

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


def tale(events: Sequence[Event]) -> list[str]:
    """Events in short: `+web`, `web>www`, `web!crash`, `web~uuid`, `-web`; `?` is no name.

    A toolstack makes and ends a domain in steps, between which the index may look or not: a
    first name right after the birth, and a last one lost right before the end, are no news.
    """
    told: list[str] = []
    latest: dict[domindex.Life, tuple[int, Event]] = {}  # of each life, and where it is told
    life: domindex.Life | None
    for event in events:
        match event:
            case domindex.Added(domain):
                text, life = f"+{_called(domain)}", domain.life
            case domindex.Renamed(old, new):
                text, life = f"{_called(old)}>{_called(new)}", new.life
                place, before = latest.get(life, (0, None))
                if isinstance(before, Added) and old.name is None:
                    told[place] = text = f"+{_called(new)}"
                    latest[life] = place, event
                    continue
            case domindex.ShutDown(domain, reason):
                text, life = f"{_called(domain)}!{reason.name.lower()}", domain.life
            case domindex.Changed(_, new, fields):
                text, life = f"{_called(new)}~{','.join(fields)}", new.life
            case domindex.Removed(domain, reason):
                why = "" if reason is None else f" ({reason.name.lower()})"
                text, life = f"-{_called(domain)}{why}", domain.life
                place, before = latest.get(life, (0, None))
                if isinstance(before, Renamed) and before.new.name is None:
                    told[place] = ""
            case domindex.Ready():
                continue  # test_ready.py has the tests of these
            case _:
                text, life = type(event).__name__, None
        if life is not None:
            latest[life] = len(told), event
        told.append(text)
    return [text for text in told if text]


def _called(domain: Domain) -> str:
    return "?" if domain.name is None else domain.printable or "''"


def believed(events: list[Event], start: list[Domain]) -> dict[int, Domain]:
    """What a listener that heard these events holds to be running."""
    held = {domain.domid: domain for domain in start}
    for event in events:
        match event:
            case domindex.Added(domain):
                assert domain.domid not in held
                held[domain.domid] = domain
            case domindex.Removed(domain):
                # An end is told under the last name, which libxl takes away some time before.
                gone = held.pop(domain.domid)
                assert domain == replace(gone, name=gone.name or domain.name)
            case domindex.Renamed(old, new) | domindex.Changed(old, new):
                assert held[old.domid] == old
                held[new.domid] = new
            case domindex.ShutDown(domain):
                held[domain.domid] = domain
    return held


def true_to_its_events(index: domindex.Index, heard: Heard) -> None:
    """P2, P8: whoever only listened knows what the index knows."""
    assert believed(heard.events, []) == {domain.domid: domain for domain in index}


def news(index: domindex.Index, heard: Heard) -> list[str]:
    """What is told of the last step, in short, after a look at whether the index agrees."""
    told = tale(heard.told(index))
    true_to_its_events(index, heard)
    return told
