"""A toolstack for tests: makes and ends real domains in milliseconds.

A domain from here has a few pages, no kernel and no devices, and stays paused. For Xen and for
xenstored it is a domain like any other: it is listed, has a handle and a type, is introduced,
is reported when it ends. Names are written as libxl writes them, before the introduction.

`xl.py` is the slow path through the real toolstack.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest

from ._libxen import failed, load
from ._store import Name, StoreWriter
from .kinds import MACHINE, kind

_PAGES = 8
_STORE_PAGE, _CONSOLE_PAGE, _SPARE_PAGE = 0, 1, 5  # which of its pages is which
_MEMORY_KIB = 1024
_PAGE_TABLES = 1 << 20  # bytes for them; on x86 Xen has a pool for a start
_SHUTDOWN_CRASH = 3  # sched.h
_DYING = 1  # flag in a domain's list entry: all that is left is what others hold
_READABLE = 1  # PROT_READ
_GONE_WITHIN = 20.0  # seconds

# domctl.h: XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap
_HARDWARE = 3


@dataclass(slots=True)
class _Made:
    """A domain made here. frames: its pages, as others map them. holds: undo each mapping."""

    uuid: UUID
    hardware: bool = False
    name: Name | None = None
    frames: list[int] = field(default_factory=list)
    holds: list[Callable[[], None]] = field(default_factory=list)


class RealHost:
    """Domains on the host that this runs on. For one thread at a time."""

    def __init__(self) -> None:
        libraries = load()
        self._minor = libraries.minor
        self._ffi = libraries.ffi
        self._xen, self._guest, self._memory = libraries.control, libraries.guest, libraries.memory
        self._store = StoreWriter(libraries)
        null = self._ffi.NULL
        self._xch = self._opened("xc_interface_open", self._xen.xc_interface_open(null, null, 0))
        self._mapper = self._opened(
            "xenforeignmemory_open", self._memory.xenforeignmemory_open(null, 0)
        )
        self._made: dict[int, _Made] = {}
        self._left: set[int] = set()  # domids with nodes and no domain

    def create(
        self,
        name: Name | None = None,
        *,
        uuid: UUID | None = None,
        type: str | None = None,
        domid: int | None = None,
        introduce: bool = True,
    ) -> int:
        """Make a paused domain and return its domid.

        name: None leaves it without a name.
        type: "pv", "pvh" or "hvm", if the machine has it; None is the usual one.
        domid: a free one to use; None takes the next.
        introduce: False leaves it unknown to xenstored, which then tells of neither its birth
            nor its death.
        """
        type = kind(type)
        made = _Made(uuid or uuid4(), hardware=type != "pv")
        domid = self._new_domain(made.uuid, type, domid)
        self._made[domid] = made
        made.frames = self._populate(domid)
        if domid in self._left:
            self.clear_node(domid)
        self._store.write(f"/local/domain/{domid}/vm", f"/vm/{made.uuid}")
        if name is not None:
            self.rename(domid, name)
        if introduce:
            self.introduce(domid)
        return domid

    def introduce(self, domid: int) -> None:
        """Tell xenstored of a domain: one left unannounced, or after xenstored has started anew."""
        made = self._made[domid]
        store, console = made.frames[_STORE_PAGE], made.frames[_CONSOLE_PAGE]
        seed = self._guest.xc_dom_gnttab_seed
        if seed(self._xch, domid, made.hardware, console, store, 0, 0):
            raise failed(self._ffi, f"xc_dom_gnttab_seed({domid})")
        port = self._call("xc_evtchn_alloc_unbound", domid, 0)
        self._store.introduce(domid, store, port)

    def release(self, domid: int) -> None:
        """Let xenstored give up its connection to a domain that goes on."""
        self._store.release(domid)

    def rename(self, domid: int, name: Name | None) -> None:
        """Give it another name; None takes its name away."""
        path = f"/local/domain/{domid}/name"
        if name is None:
            self._store.remove(path)
        else:
            self._store.write(path, name)
        if (made := self._made.get(domid)) is not None:  # dom0 was not made here
            made.name = name
            if name is not None:
                self._store.write(f"/vm/{made.uuid}/name", name)

    def write(self, domid: int, path: str, value: bytes | None) -> None:
        """Write a node below its home; None removes it."""
        node = f"/local/domain/{domid}/{path}"
        if value is None:
            self._store.remove(node)
        else:
            self._store.write(node, value)

    def shutdown(self, domid: int, reason: int = 0) -> None:
        """It shuts down, as if by itself; it stays until it is destroyed."""
        self._call("xc_domain_shutdown", domid, reason)

    def crash(self, domid: int) -> None:
        self.shutdown(domid, _SHUTDOWN_CRASH)

    def pause(self, domid: int) -> None:
        self._call("xc_domain_pause", domid)

    def unpause(self, domid: int) -> None:
        """Take one pause back. Each domain has one from its creation, and nothing to run."""
        self._call("xc_domain_unpause", domid)

    def resume(self, domid: int) -> None:
        """Let a PVH or HVM domain that stopped go on. A PV one has no state to go on from."""
        if self._guest.xc_domain_resume(self._xch, domid, 0):
            raise failed(self._ffi, f"xc_domain_resume({domid})")
        self._store.resume(domid)

    def soft_reset(self, domid: int) -> None:
        """Start a stopped PVH or HVM domain again, in the order of libxl_create.c."""
        if MACHINE != "x86_64":
            pytest.skip("Xen has no soft reset on Arm")
        made = self._made[domid]
        self.release(domid)
        self.clear_node(domid)
        self._call("xc_domain_soft_reset", domid)
        self._store.write(f"/local/domain/{domid}/vm", f"/vm/{made.uuid}")
        if made.name is not None:
            self.rename(domid, made.name)
        self.introduce(domid)

    def change_handle(self, domid: int, uuid: UUID) -> None:
        """Change its uuid in the hypervisor only, as a migration by XAPI does."""
        self._call("xc_domain_sethandle", domid, uuid.bytes)

    def destroy(self, domid: int, *, order: str = "libxl") -> None:
        """End it, and wait until the hypervisor lists it no more.

        order: "libxl" removes its nodes first; "xapi" leaves them, until `clear_node`.
        Raises TimeoutError if someone holds its memory for too long.
        """
        self._end(domid, order)
        made = self._made.pop(domid)
        if not made.holds:
            self._wait(domid, lambda flags: flags is None)

    def leave_node(self, domid: int, name: Name) -> None:
        """A name in xenstore for a domid that no domain need have."""
        self._left.add(domid)
        self._store.write(f"/local/domain/{domid}/name", name)

    def clear_node(self, domid: int) -> None:
        """Remove what xenstore has about a domid."""
        self._store.remove(f"/local/domain/{domid}")
        self._left.discard(domid)

    def zombie(self, domid: int) -> Callable[[], None]:
        """End it while a page of it is held: it stays in the list, dying.

        Returns a function that lets go and waits until it is gone; calling it again does nothing.
        """
        made = self._made[domid]
        frames = self._ffi.new("xen_pfn_t[1]", [made.frames[_SPARE_PAGE]])
        errors = self._ffi.new("int[1]")
        page = self._memory.xenforeignmemory_map(self._mapper, domid, _READABLE, 1, frames, errors)
        if page == self._ffi.NULL:
            raise failed(self._ffi, f"xenforeignmemory_map({domid})")
        held = [page]

        def let_go() -> None:
            while held:
                self._memory.xenforeignmemory_unmap(self._mapper, held.pop(), 1)
                self._made.pop(domid, None)
                self._wait(domid, lambda flags: flags is None)

        made.holds.append(let_go)
        self._end(domid, "libxl")
        self._wait(domid, lambda flags: flags is None or bool(flags & _DYING))
        return let_go

    def domids(self) -> list[int]:
        """The domains made here that the hypervisor still lists, zombies among them."""
        return sorted(domid for domid in self._made if self._flags(domid) is not None)

    def close(self) -> None:
        """Destroy all that was made here and is left, and close what was opened."""
        for made in list(self._made.values()):
            if made.holds:
                made.holds[0]()
        # At a death xenstored looks at all its domains, and at each request it visits them all.
        # So they die at once, for one look at many, and it is asked when they are gone.
        for domid in self._made:
            self._call("xc_domain_destroy", domid)
        for domid in self._made:
            self._wait(domid, lambda flags: flags is None)
        for domid, made in self._made.items():
            self._remove_nodes(domid, made)
        self._made.clear()
        for domid in list(self._left):
            self.clear_node(domid)
        self._store.close()
        self._memory.xenforeignmemory_close(self._mapper)
        self._xen.xc_interface_close(self._xch)

    def _new_domain(self, uuid: UUID, type: str, domid: int | None) -> int:
        config: Any = self._ffi.new("struct create *")
        config.handle = uuid.bytes
        config.flags = 0 if type == "pv" else _HARDWARE
        config.max_vcpus = 1
        config.max_evtchn_port = 1023
        config.max_grant_frames = 4
        if self._minor >= 16:
            config.grant_opts = 1  # the version of grant tables
        if MACHINE == "x86_64":
            lapic, all_devices = 1, 0x1FF if self._minor >= 20 else 0x3FF
            config.emulation_flags = {"pv": 0, "pvh": lapic, "hvm": all_devices}[type]
        number = self._ffi.new("uint32_t *", domid or 0)
        if self._xen.xc_domain_create(self._xch, number, config):
            raise failed(self._ffi, f"xc_domain_create({domid})")
        return int(number[0])

    def _populate(self, domid: int) -> list[int]:
        self._call("xc_domain_max_vcpus", domid, 1)
        self._call("xc_domain_setmaxmem", domid, _MEMORY_KIB)
        if MACHINE == "aarch64":
            self._call("xc_set_paging_mempool_size", domid, _PAGE_TABLES)
        frames = self._ffi.new("xen_pfn_t[]", list(range(_PAGES)))
        # For PV the numbers of the pages that Xen chose come back in the same array.
        self._call("xc_domain_populate_physmap_exact", domid, _PAGES, 0, 0, frames)
        return list(frames)

    def _end(self, domid: int, order: str) -> None:
        if order == "libxl":
            self.pause(domid)
            self._remove_nodes(domid, self._made[domid])
        elif order == "xapi":
            self._left.add(domid)
        else:
            raise ValueError(f"no such order: {order!r}")
        self._call("xc_domain_destroy", domid)

    def _remove_nodes(self, domid: int, made: _Made) -> None:
        self._store.remove(f"/vm/{made.uuid}")
        self.clear_node(domid)

    def _flags(self, domid: int) -> int | None:
        """The flags of a domain's list entry; None if it is not listed."""
        entry = self._ffi.new("uint64_t[32]")  # larger than the entry of any release
        if self._call("xc_domain_getinfolist", domid, 1, entry) != 1:
            return None
        found, flags = struct.unpack_from("<HxxI", self._ffi.buffer(entry))
        return int(flags) if found == domid else None  # else the next domain was listed

    def _wait(self, domid: int, wanted: Callable[[int | None], bool]) -> None:
        # Nothing tells when a domain finally vanishes: the hypervisor has to be asked again.
        # xenstored needs the processor meanwhile, to unmap the domain's page.
        deadline = time.monotonic() + _GONE_WITHIN
        while not wanted(self._flags(domid)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"domain {domid} did not end; someone holds its memory")
            time.sleep(0.001)

    def _call(self, name: str, domid: int, *arguments: object) -> int:
        result = int(getattr(self._xen, name)(self._xch, domid, *arguments))
        if result < 0:
            raise failed(self._ffi, f"{name}({domid})")
        return result

    def _opened(self, call: str, handle: Any) -> Any:
        if handle == self._ffi.NULL:
            raise failed(self._ffi, call)
        return handle
