"""A simulated Xen host in memory, to test programs that use this package.

`SimulatedHost` has a hypervisor and a xenstore behind the same ports as the real host. A test
changes them as a toolstack would, or makes them fail on purpose. The contract tests run on the
simulated host and on real ones, and both must pass.

>>> with SimulatedHost() as host, host.connect() as index:
...     web = host.create("web")
...     _ = index.refresh()
...     index.by_name("web").domid == web
True

Read after ports.py.
"""

from __future__ import annotations

import errno
import itertools
import math
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Self
from uuid import UUID, uuid4

from domindex.core.lives import name_path
from domindex.domain import (
    FIRST_RESERVED_DOMID,
    NIL_UUID,
    ROLES,
    Domain,
    DomainInfo,
    OSType,
    Role,
    ShutdownReason,
)
from domindex.errors import (
    HostError,
    HypercallFailed,
    InvalidKey,
    NoSuchDomain,
    StoreError,
    StoreLost,
)
from domindex.index import Index
from domindex.infos import Infos
from domindex.keys import as_domid, as_type, as_uuid
from domindex.limits import as_count
from domindex.opening import XenHost, connect
from domindex.options import Stale, Timing
from domindex.ports import Host, Hypervisor, LifeState, Row, Store, Watch, unique_id_of

QUICK: Final = Timing(request=1.0, probe=0.05, audit=0.2, retry=0.005, retry_most=0.05)
"""Short intervals, a hundredth of those for a real host, for tests of failures. A silent line is
noticed after about a second."""

_TRIAL: Final = 5.0
"""Seconds in which xenstored must answer, or `host_or_simulate` takes a simulated host."""
_PAGE = 4096
_DOM0 = Role.CONTROL | Role.HARDWARE
_MEMORY: Final = 512 << 20
_GAP = 0.25
"""Seconds for which `order="libxl"` waits at most until the lines have seen the nodes go."""
_ORDERS = ("libxl", "xapi", "at once")
_OPERATIONS = ("READ", "WATCH")
_LONGEST = threading.TIMEOUT_MAX
_PATH = re.compile(r"[A-Za-z0-9_@-]+(/[A-Za-z0-9_@-]+)*")  # docs/misc/xenstore.txt
_WHOLE_PATH = re.compile(rb"(/[A-Za-z0-9_@-]+)+|/|@[A-Za-z0-9_@-]+")


@dataclass
class _Guest:
    """What the hypervisor knows of one domain, and whether it was introduced to xenstored."""

    domid: int
    handle: bytes
    type: OSType
    unique_id: int
    memory: int
    max_memory: int
    vcpus: int
    paused: bool = False
    shutdown: ShutdownReason | None = None
    dying: bool = False
    introduced: bool = False
    roles: Role = ROLES[0]
    listed: Role | None = None  # what of these the list tells
    idle: bool = False
    spent: int = 0  # cpu time in addition to what it uses by itself
    born: float = field(default_factory=time.monotonic)

    def row(self) -> Row:
        frame = 0x1000 + self.unique_id if self.type is OSType.PV else None
        return Row(
            self.domid,
            self.handle,
            self.type,
            self.shutdown,
            self.dying,
            self._cpu_time(),
            frame,
            self.listed,
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
            memory=self.memory,
            max_memory=self.max_memory,
            cpu_time=self._cpu_time(),
            vcpus=self.vcpus,
        )

    def _cpu_time(self) -> int:
        by_itself = 0 if self.idle else int((time.monotonic() - self.born) * 1e6)
        return max(0, by_itself + self.spent)


class _Tree(dict[bytes, bytes]):
    """The nodes of xenstore by their paths. A node with others below it exists, if only empty."""

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
        """Remove a node and all below it. Their paths, its own first; empty if there is none."""
        if root not in self:
            return []
        self._below[root.rpartition(b"/")[0]].discard(root)
        gone = [root]
        for path in gone:  # the list grows meanwhile
            del self[path]
            gone += self._below.pop(path, ())
        return gone


class SimulatedHost:
    """A simulated Xen host. It starts with dom0; you make the guests. Safe to use from any thread.

    Methods whose docstring begins with "Fault" break something. All others do what a toolstack or
    a guest does, and the change is complete when they return. To use a domid, a name or a uuid
    again, pass it to `create`.

    | what a real host does | here |
    |---|---|
    | libxl makes a domain in steps, the name last | `build`, `rename`, `introduce` |
    | a control, hardware or xenstore domain of its own | `create(roles=)` |
    | guests that are never introduced to xenstored | `create(introduce=False)` |
    | guests write nodes; a node is removed | `write` |
    | a guest stops, crashes, is reset by kexec | `shutdown`, `crash`, `soft_reset` |
    | a guest is paused: no event | `pause`, `unpause` |
    | libxl removes the nodes, then ends the domain | `destroy`, `zombie`, `reboot` |
    | XAPI ends the domain, then removes the nodes | `destroy(order="xapi")`, `clear_node` |
    | both in one step, which no real host does | `destroy(order="at once")` |
    | a toolstack that removes no nodes | `create(clear=False)`, `leave_node` |
    | xenstored releases a domain before it ends | `release`, then `destroy` |
    | a uuid changes, a suspended guest resumes: no event | `change_handle`, `resume` |
    | guests use cpu time; clocks of two CPUs differ | `spend`, `step_clock` |
    | memory and vCPUs are given and taken: no event | `set_memory`, `set_max_memory`, `set_vcpus` |
    | xenstored refuses a node: corrupt, no access, a quota | `refuse_node`, `allow_node` |
    | a Flask policy refuses the state of a domain, or hides it | `refuse_state`, `hide` |
    | this process is not privileged for xenstored | `deafen_special` |
    | xenstored stops, and comes back as it was or empty | `stop_xenstored`, `start_xenstored` |
    | a line breaks, or is silent | `cut_line`, `deafen_line` |
    | events are lost, or come twice | `lose_events`, `double_events` |
    | a list is incomplete, hypercalls fail | `halve_lists`, `refuse_hypercalls` |

    Args:
        unique_ids: True gives each life a unique id, as Xen >= 4.21 does.
        watch_depth: What xenstored knows of watches with a depth. False is nothing, as before
            4.22. True is all, as C xenstored >= 4.22: an event says which node or which domain
            has changed. "paths" is as oxenstored >= 25.2: for nodes, but not for
            `@introduceDomain` and `@releaseDomain`.
        idle: True is a host on which no guest uses cpu time by itself, as if all were paused from
            the start. Then cpu time does not show that a domid was used again, unless you
            `spend` some.
        dom0: False leaves domain 0 out, as on dom0less and hyperlaunch hosts. Guests begin at 1.

    Raises:
        NoSuchDomain: By a method that needs a domain, if no domain has that domid.
        InvalidKey: By every method, if an argument is not a domid, name, path or value.
        TypeError: By every method, if a number is not an int.
        ValueError: By every method, if a number is below 0. `watch_depth` is none of the three.

    Attributes:
        hypercalls: Hypercalls made so far, by any caller.
        requests: xenstore requests made so far, by any caller.
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
        self._calm = threading.Condition(self._lock)  # notified when a line has nothing left to do
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
        self.requests = 0
        if dom0:
            self.create("Domain-0", uuid=NIL_UUID, roles=_DOM0)

    def connect(
        self,
        timing: Timing | None = None,
        *,
        stale: Stale = "serve",
        max_stale: float | None = None,
        wait: bool = True,
        timeout: float | None = 60.0,
    ) -> Index:
        """Open an index of this host, as `domindex.connect(host)` does.

        Args:
            timing: As for `connect`. With QUICK the index notices failures at once.
            stale: As for `connect`.
            max_stale: As for `connect`.
            wait: As for `connect`.
            timeout: As for `connect`, in seconds.

        Returns:
            The index.
        """
        return connect(
            self, timing=timing, stale=stale, max_stale=max_stale, wait=wait, timeout=timeout
        )

    def close(self) -> None:
        """Cut every line. The simulated host itself holds nothing that needs closing."""
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
        roles: Role = ROLES[0],
        memory: int = _MEMORY,
        max_memory: int | None = None,
        vcpus: int = 1,
    ) -> int:
        """Make a running domain. Its nodes are written before it is introduced to xenstored.

        The nodes are `/local/domain/N`, `vm` below it, and `name` if it has one.

        Args:
            name: Its name. None writes none.
            uuid: Its uuid. None takes a random one.
            type: "pv", "hvm" or "pvh".
            domid: Its domid. None takes the next free one.
            introduce: False does not introduce it: it exists, but no event reports it until
                `introduce`.
            clear: False keeps nodes that an earlier domain left behind under this domid.
            roles: As for `build`.
            memory: Memory that it has, in bytes; 512 MiB if you give none.
            max_memory: Memory that it may have, in bytes. None is as much as it has.
            vcpus: How many vCPUs it has.

        Returns:
            Its domid.

        Raises:
            ValueError: The domid is in use, or there is no such type.
            HypercallFailed: Every domid is in use (ENOMEM).
        """
        raw = _as_value(name)
        with self._lock:
            domid = self.build(
                uuid=uuid,
                type=type,
                domid=domid,
                roles=roles,
                memory=memory,
                max_memory=max_memory,
                vcpus=vcpus,
            )
            if clear:
                self._remove(_home(domid))
            self._furnish(domid, raw)
            if introduce:
                self.introduce(domid)
            return domid

    def build(
        self,
        *,
        uuid: UUID | None = None,
        type: str = "pv",
        domid: int | None = None,
        roles: Role = ROLES[0],
        memory: int = _MEMORY,
        max_memory: int | None = None,
        vcpus: int = 1,
    ) -> int:
        """Make a domain of which the toolstack has not yet written any node.

        Nodes that an earlier domain left behind under this domid are still there. `clear_node`,
        `rename` and `introduce` complete it.

        Args:
            uuid: Its uuid. None takes a random one.
            type: "pv", "hvm" or "pvh".
            domid: Its domid. None takes the next free one.
            memory: As for `create`.
            max_memory: As for `create`.
            vcpus: As for `create`.
            roles: What it may do for the host. Without `unique_ids` the host tells no more than a
                Xen before 4.21: a xenstore stub domain, and that domid 0 is dom0.

        Returns:
            Its domid.

        Raises:
            ValueError: The domid is in use, or there is no such type.
            HypercallFailed: Every domid is in use (ENOMEM).
        """
        handle = (uuid4() if uuid is None else as_uuid(uuid)).bytes
        kind = as_type(type)
        most = memory if max_memory is None else max_memory
        for what, number in (("memory", memory), ("max_memory", most), ("vcpus", vcpus)):
            as_count(number, what)
        with self._lock:
            if not isinstance(roles, Role):
                raise TypeError(f"roles is a Role, such as Role.XENSTORE, not {roles!r}")
            domid = self._free_domid() if domid is None else as_domid(domid)
            if domid in self._guests:
                raise ValueError(f"domid {domid} is in use")
            self._last_domid = domid
            self._lives += 1
            idle = self._idle and domid != 0
            guest = _Guest(
                domid, handle, kind, self._lives, memory, most, vcpus, idle=idle, roles=roles
            )
            if not self._unique_ids:
                guest.listed = roles & Role.XENSTORE if domid else _DOM0
            self._guests[domid] = guest
            return domid

    def introduce(self, domid: int) -> None:
        """Introduce a domain to xenstored, if it is not introduced yet."""
        with self._lock:
            guest = self._guest(domid)
            if not guest.introduced:
                guest.introduced = True
                self._fire_special(b"@introduceDomain", domid)

    def release(self, domid: int) -> None:
        """Make xenstored release a domain that still runs. Its end will then fire no event."""
        with self._lock:
            self._release(self._guest(domid))

    def rename(self, domid: int, name: str | bytes | None) -> None:
        """Write the name of a domain; None removes it."""
        with self._lock:
            self._guest(domid)
            self._write(name_path(domid), _as_value(name))

    def write(self, domid: int, path: str, value: bytes | None) -> None:
        """Write a node of a domain.

        Args:
            domid: The domain.
            path: The path below /local/domain/N, such as "memory/meminfo".
            value: The value. None removes the node and all below it.
        """
        if not isinstance(value, bytes | None):
            raise InvalidKey(f"a node's value is bytes or None, not {value!r}")
        with self._lock:
            self._write(_node(self._guest(domid).domid, path), value)

    def shutdown(self, domid: int, reason: int = ShutdownReason.POWEROFF) -> None:
        """Stop the guest. Its domain stays until it is destroyed.

        Args:
            domid: The domain.
            reason: A `ShutdownReason`, or its number.
        """
        with self._lock:
            guest = self._guest(domid)
            as_count(reason, "reason")
            if guest.shutdown is None:
                guest.shutdown = ShutdownReason(reason)
                if guest.introduced:
                    self._fire_special(b"@releaseDomain", domid)

    def crash(self, domid: int) -> None:
        """Crash the guest. Its domain stays until it is destroyed."""
        self.shutdown(domid, ShutdownReason.CRASH)

    def reboot(self, domid: int, *, order: str = "libxl") -> int:
        """Reboot the guest: its domain ends, and a new one with its name and uuid begins.

        Args:
            domid: The domain.
            order: As for `destroy`. With "at once" no caller can see the time in between.

        Returns:
            The domid of the new domain.
        """
        with self._lock:
            guest = self._guest(domid)
            name, memory = self._nodes.get(name_path(domid)), guest.memory
            self.shutdown(domid, ShutdownReason.REBOOT)
            self.destroy(domid, order=order)
            again = self.create(name, uuid=UUID(bytes=guest.handle), type=guest.type)
            new = self._guests[again]
            new.memory, new.max_memory, new.vcpus = memory, guest.max_memory, guest.vcpus
            return again

    def destroy(self, domid: int, *, order: str = "libxl") -> None:
        """End the domain.

        Args:
            domid: The domain.
            order: "libxl" removes its nodes, waits until every index has seen that, then ends it:
                so the domain has no name for a while, as on a real host. It waits a quarter of
                a second at most, and not for an index that this thread drives. "at once" does
                both in one step and waits for nothing: no index sees the domain without a name.
                Use it in a test that must not block an asyncio loop. "xapi" leaves the nodes
                behind.
        """
        self.zombie(domid, order=order)()

    def zombie(self, domid: int, *, order: str = "libxl") -> Callable[[], None]:
        """End the domain while a page of it is still mapped: it stays listed, as dying.

        It holds that page, 4 KiB, until the page is unmapped; more if you `set_memory`.

        Args:
            domid: The domain.
            order: As for `destroy`.

        Returns:
            A function that unmaps the page. Call it, and the domain is gone from the list.
        """
        if order not in _ORDERS:
            raise ValueError(f"order is one of {', '.join(map(repr, _ORDERS))}, not {order!r}")
        with self._lock:
            guest = self._guest(domid)
            if order != "xapi":
                self._remove(_home(domid))
            if order == "libxl":
                self._let_see()
            if self._guests.get(domid) is guest:  # no other thread has ended it meanwhile
                guest.dying, guest.memory = True, _PAGE
                self._release(guest)

        def let_go() -> None:
            with self._lock:
                if self._guests.get(domid) is guest:
                    del self._guests[domid]

        return let_go

    def pause(self, domid: int) -> None:
        """Pause the domain. Fires no event, as on a real host."""
        with self._lock:
            self._guest(domid).paused = True

    def unpause(self, domid: int) -> None:
        """Undo `pause`. Fires no event."""
        with self._lock:
            self._guest(domid).paused = False

    def resume(self, domid: int) -> None:
        """Let a stopped guest go on, as after a failed migration. Fires no event."""
        with self._lock:
            self._guest(domid).shutdown = None

    def soft_reset(self, domid: int) -> None:
        """Start a stopped HVM or PVH guest again in the same domain, as a kexec in it does.

        Its nodes are removed and written again, and each step fires its events.

        Raises:
            ValueError: It is a PV guest, or it is not stopped.
        """
        with self._lock:
            guest = self._guest(domid)
            if guest.type is OSType.PV or guest.shutdown is None:
                raise ValueError(f"domain {domid} is not a stopped HVM or PVH guest")
            name = self._nodes.get(name_path(domid))
            self._release(guest)
            self._remove(_home(domid))
            guest.shutdown = None
            self._furnish(domid, name)
            self.introduce(domid)

    def change_handle(self, domid: int, uuid: UUID) -> None:
        """Change the uuid of a running domain, as XAPI does in a migration. Fires no event.

        Most toolstacks then `write` the node `vm`.
        """
        with self._lock:
            self._guest(domid).handle = as_uuid(uuid).bytes

    def spend(self, domid: int, nanoseconds: int) -> None:
        """Add cpu time to the guest, in nanoseconds."""
        with self._lock:
            self._guest(domid).spent += as_count(nanoseconds, "nanoseconds")

    def set_memory(self, domid: int, memory: int) -> None:
        """Change the memory that a domain has, in bytes, as its balloon does. Fires no event."""
        with self._lock:
            self._guest(domid).memory = as_count(memory, "memory")

    def set_max_memory(self, domid: int, max_memory: int) -> None:
        """Change the memory that a domain may have, in bytes. Fires no event."""
        with self._lock:
            self._guest(domid).max_memory = as_count(max_memory, "max_memory")

    def set_vcpus(self, domid: int, vcpus: int) -> None:
        """Change how many vCPUs of a domain are online. Fires no event."""
        with self._lock:
            self._guest(domid).vcpus = as_count(vcpus, "vcpus")

    def leave_node(self, domid: int, name: str | bytes) -> None:
        """Write /local/domain/N/name, whether or not a domain has that domid."""
        with self._lock:
            self._write(name_path(as_domid(domid)), _as_value(name))

    def clear_node(self, domid: int) -> None:
        """Remove /local/domain/N, whether or not a domain has that domid."""
        with self._lock:
            self._remove(_home(as_domid(domid)))

    def domids(self) -> list[int]:
        """The domids of all guests, with zombies and hidden ones, without dom0."""
        with self._lock:
            return sorted(domid for domid in self._guests if domid)

    def name(self, domid: int) -> bytes | None:
        """The value of /local/domain/N/name, None if there is no such node."""
        with self._lock:
            return self._nodes.get(name_path(as_domid(domid)))

    # -- faults ------------------------------------------------------------------------------

    def cut_line(self) -> None:
        """Fault: break every line to xenstored. New ones can be opened at once."""
        with self._lock:
            for store in list(self._stores):
                store.interrupt()

    def stop_xenstored(self) -> None:
        """Fault: stop xenstored. Every line breaks, and none can be opened until it is started."""
        with self._lock:
            self._down = True
            self.cut_line()

    def start_xenstored(self, *, empty: bool = False) -> None:
        """Undo `stop_xenstored`.

        Args:
            empty: True starts it without any node and with no guest introduced, like a new
                daemon. False starts it with all as it was.
        """
        with self._lock:
            self._down = False
            if empty:
                self.cut_line()
                self._nodes = _Tree()
                for guest in self._guests.values():
                    guest.introduced = guest.domid == 0

    def deafen_line(self) -> None:
        """Fault: the lines that are open now stay open, but send no more replies or events."""
        with self._lock:
            for store in self._stores:
                store.deafen()

    def deafen_special(self, deaf: bool = True) -> None:
        """Fault: no more events when domains start or end, as for a caller without privilege.

        Such watches can still be set, and fire once when they are.

        Args:
            deaf: False undoes it.
        """
        with self._lock:
            self._special_deaf = deaf

    def lose_events(self, count: int = 1) -> None:
        """Fault: the next `count` changes fire no watch event at all."""
        with self._lock:
            self._losing += as_count(count, "count")

    def double_events(self, count: int = 1) -> None:
        """Fault: the events of the next `count` changes are sent twice, the second time later."""
        with self._lock:
            self._doubling += as_count(count, "count")

    def refuse_node(
        self,
        domid: int,
        path: str = "name",
        error: str = "EIO",
        *,
        operations: Iterable[str] = _OPERATIONS,
    ) -> None:
        """Fault: xenstored refuses requests about a node, until `allow_node`.

        Args:
            domid: The domid, whether or not a domain has it.
            path: The path below /local/domain/N.
            error: The error that it sends: "EIO" for a corrupt node, "EACCES" for no access,
                "ENOMEM", or a word that is no errno on Linux, as "EQUOTA" of oxenstored.
            operations: The requests that it refuses, "READ" or "WATCH" or both. A watch that is
                set already stays.

        Raises:
            ValueError: `operations` has another word.
        """
        if isinstance(operations, str) or not isinstance(operations, Iterable):
            operations = (operations,)
        refused = tuple(operations)
        if not all(operation in _OPERATIONS for operation in refused):
            raise ValueError(f"operations may be 'READ' and 'WATCH', not {operations!r}")
        if not isinstance(error, str):
            raise InvalidKey(f"an error is a word such as 'EIO', not {error!r}")
        with self._lock:
            for operation in refused:
                self._refused[operation, _node(as_domid(domid), path)] = error

    def allow_node(self, domid: int, path: str = "name") -> None:
        """Undo `refuse_node`. Fires no event."""
        with self._lock:
            for operation in _OPERATIONS:
                self._refused.pop((operation, _node(as_domid(domid), path)), None)

    def refuse_state(self, domid: int, refuse: bool = True) -> None:
        """Fault: a policy refuses to give the unique id of a domain (EACCES).

        Has an effect only with `unique_ids`.

        Args:
            domid: The domid, whichever domain has it.
            refuse: False undoes it.
        """
        with self._lock:
            _set(self._refused_states, as_domid(domid), refuse)

    def hide(self, domid: int, hidden: bool = True) -> None:
        """Fault: a policy hides a domain from every hypercall.

        Args:
            domid: The domid, whichever domain has it.
            hidden: False undoes it.
        """
        with self._lock:
            _set(self._hidden, as_domid(domid), hidden)

    def step_clock(self, domid: int, nanoseconds: int) -> None:
        """Fault: the clocks of two CPUs differ, and the cpu time of a domain steps back.

        Args:
            domid: The domain.
            nanoseconds: How far; below 0 it steps forward. The cpu time never falls below 0.
        """
        with self._lock:
            self._guest(domid).spent -= as_count(nanoseconds, "nanoseconds", -math.inf)

    def halve_lists(self, count: int = 1) -> None:
        """Fault: the next `count` lists of domains lack their second half, without an error."""
        with self._lock:
            self._halving += as_count(count, "count")

    def refuse_hypercalls(self, refuse: bool = True) -> None:
        """Fault: every hypercall fails.

        Args:
            refuse: False undoes it.
        """
        with self._lock:
            self._refusing = refuse

    # -- the ports ---------------------------------------------------------------------------

    def open_hypervisor(self) -> Hypervisor:
        """Open the simulated hypervisor. For `connect`."""
        return _SimulatedHypervisor(self)

    def open_store(self, timeout: float) -> Store:
        """Open a line to the simulated xenstored. For `connect`."""
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
        """Write the nodes that every toolstack writes for a domain."""
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
        """Release the lock until every line has handled its events, or took too long to."""
        self._calm.wait_for(lambda: not any(store.is_behind() for store in self._stores), _GAP)
        for store in self._stores:
            store.late |= store.is_behind()  # do not wait for it the next time

    def _refusal(self, operation: str, path: bytes) -> StoreError | None:
        error = self._refused.get((operation, path))
        if error is None and not _WHOLE_PATH.fullmatch(path):
            error = "EINVAL"
        return None if error is None else _refused(operation, path, error)


def host_or_simulate(make: Callable[[SimulatedHost], object] | None = None) -> Host:
    """This host if it can be used, else a simulated one. For examples and demonstrations.

    It prints a line that says so, and why, if the host is simulated.

    Args:
        make: Called with the simulated host before this returns, to make its guests. For guests
            that live on it starts a thread. Not called on a real host.

    Returns:
        The host, for `domindex.connect`, `domindex.aio.connect` and `domindex.direct.open`.

    Cost:
        The host is opened once, and closed again: the hypercalls of `domindex.XenHost`, and one
        connection to xenstored.
    """
    host = XenHost()
    try:
        host.open_hypervisor().close()
        host.open_store(_TRIAL).close()
    except HostError as error:
        print(f"No Xen host can be used here ({error}). This is a simulated one.", flush=True)
    else:
        return host
    simulated = SimulatedHost()
    if make is not None:
        make(simulated)
    return simulated


def connect_or_simulate(make: Callable[[SimulatedHost], object] | None = None) -> Index:
    """The index of `host_or_simulate`, so that an example runs on any machine.

    Args:
        make: As for `host_or_simulate`.

    Returns:
        The index, live and with every domain. Close it, or use it in a `with`.

    Raises:
        HostError, TimedOut: As `domindex.connect`, if the host can be opened but not be followed.

    Cost:
        That of `host_or_simulate`, and of `domindex.connect`.
    """
    return connect(host_or_simulate(make))


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
            # As the real one does: a row that has not changed is the same object as last time.
            for place, row in enumerate(rows):
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
        if life is None or not self.has_unique_ids:
            return True
        return unique_id_of(self, domain.domid) == life

    def state(self, domid: int) -> LifeState | None:
        with self._host._lock:
            guest = self._seen(domid)
            if guest is not None and domid in self._host._refused_states:
                raise HypercallFailed(f"a policy refuses the state of domain {domid}", errno.EACCES)
            if guest is None or guest.dying:
                return None
            return LifeState(guest.unique_id, guest.roles)

    def info(self, domid: int) -> DomainInfo | None:
        with self._host._lock:
            guest = self._seen(domid)
            return None if guest is None else guest.info()

    def infos(self) -> Infos:
        with self._host._lock:
            guests = self._called()
            infos = {d: guests[d].info() for d in sorted(guests.keys() - self._host._hidden)}
        return Infos(infos, lambda info: info, tuple(d for d in infos if infos[d].dying))

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
        self._again: dict[Watch, None] = {}  # to be queued once more after the queue was taken
        self._woken = self._deaf = self._cut = False
        self._waiting = False
        self._driver = threading.get_ident()
        self.late = False
        self.forgets = False

    # -- what the host does to it, under its lock ---------------------------------------------

    def changed(self, path: bytes, below: Sequence[bytes]) -> list[Watch]:
        """The events on this line if a node changes, or is removed with those `below` it."""
        fired = []
        above, level = path, 0
        while above:
            for watch, depth in self._watches.get(above, {}).items():
                if depth is None:  # covers all below; its event has the path of the watch
                    fired.append(watch)
                elif level <= depth:
                    fired.append(Watch(path, watch.token))
            above, level = above.rpartition(b"/")[0], level + 1
        for gone in below:
            fired += self._watches.get(gone, ())
        return fired

    def happened(self, path: bytes, domid: int) -> list[Watch]:
        """The events on this line if a domain starts or ends."""
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
        """Whether the thread that drives this line has yet to handle its events.

        False for the calling thread, for a line without watches, and for a thread that was too
        slow the last time and has not been idle since.
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
        """The lock, for a call by the thread that drives this line."""
        with self._changed:
            self._check()
            self._driver = threading.get_ident()
        return self._changed

    def _request(self, count: int) -> threading.Condition:
        """The lock, for a block that answers `count` requests. A deaf line times out instead."""
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
            f"{path!r} is not a path below /local/domain/N: it may have letters, digits, -, _, @ "
            "and single slashes between them"
        )
    return _home(domid) + b"/" + path.encode("ascii")


def _set(among: set[int], domid: int, there: bool) -> None:
    if there:
        among.add(domid)
    else:
        among.discard(domid)
