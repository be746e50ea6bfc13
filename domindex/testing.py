"""A whole Xen host in memory, for testing programs that use this package.

`SimulatedHost` offers the hypervisor and the xenstore that the real host offers, behind the
same ports, and lets a test change both as a toolstack would, or break them on purpose. It is
held to the real host by the contract tests, which run on both.

>>> with SimulatedHost() as host, host.connect() as index:
...     web = host.create("web")
...     _ = index.refresh()
...     index.by_name("web").domid == web
True
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self
from uuid import UUID, uuid4

from domindex.answers import Stale
from domindex.connect import connect
from domindex.core.reconcile import name_path
from domindex.domain import (
    FIRST_RESERVED_DOMID,
    NIL_UUID,
    Domain,
    DomainInfo,
    OSType,
    ShutdownReason,
    as_domid,
)
from domindex.errors import HypercallFailed, NoSuchDomain, StoreLost
from domindex.index import Index
from domindex.options import Timing
from domindex.ports import Hypervisor, Row, Store, Watch

QUICK: Final = Timing(request=1.0, probe=0.05, audit=0.2, retry=0.005, retry_most=0.05)
"""Pauses in hundredths of what they are on a real host, for tests of failure. A deaf line is
noticed after a second."""

_PAGE = 4096


@dataclass
class _Guest:
    """What the hypervisor knows of one domain."""

    domid: int
    handle: bytes
    type: OSType
    unique_id: int
    paused: bool = False
    shutdown: ShutdownReason | None = None
    dying: bool = False
    introduced: bool = False
    idle: bool = False
    born: float = field(default_factory=time.monotonic)

    def row(self) -> Row:
        frame = 0x1000 + self.unique_id if self.type is OSType.PV else None
        return Row(
            self.domid, self.handle, self.type, self.shutdown, self.dying, self._cpu_time(), frame
        )

    def info(self) -> DomainInfo:
        runs = not self.paused and self.shutdown is None and not self.dying
        return DomainInfo(
            domid=self.domid,
            uuid=UUID(bytes=self.handle),
            type=self.type,
            paused=self.paused,
            blocked=runs,
            running=False,
            shutdown=self.shutdown,
            dying=self.dying,
            memory=0 if self.dying else 8 * _PAGE,
            max_memory=256 * _PAGE,
            cpu_time=self._cpu_time(),
            vcpus=1,
        )

    def _cpu_time(self) -> int:
        return 0 if self.idle else int((time.monotonic() - self.born) * 1e6)


class SimulatedHost:
    """One Xen host: dom0 from the start, guests as you make them. Safe from any thread.

    unique_ids: the hypervisor names each life itself, as Xen >= 4.21 does.
    watch_depth: xenstored says which domain came or went, as C xenstored >= 4.22 does.
    idle: no guest ever uses the processor, as if all stayed paused from their birth on: then
        cpu time does not tell one life from the next.

    The methods without "Fault" in their docstring are what a toolstack or a guest does; each is
    complete on the host when it returns. To have a domid reused, or a name or a uuid twice, ask
    `create` for it.
    """

    def __init__(
        self, *, unique_ids: bool = False, watch_depth: bool = False, idle: bool = False
    ) -> None:
        self._lock = threading.RLock()
        self._guests: dict[int, _Guest] = {}
        self._nodes: dict[bytes, bytes] = {}
        self._stores: list[_SimulatedStore] = []
        self._unique_ids = unique_ids
        self._watch_depth = watch_depth
        self._idle = idle
        self._lives = 0
        self._last_domid = -1
        self._losing = 0
        self._doubling = 0
        self._halving = 0
        self._refusing = False
        self._down = False
        self.hypercalls = 0
        """Hypercalls made so far, by any caller."""
        self.requests = 0
        """xenstore requests made so far, by any caller."""
        self.create("Domain-0", uuid=NIL_UUID, introduce=False)

    def connect(self, timing: Timing | None = None, *, stale: Stale = "serve") -> Index:
        """`domindex.connect()` on this host. With `timing=QUICK` failures are noticed at once."""
        return connect(self, timing=timing, stale=stale)

    def close(self) -> None:
        """Cut every line. The simulated host itself needs no closing."""
        self.cut_line()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what a toolstack does ---------------------------------------------------------------

    def create(
        self,
        name: str | bytes | None = None,
        *,
        uuid: UUID | None = None,
        type: str = "pv",
        domid: int | None = None,
        introduce: bool = True,
    ) -> int:
        """A new running domain; its domid. The name is written before it is introduced.

        domid: the next free one unless given.
        introduce: False leaves it as it is while it is being built: it exists, and no event
            tells of it until `introduce`.
        """
        with self._lock:
            domid = self._free_domid() if domid is None else as_domid(domid)
            if domid in self._guests:
                raise ValueError(f"domid {domid} is in use")
            self._last_domid = domid
            self._lives += 1
            handle = (uuid4() if uuid is None else uuid).bytes
            idle = self._idle and domid != 0
            self._guests[domid] = _Guest(domid, handle, OSType(type), self._lives, idle=idle)
            self._remove(_home(domid))
            if name is not None:
                self.rename(domid, name)
            if introduce:
                self.introduce(domid)
            return domid

    def introduce(self, domid: int) -> None:
        """Tell xenstored of a domain that was created with introduce=False."""
        with self._lock:
            guest = self._guest(domid)
            if not guest.introduced:
                guest.introduced = True
                self._fire(b"@introduceDomain", domid)

    def rename(self, domid: int, name: str | bytes | None) -> None:
        """Write the name; None removes it."""
        raw = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
        with self._lock:
            if raw is None:
                self._remove(name_path(domid))
            else:
                self._nodes[name_path(domid)] = raw
                self._fire(name_path(domid))

    def write(self, domid: int, path: str, value: bytes | None) -> None:
        """Write the node `path` below /local/domain/N; None removes it, and all below it."""
        node = _home(domid) + b"/" + path.encode("ascii")
        with self._lock:
            if value is None:
                self._remove(node)
            else:
                self._nodes[node] = value
                self._fire(node)

    def shutdown(self, domid: int, reason: int = ShutdownReason.POWEROFF) -> None:
        """The guest stops for `reason`; the domain stays until it is destroyed."""
        with self._lock:
            guest = self._guest(domid)
            if guest.shutdown is None:
                guest.shutdown = ShutdownReason(reason)
                if guest.introduced:
                    self._fire(b"@releaseDomain", domid)

    def crash(self, domid: int) -> None:
        """The guest crashes; the domain stays until it is destroyed."""
        self.shutdown(domid, ShutdownReason.CRASH)

    def reboot(self, domid: int) -> int:
        """The guest reboots: this life ends, a new one with its name and uuid begins; its domid."""
        with self._lock:
            guest = self._guest(domid)
            name = self._nodes.get(name_path(domid))
            self.shutdown(domid, ShutdownReason.REBOOT)
            self.destroy(domid)
            return self.create(name, uuid=UUID(bytes=guest.handle), type=guest.type)

    def destroy(self, domid: int, *, order: str = "libxl") -> None:
        """End the domain. order: "libxl" removes its nodes first, "xapi" leaves them behind."""
        with self._lock:
            self.zombie(domid, order=order)()

    def zombie(self, domid: int, *, order: str = "libxl") -> Callable[[], None]:
        """Destroy it while a page of it stays mapped: it is listed as dying until the result is
        called."""
        if order not in ("libxl", "xapi"):
            raise ValueError(f"order is 'libxl' or 'xapi', not {order!r}")
        with self._lock:
            guest = self._guest(domid)
            if order == "libxl":
                self._remove(_home(domid))
            guest.dying = True
            if guest.introduced:
                self._fire(b"@releaseDomain", domid)

        def release() -> None:
            with self._lock:
                if self._guests.get(domid) is guest:
                    del self._guests[domid]

        return release

    def pause(self, domid: int) -> None:
        """Pause it. Fires no event, as on a real host."""
        with self._lock:
            self._guest(domid).paused = True

    def unpause(self, domid: int) -> None:
        """Let it run again. Fires no event."""
        with self._lock:
            self._guest(domid).paused = False

    def resume(self, domid: int) -> None:
        """Undo a suspend, as a failed migration does. Fires no event."""
        with self._lock:
            self._guest(domid).shutdown = None

    def soft_reset(self, domid: int) -> None:
        """Start a stopped HVM or PVH guest again as the same life, as kexec in it asks for.

        Its nodes are removed and its name is written again, with an event for each step.
        """
        with self._lock:
            guest = self._guest(domid)
            if guest.type is OSType.PV or guest.shutdown is None:
                raise ValueError(f"domain {domid} is no stopped HVM or PVH guest")
            name = self._nodes.get(name_path(domid))
            if guest.introduced:
                guest.introduced = False
                self._fire(b"@releaseDomain", domid)
            self._remove(_home(domid))
            guest.shutdown = None
            if name is not None:
                self.rename(domid, name)
            self.introduce(domid)

    def change_handle(self, domid: int, uuid: UUID) -> None:
        """Give a live domain another uuid, as XAPI does in a migration. Fires no event."""
        with self._lock:
            self._guest(domid).handle = uuid.bytes

    def leave_node(self, domid: int, name: str | bytes) -> None:
        """Leave /local/domain/N/name behind for a domain that does not exist."""
        self.rename(domid, name)

    def clear_node(self, domid: int) -> None:
        """Remove /local/domain/N."""
        with self._lock:
            self._remove(_home(domid))

    def domids(self) -> list[int]:
        """The guests that exist, zombies included, dom0 not."""
        with self._lock:
            return sorted(domid for domid in self._guests if domid)

    def name(self, domid: int) -> bytes | None:
        """What xenstore has for the name of a domid."""
        with self._lock:
            return self._nodes.get(name_path(domid))

    # -- faults ------------------------------------------------------------------------------

    def cut_line(self) -> None:
        """Fault: every line to xenstored breaks now. New ones can be opened at once."""
        with self._lock:
            for store in list(self._stores):
                store.interrupt()

    def stop_xenstored(self) -> None:
        """Fault: xenstored is gone: every line breaks and none can be opened until it starts."""
        with self._lock:
            self._down = True
            self.cut_line()

    def start_xenstored(self) -> None:
        """Undo `stop_xenstored`. The tree is as it was."""
        with self._lock:
            self._down = False

    def deafen_line(self) -> None:
        """Fault: the open lines stay open and say nothing more, neither replies nor events."""
        with self._lock:
            for store in self._stores:
                store.deafen()

    def lose_events(self, count: int = 1) -> None:
        """Fault: the next `count` watch events are not sent to anybody."""
        with self._lock:
            self._losing += count

    def double_events(self, count: int = 1) -> None:
        """Fault: the next `count` watch events are sent twice, the second time later."""
        with self._lock:
            self._doubling += count

    def halve_lists(self, count: int = 1) -> None:
        """Fault: the next `count` lists lack their second half, and do not say so."""
        with self._lock:
            self._halving += count

    def refuse_hypercalls(self, refuse: bool = True) -> None:
        """Fault: every hypercall fails, until called with False."""
        with self._lock:
            self._refusing = refuse

    # -- the ports ---------------------------------------------------------------------------

    def open_hypervisor(self) -> Hypervisor:
        """The hypervisor port."""
        return _SimulatedHypervisor(self)

    def open_store(self, timeout: float) -> Store:
        """A new line to the simulated xenstored."""
        with self._lock:
            if self._down:
                raise StoreLost("the simulated xenstored is stopped")
            store = _SimulatedStore(self, timeout)
            self._stores.append(store)
            return store

    # -- within ------------------------------------------------------------------------------

    def _guest(self, domid: int) -> _Guest:
        guest = self._guests.get(domid)
        if guest is None:
            raise NoSuchDomain("domid", domid)
        return guest

    def _free_domid(self) -> int:
        domid = self._last_domid + 1
        while domid in self._guests or domid >= FIRST_RESERVED_DOMID:
            domid = domid + 1 if domid < FIRST_RESERVED_DOMID else 1
        return domid

    def _remove(self, root: bytes) -> None:
        below = root + b"/"
        gone = [path for path in self._nodes if path == root or path.startswith(below)]
        for path in gone:
            del self._nodes[path]
            self._fire(path)

    def _fire(self, path: bytes, domid: int | None = None) -> None:
        if self._losing:
            self._losing -= 1
            return
        twice = self._doubling > 0
        self._doubling -= twice
        for store in self._stores:
            store.fire(path, domid, twice=twice)


class _SimulatedHypervisor:
    def __init__(self, host: SimulatedHost) -> None:
        self._host = host
        self.version = "simulated"
        self.has_unique_ids = host._unique_ids
        self._listed: dict[int, Row] = {}

    def list(self) -> Sequence[Row]:
        with self._host._lock:
            guests = self._called()
            rows = [guests[domid].row() for domid in sorted(guests)]
            for place, row in enumerate(rows):  # as the real one: what is the same is given again
                if row == self._listed.get(row.domid):
                    rows[place] = self._listed[row.domid]
            self._listed = {row.domid: row for row in rows}
            if self._host._halving:
                self._host._halving -= 1
                rows = rows[: (len(rows) + 1) // 2]
            return rows

    def get(self, domid: int) -> Row | None:
        with self._host._lock:
            guest = self._called().get(as_domid(domid))
            return None if guest is None else guest.row()

    def confirms(self, domain: Domain, uuid: bool = False) -> bool:
        with self._host._lock:
            guest = self._called().get(domain.domid)
        if guest is None or guest.dying:
            return False
        if self.has_unique_ids:
            life, shutdown = domain.life.unique_id, domain.shutdown is not None
            if (guest.unique_id, guest.shutdown is not None) != (life, shutdown):
                return False
            if not uuid:
                return True
            self._called()
        row = guest.row()
        return (row.handle, row.type, row.shutdown) == (
            domain.uuid.bytes,
            domain.type,
            domain.shutdown,
        )

    def unique_id(self, domid: int) -> int | None:
        with self._host._lock:
            guest = self._called().get(as_domid(domid))
            return None if guest is None or guest.dying else guest.unique_id

    def info(self, domid: int) -> DomainInfo | None:
        with self._host._lock:
            guest = self._called().get(as_domid(domid))
            return None if guest is None else guest.info()

    def close(self) -> None:
        pass

    def _called(self) -> dict[int, _Guest]:
        self._host.hypercalls += 1
        if self._host._refusing:
            raise HypercallFailed("the simulated hypervisor refuses every call")
        return self._host._guests


class _SimulatedStore:
    def __init__(self, host: SimulatedHost, timeout: float) -> None:
        self._host = host
        self._timeout = timeout
        self._changed = threading.Condition(host._lock)
        self._watches: dict[bytes, dict[Watch, int | None]] = {}  # by path, with their depth
        self._queue: dict[Watch, None] = {}
        self._again: dict[Watch, None] = {}  # to be queued once more when the queue was taken
        self._woken = self._deaf = self._cut = False
        self.has_depth = host._watch_depth
        self.forgets = False

    def fire(self, path: bytes, domid: int | None, *, twice: bool) -> None:
        if self._deaf:
            return
        above = path
        while above:  # a watch tells of its node and of all below
            for watch, depth in self._watches.get(above, {}).items():
                told = path if depth is None or domid is None else b"%s/%d" % (path, domid)
                self._queue[Watch(told, watch.token)] = None
                if twice:
                    self._again[Watch(told, watch.token)] = None
            above = above.rpartition(b"/")[0]
        self._changed.notify_all()

    def deafen(self) -> None:
        self._deaf = True

    def watch(self, watches: Sequence[Watch], *, depth: int | None = None) -> None:
        with self._request(len(watches)):
            for watch in watches:
                self._watches.setdefault(watch.path, {})[watch] = depth
                self._queue[watch] = None

    def unwatch(self, watches: Sequence[Watch]) -> None:
        with self._request(len(watches)):
            for watch in watches:
                there = self._watches.get(watch.path, {})
                there.pop(watch, None)
                if not there:
                    self._watches.pop(watch.path, None)

    def read(self, paths: Sequence[bytes]) -> list[bytes | None]:
        with self._request(len(paths)):
            return [self._host._nodes.get(path) for path in paths]

    def barrier(self) -> None:
        with self._request(1):
            pass

    def events(self, *, arrived: bool = False) -> Iterable[Watch]:
        with self._changed:
            self._check()
            taken, self._queue, self._again = list(self._queue), self._again, {}
            return taken

    def wait(self, timeout: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._woken or self._cut, timeout)
            self._woken = False
            self._check()

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def interrupt(self) -> None:
        with self._changed:
            self._cut = True
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._cut = True
            self._watches.clear()
            if self in self._host._stores:
                self._host._stores.remove(self)

    def _check(self) -> None:
        if self._cut:
            raise StoreLost("the line to the simulated xenstored is cut")

    def _request(self, count: int) -> threading.Condition:
        """Answer `count` requests in the block; a deaf line lets its time limit pass first."""
        with self._changed:
            self._check()
            if self._deaf:
                self._changed.wait_for(lambda: self._cut, self._timeout)
                raise StoreLost(f"the simulated xenstored is silent for {self._timeout} s")
            self._host.requests += count
        return self._changed


def _home(domid: int) -> bytes:
    return b"/local/domain/%d" % domid
