"""A host of which every answer is there before it is asked, so that only the index costs.

As the real ports it gives the very rows it gave before of all that has not changed. Nothing
here waits, and no thread runs: the pass of the watcher is called as the watcher calls it.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from domindex.core.lives import name_path
from domindex.core.reconcile import SPECIAL
from domindex.core.scope import Scope
from domindex.domain import Domain, DomainInfo, OSType, ShutdownReason
from domindex.errors import StoreError
from domindex.index import Index
from domindex.infos import Infos
from domindex.options import Timing
from domindex.picture import Live
from domindex.ports import Hypervisor, LifeState, Row, Watch
from domindex.xen._privcmd import CData, ffi
from domindex.xen.hypercall import BATCH, PrivcmdHypervisor
from tests.wire.fake_hypervisor import FakeDomain, FakePrivcmd, FakeXen

INTRODUCED, RELEASED = SPECIAL
_RELEASE = "4.17"
_RUNS, _SHUT_DOWN = 0xFFFF0022, 0xFF000026  # flags of an HVM guest; its reason goes between


def handle(domid: int) -> bytes:
    """dom0 has the nil uuid."""
    return domid.to_bytes(16, "big")


def row(domid: int, shutdown: ShutdownReason | None = None) -> Row:
    return Row(domid, handle(domid), OSType.PVH, shutdown, False, 1, None)


class CannedHypervisor:
    """Rows from a list, by domid without a gap. See `ports.Hypervisor`."""

    version = "canned"
    has_unique_ids = False

    def __init__(self, domains: int) -> None:
        self.rows = [row(domid) for domid in range(domains)]

    def list(self) -> Sequence[Row]:
        return self.rows.copy()

    def get(self, domid: int) -> Row | None:
        return self.rows[domid] if domid < len(self.rows) else None

    def shut_down(self, domid: int, reason: ShutdownReason | None) -> None:
        self.rows[domid] = row(domid, reason)

    def confirms(self, domain: Domain) -> bool:
        raise NotImplementedError

    def state(self, domid: int) -> LifeState | None:
        raise NotImplementedError

    def info(self, domid: int) -> DomainInfo | None:
        raise NotImplementedError

    def infos(self) -> Infos:
        raise NotImplementedError

    def close(self) -> None:
        pass


class CannedPrivcmd(FakePrivcmd):
    """Once filled it copies entries out, as Xen does, and does nothing else."""

    entries = memoryview(b"")
    size = 0

    def fill(self, domains: int) -> None:
        """From now on answer with so many domains."""
        xen, self.size = self.xen, self.xen.layout["size"]
        made = (FakeDomain(domid, self._fields(domid)) for domid in range(domains))
        self.entries = memoryview(bytearray(b"".join(map(xen.entry, made))))

    @staticmethod
    def _fields(domid: int) -> dict[str, int | bytes]:
        return {"flags": _RUNS, "arch_config_emulation_flags": 1, "handle": handle(domid)}

    def shut_down(self, domid: int, reason: ShutdownReason | None) -> None:
        flags = _RUNS if reason is None else _SHUT_DOWN | reason << 16
        self.entries[domid * self.size + 4 : domid * self.size + 8] = flags.to_bytes(4, "little")

    def call(self, prepared: CData) -> int:
        if not self.size:
            return super().call(prepared)
        asked: Any = ffi.cast("struct sysctl_list *", prepared.arg[0])
        first = asked.first_domain * self.size
        answer = self.entries[first : first + BATCH * self.size]
        ffi.memmove(ffi.cast("void *", asked.buffer), answer, len(answer))
        asked.num_domains = len(answer) // self.size
        return 0


class CannedStore:
    """Names by path; each new watch fires once. See `ports.Store`."""

    forgets = False

    def __init__(self, names: dict[bytes, bytes]) -> None:
        self.names = names
        self.queue: list[Watch] = []

    def watch(
        self, watches: Sequence[Watch], *, depth: int | None = None
    ) -> list[StoreError | None]:
        if depth is not None:
            return [StoreError("canned", errno.EINVAL) for _ in watches]
        self.queue += watches
        return [None] * len(watches)

    def unwatch(self, watches: Sequence[Watch]) -> None:
        pass

    def read(self, paths: Sequence[bytes]) -> list[bytes | StoreError | None]:
        return [self.names.get(path) for path in paths]

    def is_introduced(self, domid: int) -> bool | None:
        return None

    def events(self, *, arrived: bool = False) -> Iterable[Watch]:
        queue, self.queue = self.queue, []
        return queue

    def barrier(self) -> None:
        pass

    def wait(self, timeout: float) -> None:
        raise NotImplementedError

    def wake(self) -> None:
        pass

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


class Canned:
    """A host of so many domains, and an index of it whose watcher is driven by hand.

    raw: the list comes through `PrivcmdHypervisor` and the bytes of a hypercall.
    """

    def __init__(self, domains: int, *, raw: bool = False) -> None:
        self._hypervisor: Hypervisor
        self._changing: CannedHypervisor | CannedPrivcmd
        if raw:
            privcmd = CannedPrivcmd(FakeXen(_RELEASE))
            self._hypervisor, self._changing = PrivcmdHypervisor(privcmd, "x86_64"), privcmd
            privcmd.fill(domains)
        else:
            self._hypervisor = self._changing = CannedHypervisor(domains)
        self.domains = domains
        self.store = CannedStore({name_path(d): b"vm-%d" % d for d in range(domains + 1)})
        # Under valgrind all takes long: nothing is due, and nobody is held up.
        self.index = Index(self, Timing(probe=math.inf, audit=math.inf))
        self._watcher = self.index._body.watcher
        self._line = self._watcher._line(self.store)

    def open_hypervisor(self) -> Hypervisor:
        return self._hypervisor

    def open_store(self, timeout: float) -> CannedStore:
        return self.store

    def sync(self) -> None:
        """What the watcher does first on every line."""
        self._watcher._reconciler.new_line()
        self.store.watch(SPECIAL)
        self._line._pass(Scope.ALL, thorough=True, inferred=True)
        self.index._body.picture.state = Live()
        self._line._begin_to_follow()
        self.look()

    def look(self) -> None:
        """Take up what has fired, as the watcher does each time it wakes."""
        if scope := self._line._events():
            self._line._pass(scope)

    def shut_down(self, domid: int) -> None:
        """It crashes, or runs again if it had; the event that tells of it."""
        crashed = self.index.by_id(domid).shutdown is None
        self._changing.shut_down(domid, ShutdownReason.CRASH if crashed else None)
        self.store.queue.append(RELEASED)

    def bear(self) -> None:
        """One domain more."""
        assert isinstance(self._changing, CannedHypervisor)
        self._changing.rows.append(row(self.domains))
        self.store.queue.append(INTRODUCED)

    def end(self) -> None:
        """The newborn is gone."""
        assert isinstance(self._changing, CannedHypervisor)
        self._changing.rows.pop()
        self.store.queue.append(RELEASED)

    def rename(self, domid: int) -> None:
        """To another name each time."""
        path = name_path(domid)
        self.store.names[path] = b"x" if self.store.names[path] != b"x" else b"y"
        tokens = self._watcher._reconciler.nodes._tokens
        (token,) = (t for t, name in tokens.items() if name.domid == domid)
        self.store.queue.append(Watch(path, token))

    @property
    def uuid(self) -> UUID:
        """Of the last domain."""
        return UUID(bytes=handle(self.domains - 1))
