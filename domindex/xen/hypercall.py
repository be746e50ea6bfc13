"""The hypervisor of a real host: `ports.Hypervisor` by hypercalls.

Read after probe.py and listing.py.

No lock is held over a hypercall. Each caller takes a prepared call that is spare, or makes one if
all are taken, and puts it back afterwards. So threads do not wait for each other, a handler of a
signal may call in the middle of a call, and closing waits for none. `pop` and `append` of a deque
are atomic.

Sources: xen/include/public/{sysctl,domctl}.h; tools/libs/ctrl for the batch size.
"""

from __future__ import annotations

import functools
import itertools
import platform
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from domindex.domain import ROLES, Domain, DomainInfo, OSType, Role, ShutdownReason
from domindex.errors import HypercallFailed
from domindex.infos import Infos
from domindex.keys import as_domid
from domindex.ports import LifeState, Row, unique_id_of
from domindex.xen._privcmd import Privcmd
from domindex.xen.calls import ABSENT, ENTRIES, GET_DOMAIN_STATE, PAGE, REFUSED, Domctl, ListCall
from domindex.xen.layouts import (
    BLOCKED,
    DYING,
    PAUSED,
    RUNNING,
    os_type,
    shutdown_reason,
    xenstore_flag,
)
from domindex.xen.listing import Listing, domids_of
from domindex.xen.probe import HIGHEST_DOMID, Probe

BATCH: Final = 1024
"""Domains in one hypercall, as libxl asks for them. Xen walks from the lowest domid each time."""
_KEPT: Final = 8
"""Prepared calls of a kind that are kept. One that was left by an exception is not put back."""
_MATTERS: Final = 0xFF0087
"""Flags that Row is made of: dying, hvm_guest, shutdown, PVHv1 and the shutdown reason."""
_NOT_DYING: Final = bytes(flags for flags in range(256) if not flags & DYING)
_STATE_DEAD: Final = 8

_Spare = TypeVar("_Spare")


@functools.lru_cache(4096)
def _uuid(handle: bytes) -> UUID:
    return UUID(bytes=handle)


class PrivcmdHypervisor:
    """See `ports.Hypervisor`. Safe from any thread.

    Args:
        privcmd: The way to the hypervisor; opened here if it is not given, closed here in any case.
        machine: As `platform.machine()` has it.

    Raises:
        NotControlDomain, AccessDenied, UnknownXen, HypercallFailed: As `Probe` does.

    Cost: The probe's hypercalls.
    """

    def __init__(self, privcmd: Privcmd | None = None, machine: str | None = None) -> None:
        self._privcmd = privcmd = privcmd or Privcmd()
        machine = machine or platform.machine()
        try:
            probe = Probe(privcmd, machine)
            release, layout = probe.release, probe.layout
            numbers = f"domctl {release.domctl:#x}, sysctl {release.sysctl:#x}"
            self.version: str = f"{probe.said} ({numbers})"
            self.has_unique_ids: bool = probe.has_unique_ids
            # What the list tells of roles: nothing where the state of each domain does.
            tells = not probe.has_unique_ids
            self._xenstore = xenstore_flag(release.emulation) if tells else 0
            self._guest = Role(0) if self._xenstore else None
            self._dom0 = Role.CONTROL | Role.HARDWARE if tells else None
            self._sysctl = release.sysctl
            self._size = layout.size
            self._lists = deque([self._list(BATCH)], _KEPT)
            self._spare = deque([self._list(1)], _KEPT)
            self._domctls = deque([probe.domctl], _KEPT)
        except BaseException:
            privcmd.close()
            raise
        self._row = layout.row
        self._answer = struct.Struct(f"<24xI{ENTRIES - 28}x{layout.identity.format[1:]}")
        self._info = layout.info
        self._type = os_type(release.kind(machine))
        # A caller that finds none decodes the whole list; of several, the last one used is kept.
        self._listings = deque([Listing(self._row, self._decode)], 1)
        # The domids of the last list, as bytes, and the place of each entry.
        self._places: tuple[tuple[bytes, bytes], dict[int, int]] = (b"", b""), {}
        # By its place: the entry that was last decoded, and what came of it.
        self._infos: dict[int, tuple[bytes, DomainInfo]] = {}
        self._shown = functools.lru_cache(256)(self._show)
        # (type, shutdown, dying) by (flags that matter, emulation). Few different ones occur, and
        # a list of 1,000 domains has each hundreds of times.
        self._kinds: dict[tuple[int, int | bytes], tuple[OSType, ShutdownReason | None, bool]] = {}

    def list(self) -> Sequence[Row]:
        """Every domain, lowest domid first. Cost: one hypercall for each 1,024.

        A domain that lives from before the call until after it is listed for certain: it keeps its
        domid, and each batch goes on after the last domid of the one before.
        """
        raw = self._whole_list()
        listing = self._taken(self._listings) or Listing(self._row, self._decode)
        rows = listing.rows(raw)
        self._listings.append(listing)
        return rows

    def infos(self) -> Infos:
        """State, memory and times of every domain. Order and cost as `list`."""
        raw, size = self._whole_list(), self._size
        domids = raw[::size], raw[1::size]
        known, places = self._places
        if domids != known:  # hardly ever
            places = dict(zip(domids_of(raw, size), range(0, len(raw), size), strict=True))
            self._places = domids, places
        flags = raw[4::size]  # the lowest byte of each
        is_dying = map(DYING.__and__, flags) if flags.translate(None, _NOT_DYING) else ()
        dying = tuple(itertools.compress(places, is_dying))
        return Infos(places, lambda at: self._info_at(at, raw[at : at + size]), dying)

    def _info_at(self, at: int, entry: bytes) -> DomainInfo:
        """What an entry says; the same object as last time where nothing has changed."""
        known = self._infos.get(at)
        if known is not None and known[0] == entry:
            return known[1]
        info = self._decode_info(self._info.unpack(entry))
        self._infos[at] = entry, info
        return info

    def _whole_list(self) -> bytes:
        """The entries of all domains, as Xen writes them."""
        many = self._taken(self._lists) or self._list(BATCH)
        raw, last = b"", -1
        while True:
            count = self._checked(many(last + 1), "list the domains")
            raw += many.entries[: count * self._size]
            if count < BATCH:
                break
            before, (last, *_) = last, self._row.unpack_from(raw, len(raw) - self._size)
            if not before < last < HIGHEST_DOMID:
                break
        self._lists.append(many)
        if not raw:
            raise HypercallFailed("the hypervisor lists no domain, not even the one that asks")
        return raw

    def get(self, domid: int) -> Row | None:
        """That domain, or None. Cost: one hypercall.

        It lists one domain from `domid` on. getdomaininfo would do as well, but it waits for Xen's
        domctl lock, for example while a domain is destroyed, and up to 4.17 it gives the next
        higher domain where there is none.
        """
        entry = self._entry(domid, self._row)
        return None if entry is None else self._decode(entry)

    def confirms(self, domain: Domain) -> bool:
        """Whether that very domain runs now, as the record says. See `ports.Hypervisor`.

        Cost: one hypercall; a second one where there are unique ids.
        """
        # This is a verified look-up, which is measured beside the bare hypercall. Whatever can be
        # done before the call is done before: after it the processor's caches are cold.
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
        """Whether the unique id still is that domain's; True where a policy forbids to ask.

        It is asked after the entry was read. Xen gives no id twice: if the id is the same now, it
        was when the entry was read, so the entry is of that life.
        """
        try:
            return unique_id_of(self, domain.domid) == domain.life.unique_id
        except HypercallFailed as error:
            if error.errno in REFUSED:
                return True
            raise

    def info(self, domid: int) -> DomainInfo | None:
        """State, memory and times of that domain, or None. Cost: one hypercall."""
        entry = self._entry(as_domid(domid), self._info)
        return None if entry is None else self._decode_info(entry)

    def state(self, domid: int) -> LifeState | None:
        """The id that Xen >= 4.21 gives this life, and its roles; None if it is gone or dead.

        Cost: one hypercall.
        """
        domctl = self._taken(self._domctls) or Domctl(self._privcmd)
        result = domctl(GET_DOMAIN_STATE, 0, domid)
        found = domctl.struct.get_domain_state
        dead, state = found.state & _STATE_DEAD, LifeState(found.unique_id, ROLES[found.caps & 7])
        self._domctls.append(domctl)
        if -result in ABSENT:
            return None
        self._checked(result, "ask for the state of a domain")
        return None if dead else state

    def close(self) -> None:
        """Give the descriptors back, and each memory once no call uses it.

        It waits for no call. May be called twice.
        """
        self._privcmd.close()
        for prepared in (self._lists, self._spare, self._domctls):
            prepared.clear()

    def _list(self, most: int) -> ListCall:
        return ListCall(self._privcmd, self._size * most, most, self._sysctl)

    def _taken(self, spare: deque[_Spare]) -> _Spare | None:
        """One of these, or None if all are taken. Raises Closed."""
        self._privcmd.check_open()
        try:
            return spare.pop()
        except IndexError:
            return None

    def _take_spare(self) -> ListCall:
        """A prepared list of one domain. Written out, as each verified look-up comes by here."""
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
        key = flags & _MATTERS, emulation
        type_, shutdown, dying = self._kinds.get(key) or self._kind(*key)
        roles = self._guest if domid else self._dom0
        if flags & self._xenstore and domid:
            roles = Role.XENSTORE
        shared = frame if type_ is OSType.PV else None
        return Row(domid, handle, type_, shutdown, dying, cpu_time, shared, roles)

    def _decode_info(self, entry: tuple[Any, ...]) -> DomainInfo:
        domid, flags, pages, most, cpu_time, vcpus, handle, emulation = entry
        size = pages * PAGE, most * PAGE, cpu_time, vcpus
        # Half the time of DomainInfo(...): on a busy host all entries differ from the last ones.
        return DomainInfo._make((domid, _uuid(handle), *self._shown(flags, emulation), *size))

    def _show(self, flags: int, emulation: int | bytes) -> tuple[Any, ...]:
        """(type, paused, blocked, running, shutdown, dying) of all flags of an entry."""
        type_, shutdown, dying = self._kind(flags & _MATTERS, emulation)
        states = flags & PAUSED != 0, flags & BLOCKED != 0, flags & RUNNING != 0
        return type_, *states, shutdown, dying

    def _kind(  # emulation: b"" where the entry has none
        self, flags: int, emulation: int | bytes
    ) -> tuple[OSType, ShutdownReason | None, bool]:
        """(type, shutdown, dying) of the flags that matter."""
        key = (flags, emulation)
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) > 256:  # a bound, whatever flags the hypervisor sends
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
