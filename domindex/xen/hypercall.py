"""Which domains there are, by hypercall: find the version, ask, believe only what fits.

Sources: xen/include/public/{xen,version,sysctl,domctl}.h; tools/libs/ctrl for the batch size.
Only getdomaininfolist, getdomaininfo, get_domain_state and xen_version are ever called.
"""

from __future__ import annotations

import errno
import functools
import platform
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, cast
from uuid import UUID

from domindex.domain import FIRST_RESERVED_DOMID, Domain, DomainInfo, OSType, ShutdownReason
from domindex.errors import AccessDenied, HypercallFailed, NotControlDomain, UnknownXen
from domindex.keys import as_domid
from domindex.ports import Row
from domindex.xen._privcmd import Privcmd, ffi
from domindex.xen.layouts import (
    BLOCKED,
    DYING,
    PAUSED,
    RELEASES,
    RUNNING,
    Layout,
    Release,
    os_type,
    shutdown_reason,
)
from domindex.xen.listing import Listing, R

_XEN_VERSION, _SYSCTL, _DOMCTL = 17, 35, 36
_LIST, _GET, _STATE = 6, 5, 90
_STATE_DEAD = 8

BATCH: Final = 1024
"""Domains in one hypercall, as libxl asks for them. Xen walks from the lowest domid each time."""

_PAGE = 4096
_ENTRIES = 144
"""Where the entries begin: behind the struct of the call itself, in the same memory."""
_ABSENT = (errno.ESRCH, errno.ENOENT)
_REFUSED = (errno.EACCES, errno.EPERM)
_HIGHEST = FIRST_RESERVED_DOMID - 1
_KEPT = 8
"""Prepared calls of a kind that are kept. Each caller takes one, or makes one where all are
taken: no lock is held over a call, so that a signal's handler may call amid a call, and closing
waits for nobody. One whose call was broken off does not come back."""
_STATE_SINCE = 0x16
"""The sysctl version of Xen 4.21, the first with get_domain_state."""


class _List:
    """A prepared getdomaininfolist for `most` domains at a time, for one caller at a time.

    room: bytes for the entries. The caller sets `version` to the sysctl version.
    """

    def __init__(self, privcmd: Privcmd, room: int, most: int) -> None:
        self.privcmd = privcmd
        self._most = most
        self._memory = memory = privcmd.memory(_ENTRIES + room)  # the casts do not keep it
        self.header = cast(Any, ffi.cast("struct sysctl_list *", memory.at))
        self.header.cmd = _LIST
        self.header.max_domains = most
        self.header.buffer = memory.address + _ENTRIES
        self.prepared = privcmd.prepare(_SYSCTL, memory.address)
        self.memory = memoryview(memory.view)
        self.entries = self.memory[_ENTRIES:]

    @property
    def version(self) -> int:
        return int(self.header.interface_version)

    @version.setter
    def version(self, version: int) -> None:
        self.header.interface_version = version

    def __call__(self, first: int) -> int:
        """How many entries there are from domid `first` on, or minus the errno."""
        self.header.first_domain = first
        result = self.privcmd.call(self.prepared)
        if result < 0:
            return result
        count: int = self.header.num_domains
        if count > self._most:
            raise HypercallFailed(f"the hypervisor gave {count} domains for {self._most} asked")
        return count


class PrivcmdHypervisor:
    """The hypervisor of this host. Safe from any thread.

    Raises NotControlDomain, AccessDenied, UnknownXen or HypercallFailed when opened.
    """

    def __init__(self, privcmd: Privcmd | None = None, machine: str | None = None) -> None:
        self._privcmd = privcmd = privcmd or Privcmd()
        machine = machine or platform.machine()
        try:
            probe = _Probe(privcmd, machine)
            release, layout = probe.release, probe.layout
            self.version = f"{probe.said} (domctl {release.domctl:#x}, sysctl {release.sysctl:#x})"
            self.has_unique_ids = probe.has_unique_ids
            self._sysctl = release.sysctl
            self._size = layout.size
            self._lists = deque([self._list(BATCH)], _KEPT)
            self._spare = deque([self._list(1)], _KEPT)
            self._domctls = deque([probe.domctl], _KEPT)
        except BaseException:
            privcmd.close()
            raise
        self._row = layout.row
        self._answer = struct.Struct(f"<24xI{_ENTRIES - 28}x{layout.identity.format[1:]}")
        self._info = layout.info
        self._type = os_type(release.kind(machine))
        # Whoever does not get it decodes afresh; the last one used is kept.
        self._new_listing = functools.partial(Listing[Row], self._row, self._decode)
        self._new_infos = functools.partial(Listing[DomainInfo], self._info, self._decode_info)
        self._listings, self._infos = deque([self._new_listing()], 1), deque([self._new_infos()], 1)
        # (type, shutdown, dying) by (flags that matter, emulation): the same few, over and over
        self._kinds: dict[tuple[int, int | bytes], tuple[OSType, ShutdownReason | None, bool]] = {}

    def list(self) -> Sequence[Row]:
        """Every domain, lowest domid first. One hypercall for each 1,024.

        A domain that lives through the call is listed: it keeps its domid, and each batch
        goes on after the last domid of the one before.
        """
        return self._listed(self._listings, self._new_listing)

    def infos(self) -> Sequence[DomainInfo]:
        """State, memory and times of every domain. Order and cost as `list`."""
        return self._listed(self._infos, self._new_infos)

    def _listed(self, kept: deque[Listing[R]], new: Callable[[], Listing[R]]) -> Sequence[R]:
        many = self._taken(self._lists) or self._list(BATCH)
        raw, last = b"", -1
        while True:
            count = self._checked(many(last + 1), "list the domains")
            raw += many.entries[: count * self._size]
            if count < BATCH:
                break
            before, (last, *_) = last, self._row.unpack_from(raw, len(raw) - self._size)
            if not before < last < _HIGHEST:
                break
        self._lists.append(many)
        if not raw:
            raise HypercallFailed("the hypervisor lists no domain, not even the one that asks")
        listing = self._taken(kept) or new()
        listed = listing.rows(raw)
        kept.append(listing)
        return listed

    def get(self, domid: int) -> Row | None:
        """That domain, or None. One hypercall.

        It lists one domain from `domid` on: the other call for this waits for Xen's domctl
        lock, behind a domain being destroyed for example, and up to 4.17 answers for the next
        higher domain too.
        """
        entry = self._entry(domid, self._row)
        return None if entry is None else self._decode(entry)

    def confirms(self, domain: Domain) -> bool:
        """Whether that very domain runs now, as the record says. See `ports.Hypervisor`."""
        # All that can be is done before the call: after it the processor's caches are cold.
        domid, handle = domain.domid, domain.uuid.bytes
        kind = domain.type, domain.shutdown, False
        one = self._take_spare()
        one.header.first_domain = domid
        result = one.privcmd.call(one.prepared)
        count, found, flags, found_handle, emulation = self._answer.unpack_from(one.memory)
        self._spare.append(one)
        if result < 0:
            self._checked(result, "confirm a domain")
        key = flags & _MATTERS, emulation
        return (
            count == 1
            and found == domid
            and found_handle == handle
            and (self._kinds.get(key) or self._kind(*key)) == kind
            and (domain.life.unique_id is None or self._is_life(domain))
        )

    def _is_life(self, domain: Domain) -> bool:
        """Whether the unique id still is that domain's; True where it may not be asked.

        Asked after its entry was read: no id is given twice, so one that is its own still was so
        then, and the entry was of that life.
        """
        try:
            return self.unique_id(domain.domid) == domain.life.unique_id
        except HypercallFailed as error:
            if error.errno in _REFUSED:
                return True
            raise

    def info(self, domid: int) -> DomainInfo | None:
        """State, memory and times of that domain, or None. One hypercall."""
        entry = self._entry(as_domid(domid), self._info)
        return None if entry is None else self._decode_info(entry)

    def unique_id(self, domid: int) -> int | None:
        """What Xen >= 4.21 calls this life; None if it is gone or dead. One hypercall."""
        domctl = self._taken(self._domctls) or _Domctl(self._privcmd)
        result = domctl(_STATE, 0, domid)
        found = domctl.struct.get_domain_state
        unique_id = None if found.state & _STATE_DEAD else int(found.unique_id)
        self._domctls.append(domctl)
        if -result in _ABSENT:
            return None
        self._checked(result, "ask for the state of a domain")
        return unique_id

    def close(self) -> None:
        """Give descriptors back, and memory once no call uses it. Waits for none; may be twice."""
        self._privcmd.close()
        for prepared in (self._lists, self._spare, self._domctls):
            prepared.clear()

    def _list(self, most: int) -> _List:
        made = _List(self._privcmd, self._size * most, most)
        made.version = self._sysctl
        return made

    def _taken(self, spare: deque[_Spare]) -> _Spare | None:
        """One of those, or None: then the caller makes one. Raises Closed."""
        self._privcmd.check_open()
        try:
            return spare.pop()
        except IndexError:
            return None

    def _take_spare(self) -> _List:
        self._privcmd.check_open()
        try:
            return self._spare.pop()
        except IndexError:
            return self._list(1)

    def _entry(self, domid: int, layout: struct.Struct) -> tuple[Any, ...] | None:
        """The fields of that domain's entry, the domid first."""
        one = self._take_spare()
        count = one(domid)
        entry = layout.unpack_from(one.entries)
        self._spare.append(one)
        return entry if self._checked(count, "look at a domain") and entry[0] == domid else None

    def _decode(self, entry: tuple[Any, ...]) -> Row:
        domid, flags, frame, cpu_time, handle, emulation = entry
        type_, shutdown, dying = self._kind(flags & _MATTERS, emulation)
        return Row(
            domid, handle, type_, shutdown, dying, cpu_time, frame if type_ is OSType.PV else None
        )

    def _decode_info(self, entry: tuple[Any, ...]) -> DomainInfo:
        domid, flags, pages, most, cpu_time, vcpus, handle, emulation = entry
        type_, shutdown, dying = self._kind(flags & _MATTERS, emulation)
        return DomainInfo._make(  # half the time of DomainInfo(...)
            (
                domid,
                _uuid(handle),
                type_,
                flags & PAUSED != 0,
                flags & BLOCKED != 0,
                flags & RUNNING != 0,
                shutdown,
                dying,
                pages * _PAGE,
                most * _PAGE,
                cpu_time,
                vcpus,
            )
        )

    def _kind(  # emulation: b"" where the entry has none
        self, flags: int, emulation: int | bytes
    ) -> tuple[OSType, ShutdownReason | None, bool]:
        """(type, shutdown, dying) of the flags that matter."""
        key = (flags, emulation)
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) > 256:  # the upper bits are the hypervisor's: be bounded
                self._kinds.clear()
            kind = (
                self._type(flags, int(emulation or 0)),
                shutdown_reason(flags),
                bool(flags & DYING),
            )
            self._kinds[key] = kind
        return kind

    def _checked(self, result: int, what: str) -> int:
        if result < 0:
            raise HypercallFailed(f"the hypervisor would not {what}", -result)
        return result


_Spare = TypeVar("_Spare")


@functools.lru_cache(4096)
def _uuid(handle: bytes) -> UUID:
    return UUID(bytes=handle)


_MATTERS = 0xFF0087
"""Flags that Row is made of: dying, hvm_guest, shutdown, PVHv1 and the shutdown reason."""


class _Domctl:
    """A prepared domctl. One caller at a time."""

    def __init__(self, privcmd: Privcmd) -> None:
        self._privcmd = privcmd
        self._memory = privcmd.memory(_PAGE)
        self.struct = cast(Any, ffi.cast("struct domctl *", self._memory.at))
        self._call = privcmd.prepare(_DOMCTL, self._memory.address)

    def __call__(self, cmd: int, version: int, domid: int) -> int:
        ffi.buffer(self.struct, ffi.sizeof("struct domctl"))[:] = bytes(144)
        self.struct.cmd, self.struct.interface_version, self.struct.domain = cmd, version, domid
        return self._privcmd.call(self._call)


class _Probe:
    """Which release this is: by domctl version, then sysctl version, then the entry's size."""

    def __init__(self, privcmd: Privcmd, machine: str) -> None:
        self._privcmd = privcmd
        self.domctl = _Domctl(privcmd)
        self.one = _List(privcmd, _PAGE, 1)
        major, minor = self._xen_version()
        self.said = f"Xen {major}.{minor}"
        self.release = self._find(major, minor, machine)
        layout = self.release.layout(machine)
        assert layout is not None
        self.layout: Layout = layout
        self._check_stride()
        result = self.domctl(_STATE, 0, 0)
        self.has_unique_ids = (
            result >= 0
            or -result in _ABSENT
            # Of that domain alone it may be refused. Xen that does not know the call says so too.
            or (result == -errno.EACCES and self.release.sysctl >= _STATE_SINCE)
        )

    def _xen_version(self) -> tuple[int, int]:
        result = self._privcmd.call(self._privcmd.prepare(_XEN_VERSION, 0, 0))
        if result < 0:
            raise self._denied(-result)
        return result >> 16, result & 0xFFFF

    def _find(self, major: int, minor: int, machine: str) -> Release:
        # What Xen says of itself only orders the candidates: vendors patch, and 4.10.0 and
        # 4.10.1 differ while both say 4.10.
        runs = [release for release in RELEASES if release.layout(machine) is not None]
        likely = [release for release in runs if release.covers(major, minor)]
        versions = dict.fromkeys(release.domctl for release in (*likely, *runs))
        for domctl in versions:
            # Hardly anybody has that domid, so that no policy about a domain is in the way.
            if not self._speaks(self.domctl(_GET, domctl, _HIGHEST)):
                continue
            for release in (*likely, *runs):
                self.one.version = release.sysctl
                if release.domctl == domctl and self._speaks(self.one(0)):
                    return release
        if not runs:
            raise UnknownXen(f"{self.said} on {machine} is not known; x86_64 and arm64 are")
        newest = RELEASES[0].names.split()[0].split("-")[0].split(".")
        if (major, minor) > (int(newest[0]), int(newest[1])):
            raise UnknownXen(f"{self.said} is newer than this domindex; look for a newer one")
        raise AccessDenied(
            f"{self.said} refuses every interface version known for it: a Flask/XSM policy "
            "denies it to this domain, or a vendor changed the interface"
        )

    def _speaks(self, result: int) -> bool:
        """Whether the interface version was the right one. Raises what no version would mend."""
        if result >= 0 or result == -errno.ESRCH:  # looked up after the version
            return True
        if result != -errno.EACCES:  # Xen's word for another version, and Flask's for no
            raise self._denied(-result)
        return False

    def _denied(self, error: int) -> Exception:
        if error in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            if _is_control_domain() is False:
                return NotControlDomain(
                    "this is a guest of Xen: only a control domain (dom0) may list domains"
                )
            return AccessDenied("the hypervisor does not let this domain list domains", error)
        return HypercallFailed("the hypervisor could not be asked for its version", error)

    def _check_stride(self) -> None:
        """Xen copies an entry whole, padding included: so what it overwrites is its size."""
        size = 0
        for filler in (b"\xa5", b"\x5a"):
            self.one.entries[:] = filler * len(self.one.entries)
            count, entry = self.one(0), bytes(self.one.entries)
            if count == 0:
                raise AccessDenied(
                    f"{self.said} lists no domain to this one: a Flask/XSM policy hides them all"
                )
            if count < 0:
                raise self._denied(-count)
            size = max(size, len(entry.rstrip(filler)))
        if size != self.layout.size:
            raise UnknownXen(
                f"{self.said} has entries of {size} bytes where {self.layout.size} are known: "
                "a vendor changed the interface"
            )


def _is_control_domain() -> bool | None:
    try:
        with open("/proc/xen/capabilities", encoding="ascii", errors="replace") as file:
            return "control_d" in file.read()
    except OSError:
        return None
