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

import errno
import itertools
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Self
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
)
from domindex.errors import HypercallFailed, InvalidKey, NoSuchDomain, StoreError, StoreLost
from domindex.index import Index
from domindex.keys import as_domid, as_uuid
from domindex.options import Timing
from domindex.ports import Hypervisor, Row, Store, Watch

QUICK: Final = Timing(request=1.0, probe=0.05, audit=0.2, retry=0.005, retry_most=0.05)
"""Pauses in hundredths of what they are on a real host, for tests of failure. A deaf line is
noticed after a second."""

_PAGE = 4096
_GAP = 0.25
"""Seconds that libxl's order waits at most for the lines to see that the nodes are gone."""
_ORDERS = ("libxl", "xapi", "at once")
_OPERATIONS = ("READ", "WATCH")
_LONGEST = threading.TIMEOUT_MAX
_PATH = re.compile(r"[A-Za-z0-9_@-]+(/[A-Za-z0-9_@-]+)*")  # docs/misc/xenstore.txt
_WHOLE_PATH = re.compile(rb"(/[A-Za-z0-9_@-]+)+|/|@[A-Za-z0-9_@-]+")


@dataclass
class _Guest:
    """What the hypervisor knows of one domain, and whether xenstored was told of it."""

    domid: int
    handle: bytes
    type: OSType
    unique_id: int
    paused: bool = False
    shutdown: ShutdownReason | None = None
    dying: bool = False
    introduced: bool = False
    idle: bool = False
    spent: int = 0  # cpu time besides that which passes by itself
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
        by_itself = 0 if self.idle else int((time.monotonic() - self.born) * 1e6)
        return max(0, by_itself + self.spent)


class _Tree(dict[bytes, bytes]):
    """The nodes of xenstore by their paths. One that has nodes below it exists, if but empty."""

    def __init__(self) -> None:
        super().__init__()
        self._below: defaultdict[bytes, set[bytes]] = defaultdict(set)

    def put(self, path: bytes, value: bytes) -> None:
        self[path] = value
        while (above := path.rpartition(b"/")[0]) and path not in self._below[above]:
            self._below[above].add(path)
            self.setdefault(above, b"")
            path = above

    def cut(self, root: bytes) -> list[bytes]:
        """Take a node out with all below it: their paths, its own first; none if there is none."""
        if root not in self:
            return []
        self._below[root.rpartition(b"/")[0]].discard(root)
        gone = [root]
        for path in gone:  # which grows
            del self[path]
            gone += self._below.pop(path, ())
        return gone


class SimulatedHost:
    """One Xen host: dom0 from the start, guests as you make them. Safe from any thread.

    unique_ids: the hypervisor names each life itself, as Xen >= 4.21 does.
    watch_depth: what xenstored knows of watches with a depth. False: nothing, as all before
        4.22. True: an event says which node or which domain changed, as C xenstored >= 4.22
        does. "paths": of nodes, but not of `@introduceDomain` and `@releaseDomain`, as
        oxenstored >= 25.2.
    idle: no guest uses the processor by itself, as if all stayed paused from their birth on:
        then cpu time does not tell one life from the next, unless it is `spend`ed.
    dom0: False leaves domain 0 out, as dom0less and hyperlaunch hosts do: guests begin at 1.

    The methods without "Fault" in their docstring are what a toolstack or a guest does; each is
    complete on the host when it returns. To have a domid reused, or a name or a uuid twice, ask
    `create` for it. A domid that no domain has is NoSuchDomain, except where a node or a policy
    concerns it; what is no domid, name, path or value is InvalidKey.

    | what a real host does | here |
    |---|---|
    | libxl makes a domain in steps, the name last | `build`, `rename`, `introduce` |
    | guests that xenstored is never told of | `create(introduce=False)` |
    | libxl removes the nodes, then ends the domain | `destroy`, `zombie`, `reboot` |
    | XAPI ends the domain, then removes the nodes | `destroy(order="xapi")`, `clear_node` |
    | a toolstack that clears no nodes | `create(clear=False)`, `leave_node` |
    | the connection to xenstored is given up before the end | `release`, then `destroy` |
    | a uuid changes, a suspended guest goes on: no event | `change_handle`, `resume` |
    | clocks of two processors differ | `step_clock` |
    | xenstored refuses a node: corrupt, closed to us, a quota | `refuse_node`, `allow_node` |
    | a Flask policy refuses a domain's state, or hides it | `refuse_state`, `hide` |
    | this process is not privileged for xenstored | `deafen_special` |
    | xenstored dies, and comes back as it was or empty | `stop_xenstored`, `start_xenstored` |
    | a line breaks, or is silent | `cut_line`, `deafen_line` |
    | events are lost, or come twice | `lose_events`, `double_events` |
    | a list is not whole, hypercalls fail | `halve_lists`, `refuse_hypercalls` |
    """

    def __init__(
        self,
        *,
        unique_ids: bool = False,
        watch_depth: bool | Literal["paths"] = False,
        idle: bool = False,
        dom0: bool = True,
    ) -> None:
        if watch_depth not in (False, True, "paths"):
            raise ValueError(f"watch_depth is False, True or 'paths', not {watch_depth!r}")
        self._lock = threading.RLock()
        self._calm = threading.Condition(self._lock)  # a line has nothing left to do
        self._guests: dict[int, _Guest] = {}
        self._nodes = _Tree()
        self._stores: list[_SimulatedStore] = []
        self._unique_ids = unique_ids
        self._watch_depth = watch_depth
        self._idle = idle
        self._lives = 0
        self._last_domid = -1 if dom0 else 0
        self._losing = 0
        self._doubling = 0
        self._halving = 0
        self._refusing = False
        self._refused: dict[tuple[str, bytes], str] = {}  # (operation, path): error
        self._refused_states: set[int] = set()
        self._hidden: set[int] = set()
        self._special_deaf = False
        self._down = False
        self.hypercalls = 0
        """Hypercalls made so far, by any caller."""
        self.requests = 0
        """xenstore requests made so far, by any caller."""
        if dom0:
            self.create("Domain-0", uuid=NIL_UUID)

    def connect(
        self,
        timing: Timing | None = None,
        *,
        stale: Stale = "serve",
        wait: bool = True,
        timeout: float = 60.0,
    ) -> Index:
        """`domindex.connect()` on this host. With `timing=QUICK` failures are noticed at once."""
        return connect(self, timing=timing, stale=stale, wait=wait, timeout=timeout)

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
        clear: bool = True,
    ) -> int:
        """A new running domain; its domid. Its nodes are written before it is introduced.

        They are `/local/domain/N`, `vm` in it and, if it has one, `name`.

        domid: the next free one unless given.
        introduce: False leaves it as it is while it is being built: it exists, and no event
            tells of it until `introduce`.
        clear: False lets the nodes stay that were left over under this domid.

        Raises ValueError if the domid is in use, HypercallFailed (ENOMEM) if all are.
        """
        raw = _as_value(name)
        with self._lock:
            domid = self.build(uuid=uuid, type=type, domid=domid)
            if clear:
                self._remove(_home(domid))
            self._furnish(domid, raw)
            if introduce:
                self.introduce(domid)
            return domid

    def build(self, *, uuid: UUID | None = None, type: str = "pv", domid: int | None = None) -> int:
        """A domain that the hypervisor lists before the toolstack wrote anything; its domid.

        What was left over under this domid is still there. `clear_node`, `rename` and
        `introduce` make a whole domain of it. Raises as `create` does.
        """
        handle = (uuid4() if uuid is None else as_uuid(uuid)).bytes
        kind = OSType(type)
        with self._lock:
            domid = self._free_domid() if domid is None else as_domid(domid)
            if domid in self._guests:
                raise ValueError(f"domid {domid} is in use")
            self._last_domid = domid
            self._lives += 1
            idle = self._idle and domid != 0
            self._guests[domid] = _Guest(domid, handle, kind, self._lives, idle=idle)
            return domid

    def introduce(self, domid: int) -> None:
        """Tell xenstored of a domain that it was not told of."""
        with self._lock:
            guest = self._guest(domid)
            if not guest.introduced:
                guest.introduced = True
                self._fire_special(b"@introduceDomain", domid)

    def release(self, domid: int) -> None:
        """Give up xenstored's connection to a domain that goes on. Its end fires nothing then."""
        with self._lock:
            self._release(self._guest(domid))

    def rename(self, domid: int, name: str | bytes | None) -> None:
        """Write the name; None removes it."""
        with self._lock:
            self._guest(domid)
            self._write(name_path(domid), _as_value(name))

    def write(self, domid: int, path: str, value: bytes | None) -> None:
        """Write the node `path` below /local/domain/N; None removes it, and all below it."""
        if not isinstance(value, bytes | None):
            raise InvalidKey(f"a node's value is bytes or None, not {value!r}")
        with self._lock:
            self._write(_node(self._guest(domid).domid, path), value)

    def shutdown(self, domid: int, reason: int = ShutdownReason.POWEROFF) -> None:
        """The guest stops for `reason`; the domain stays until it is destroyed."""
        with self._lock:
            guest = self._guest(domid)
            if guest.shutdown is None:
                guest.shutdown = ShutdownReason(reason)
                if guest.introduced:
                    self._fire_special(b"@releaseDomain", domid)

    def crash(self, domid: int) -> None:
        """The guest crashes; the domain stays until it is destroyed."""
        self.shutdown(domid, ShutdownReason.CRASH)

    def reboot(self, domid: int, *, order: str = "libxl") -> int:
        """The guest reboots: this life ends, a new one with its name and uuid begins; its domid.

        order: see `destroy`. "at once": and nobody can look in between.
        """
        with self._lock:
            guest = self._guest(domid)
            name = self._nodes.get(name_path(domid))
            self.shutdown(domid, ShutdownReason.REBOOT)
            self.destroy(domid, order=order)
            return self.create(name, uuid=UUID(bytes=guest.handle), type=guest.type)

    def destroy(self, domid: int, *, order: str = "libxl") -> None:
        """End the domain.

        order: "libxl" removes its nodes, and ends it when every index has seen that, as on a
            real host, where the domain is nameless for a while; this lasts a quarter of a second
            at most, and an index that this thread drives is not waited for. "at once" does both
            in one step, so that nobody sees it nameless, and waits for nobody: for a test that
            holds an asyncio loop. "xapi" leaves the nodes behind.
        """
        self.zombie(domid, order=order)()

    def zombie(self, domid: int, *, order: str = "libxl") -> Callable[[], None]:
        """Destroy it while a page of it stays mapped: it is listed as dying until the result is
        called. order: see `destroy`."""
        if order not in _ORDERS:
            raise ValueError(f"order is one of {', '.join(map(repr, _ORDERS))}, not {order!r}")
        with self._lock:
            guest = self._guest(domid)
            if order != "xapi":
                self._remove(_home(domid))
            if order == "libxl":
                self._let_see()
            if self._guests.get(domid) is guest:  # nobody else has ended it meanwhile
                guest.dying = True
                self._release(guest)

        def let_go() -> None:
            with self._lock:
                if self._guests.get(domid) is guest:
                    del self._guests[domid]

        return let_go

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

        Its nodes are removed and written again, with an event for each step.
        """
        with self._lock:
            guest = self._guest(domid)
            if guest.type is OSType.PV or guest.shutdown is None:
                raise ValueError(f"domain {domid} is no stopped HVM or PVH guest")
            name = self._nodes.get(name_path(domid))
            self._release(guest)
            self._remove(_home(domid))
            guest.shutdown = None
            self._furnish(domid, name)
            self.introduce(domid)

    def change_handle(self, domid: int, uuid: UUID) -> None:
        """Give a live domain another uuid, as XAPI does in a migration. Fires no event.

        Most toolstacks `write` the node `vm` a moment later.
        """
        with self._lock:
            self._guest(domid).handle = as_uuid(uuid).bytes

    def spend(self, domid: int, nanoseconds: int) -> None:
        """The guest uses that much cpu time, now."""
        if nanoseconds < 0:
            raise ValueError(f"cpu time that is spent is not below 0, as {nanoseconds} is")
        with self._lock:
            self._guest(domid).spent += nanoseconds

    def leave_node(self, domid: int, name: str | bytes) -> None:
        """Leave /local/domain/N/name behind for a domid, whether or not a domain has it."""
        with self._lock:
            self._write(name_path(as_domid(domid)), _as_value(name))

    def clear_node(self, domid: int) -> None:
        """Remove /local/domain/N, whether or not a domain has that domid."""
        with self._lock:
            self._remove(_home(as_domid(domid)))

    def domids(self) -> list[int]:
        """The guests that exist, zombies and hidden ones included, dom0 not."""
        with self._lock:
            return sorted(domid for domid in self._guests if domid)

    def name(self, domid: int) -> bytes | None:
        """What xenstore has for the name of a domid."""
        with self._lock:
            return self._nodes.get(name_path(as_domid(domid)))

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

    def start_xenstored(self, *, empty: bool = False) -> None:
        """Undo `stop_xenstored`.

        empty: it has no nodes, and was told of no guest, as a daemon that was started anew; else
            all is as it was.
        """
        with self._lock:
            self._down = False
            if empty:
                self.cut_line()
                self._nodes = _Tree()
                for guest in self._guests.values():
                    guest.introduced = guest.domid == 0

    def deafen_line(self) -> None:
        """Fault: the open lines stay open and say nothing more, neither replies nor events."""
        with self._lock:
            for store in self._stores:
                store.deafen()

    def deafen_special(self, deaf: bool = True) -> None:
        """Fault: watches on births and ends are set, fire once, and never again, until called
        with False. So it is for a caller that xenstored does not hold for privileged."""
        with self._lock:
            self._special_deaf = deaf

    def lose_events(self, count: int = 1) -> None:
        """Fault: the next `count` watch events are not sent to anybody."""
        with self._lock:
            self._losing += count

    def double_events(self, count: int = 1) -> None:
        """Fault: the next `count` watch events are sent twice, the second time later."""
        with self._lock:
            self._doubling += count

    def refuse_node(
        self,
        domid: int,
        path: str = "name",
        error: str = "EIO",
        *,
        operations: Iterable[str] = _OPERATIONS,
    ) -> None:
        """Fault: xenstored refuses this node below /local/domain/N, until `allow_node`.

        error: what it says: "EIO" for a corrupt record, "EACCES" for one that is closed to us,
            "ENOMEM", or a name without a number here, as oxenstored's "EQUOTA".
        operations: which are refused, "READ" and "WATCH" both unless given. A watch that is set
            already goes on.
        """
        refused = {operations} if isinstance(operations, str) else set(operations)
        if not refused <= set(_OPERATIONS):
            raise ValueError(f"operations are of {_OPERATIONS}, not {operations!r}")
        with self._lock:
            for operation in refused:
                self._refused[operation, _node(as_domid(domid), path)] = error

    def allow_node(self, domid: int, path: str = "name") -> None:
        """Undo `refuse_node`. Fires no event."""
        with self._lock:
            for operation in _OPERATIONS:
                self._refused.pop((operation, _node(as_domid(domid), path)), None)

    def refuse_state(self, domid: int, refuse: bool = True) -> None:
        """Fault: a policy refuses the unique id of whatever has this domid (EACCES), until called
        with False. Only where there are unique ids."""
        with self._lock:
            _set(self._refused_states, as_domid(domid), refuse)

    def hide(self, domid: int, hidden: bool = True) -> None:
        """Fault: a policy hides whatever has this domid from every list and look, until called
        with False."""
        with self._lock:
            _set(self._hidden, as_domid(domid), hidden)

    def step_clock(self, domid: int, nanoseconds: int) -> None:
        """Fault: Xen's clocks differ: from now on its cpu time is that much less, or, below 0,
        more. It never falls below 0."""
        with self._lock:
            self._guest(domid).spent -= nanoseconds

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
        guest = self._guests.get(as_domid(domid))
        if guest is None:
            raise NoSuchDomain("domid", domid)
        return guest

    def _free_domid(self) -> int:
        after = range(self._last_domid + 1, FIRST_RESERVED_DOMID)
        for domid in itertools.chain(after, range(1, self._last_domid + 1)):
            if domid not in self._guests:
                return domid
        raise HypercallFailed("every domid is in use; destroy a domain first", errno.ENOMEM)

    def _furnish(self, domid: int, name: bytes | None) -> None:
        """Write what every toolstack writes of a domain."""
        home = _home(domid)
        if home not in self._nodes:
            self._write(home, b"")
        uuid = UUID(bytes=self._guests[domid].handle)
        self._write(home + b"/vm", b"/vm/%s" % str(uuid).encode("ascii"))
        if name is not None:
            self._write(name_path(domid), name)

    def _release(self, guest: _Guest) -> None:
        if guest.introduced:
            guest.introduced = False
            self._fire_special(b"@releaseDomain", guest.domid)

    def _write(self, path: bytes, value: bytes | None) -> None:
        if value is None:
            self._remove(path)
        else:
            self._nodes.put(path, value)
            self._fire(path)

    def _remove(self, root: bytes) -> None:
        if gone := self._nodes.cut(root):
            self._fire(root, below=gone[1:])

    def _fire(self, path: bytes, below: Sequence[bytes] = ()) -> None:
        self._send(lambda store: store.changed(path, below))

    def _fire_special(self, path: bytes, domid: int) -> None:
        if not self._special_deaf:
            self._send(lambda store: store.happened(path, domid))

    def _send(self, fired: Callable[[_SimulatedStore], list[Watch]]) -> None:
        if self._losing:
            self._losing -= 1
            return
        twice = self._doubling > 0
        self._doubling -= twice
        for store in self._stores:
            store.queue(fired(store), twice=twice)

    def _let_see(self) -> None:
        """Give the lock up until every line has taken in what has fired, or is late with it."""
        self._calm.wait_for(lambda: not any(store.is_behind() for store in self._stores), _GAP)
        for store in self._stores:
            store.late |= store.is_behind()  # a line is waited for in vain but once

    def _refusal(self, operation: str, path: bytes) -> StoreError | None:
        error = self._refused.get((operation, path))
        if error is None and not _WHOLE_PATH.fullmatch(path):
            error = "EINVAL"
        return None if error is None else _refused(operation, path, error)


class _SimulatedHypervisor:
    def __init__(self, host: SimulatedHost) -> None:
        self._host = host
        self.version = "simulated"
        self.has_unique_ids = host._unique_ids
        self._listed: dict[int, Row] = {}

    def list(self) -> Sequence[Row]:
        with self._host._lock:
            guests = self._called()
            rows = [guests[domid].row() for domid in sorted(guests.keys() - self._host._hidden)]
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
            guest = self._seen(domid)
            return None if guest is None else guest.row()

    def confirms(self, domain: Domain) -> bool:
        row = self.get(domain.domid)
        if row is None or row.dying:
            return False
        if (row.handle, row.type, row.shutdown) != (
            domain.uuid.bytes,
            domain.type,
            domain.shutdown,
        ):
            return False
        life = domain.life.unique_id
        return life is None or not self.has_unique_ids or self.unique_id(domain.domid) == life

    def unique_id(self, domid: int) -> int | None:
        with self._host._lock:
            guest = self._seen(domid)
            if guest is not None and domid in self._host._refused_states:
                raise HypercallFailed(f"a policy refuses the state of domain {domid}", errno.EACCES)
            return None if guest is None or guest.dying else guest.unique_id

    def info(self, domid: int) -> DomainInfo | None:
        with self._host._lock:
            guest = self._seen(domid)
            return None if guest is None else guest.info()

    def close(self) -> None:
        pass

    def _seen(self, domid: int) -> _Guest | None:
        guest = self._called().get(as_domid(domid))
        return None if domid in self._host._hidden else guest

    def _called(self) -> dict[int, _Guest]:
        self._host.hypercalls += 1
        if self._host._refusing:
            raise HypercallFailed("the simulated hypervisor refuses every call")
        return self._host._guests


class _SimulatedStore:
    def __init__(self, host: SimulatedHost, timeout: float) -> None:
        self._host = host
        self._timeout = min(timeout, _LONGEST)
        self._changed = threading.Condition(host._lock)
        self._watches: dict[bytes, dict[Watch, int | None]] = {}  # by path, with their depth
        self._queue: dict[Watch, None] = {}
        self._again: dict[Watch, None] = {}  # to be queued once more when the queue was taken
        self._woken = self._deaf = self._cut = False
        self._waiting = False
        self._driver = threading.get_ident()
        self.late = False
        self.forgets = False

    # -- what the host does to it, under its lock ---------------------------------------------

    def changed(self, path: bytes, below: Sequence[bytes]) -> list[Watch]:
        """What fires here if a node changes, or goes with those `below` it."""
        fired = []
        above, level = path, 0
        while above:
            for watch, depth in self._watches.get(above, {}).items():
                if depth is None:  # of all below; told with its own path, as they are folded
                    fired.append(watch)
                elif level <= depth:
                    fired.append(Watch(path, watch.token))
            above, level = above.rpartition(b"/")[0], level + 1
        for gone in below:
            fired += self._watches.get(gone, ())
        return fired

    def happened(self, path: bytes, domid: int) -> list[Watch]:
        """What fires here if a domain comes or goes."""
        named = b"%s/%d" % (path, domid)
        watches = self._watches.get(path, {}).items()
        return [Watch(named, watch.token) if depth else watch for watch, depth in watches]

    def queue(self, fired: Iterable[Watch], *, twice: bool) -> None:
        if self._deaf:
            return
        for event in fired:
            self._queue[event] = None
            if twice:
                self._again[event] = None
        self._changed.notify_all()

    def is_behind(self) -> bool:
        """It has watches, and another thread that has not yet done what they asked for.

        Not if that thread was late the last time, and has not been idle since.
        """
        if self._deaf or self._cut or self.late or not self._watches:
            return False
        idle = self._waiting and not (self._queue or self._woken)
        return not idle and self._driver != threading.get_ident()

    def deafen(self) -> None:
        self._deaf = True
        self._host._calm.notify_all()

    # -- the port ----------------------------------------------------------------------------

    def watch(
        self, watches: Sequence[Watch], *, depth: int | None = None
    ) -> list[StoreError | None]:
        with self._request(len(watches)):
            return [self._watched(watch, depth) for watch in watches]

    def _watched(self, watch: Watch, depth: int | None) -> StoreError | None:
        knows = self._host._watch_depth
        if knows == "paths":
            knows = not watch.path.startswith(b"@")
        if depth is not None and not knows:
            return _refused("WATCH", watch.path, "EINVAL")
        if watch in self._watches.get(watch.path, {}):
            return _refused("WATCH", watch.path, "EEXIST")
        if (refusal := self._host._refusal("WATCH", watch.path)) is not None:
            return refusal
        self._watches.setdefault(watch.path, {})[watch] = depth
        self._queue[watch] = None
        return None

    def unwatch(self, watches: Sequence[Watch]) -> None:
        with self._request(len(watches)):
            for watch in watches:
                there = self._watches.get(watch.path, {})
                there.pop(watch, None)
                if not there:
                    self._watches.pop(watch.path, None)

    def read(self, paths: Sequence[bytes]) -> list[bytes | StoreError | None]:
        host = self._host
        with self._request(len(paths)):
            return [host._refusal("READ", path) or host._nodes.get(path) for path in paths]

    def is_introduced(self, domid: int) -> bool | None:
        with self._request(1):
            guest = self._host._guests.get(as_domid(domid))
            return guest is not None and guest.introduced

    def barrier(self) -> None:
        with self._request(1):
            pass

    def events(self, *, arrived: bool = False) -> Iterable[Watch]:
        with self._driven():
            taken, self._queue, self._again = list(self._queue), self._again, {}
            return taken

    def wait(self, timeout: float) -> None:
        with self._driven():
            self._waiting, self.late = True, False
            self._host._calm.notify_all()
            try:
                self._changed.wait_for(
                    lambda: self._queue or self._woken or self._cut, min(timeout, _LONGEST)
                )
            finally:
                self._waiting = self._woken = False
            self._check()

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def interrupt(self) -> None:
        with self._changed:
            self._cut = True
            self._changed.notify_all()
            self._host._calm.notify_all()

    def close(self) -> None:
        with self._changed:
            self._watches.clear()
            if self in self._host._stores:
                self._host._stores.remove(self)
            self.interrupt()

    def _check(self) -> None:
        if self._cut:
            raise StoreLost("the line to the simulated xenstored is cut")

    def _driven(self) -> threading.Condition:
        """The lock, for a call of the thread that drives this line."""
        with self._changed:
            self._check()
            self._driver = threading.get_ident()
        return self._changed

    def _request(self, count: int) -> threading.Condition:
        """Answer `count` requests in the block; a deaf line lets its time limit pass first."""
        with self._driven():
            if self._deaf:
                self._changed.wait_for(lambda: self._cut, self._timeout)
                raise StoreLost(f"the simulated xenstored is silent for {self._timeout} s")
            self._host.requests += count
        return self._changed


def _refused(operation: str, path: bytes, error: str) -> StoreError:
    node = path.decode("ascii", "backslashreplace")
    sentence = f"the simulated xenstored refuses {operation} of {node}: {error}"
    return StoreError(sentence, getattr(errno, error, None), operation=operation, path=node)


def _as_value(name: str | bytes | None) -> bytes | None:
    if isinstance(name, str):
        return name.encode("utf-8", "surrogateescape")
    if isinstance(name, bytes | None):
        return name
    raise InvalidKey(f"a name is str, bytes or None, not {name!r}")


def _home(domid: int) -> bytes:
    return b"/local/domain/%d" % domid


def _node(domid: int, path: str) -> bytes:
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise InvalidKey(
            f"{path!r} is no path below /local/domain/N: letters, digits, -_@, and slashes"
        )
    return _home(domid) + b"/" + path.encode("ascii")


def _set(among: set[int], domid: int, there: bool) -> None:
    if there:
        among.add(domid)
    else:
        among.discard(domid)
