"""The hypercalls that are made: each prepared once in memory that Xen can reach, then repeated.

Read after _privcmd.py; next probe.py.

Only getdomaininfolist (a sysctl), getdomaininfo and get_domain_state (domctls) and xen_version are
ever called. None of them changes anything.

Sources: xen/include/public/{xen,version,sysctl,domctl}.h.
"""

from __future__ import annotations

import errno
from typing import Any, Final, cast

from domindex.errors import HypercallFailed
from domindex.xen._privcmd import CData, Privcmd, ffi

_XEN_VERSION, _SYSCTL, _DOMCTL = 17, 35, 36
_GETDOMAININFOLIST: Final = 6
GETDOMAININFO: Final = 5
GET_DOMAIN_STATE: Final = 90
"""From Xen 4.21 on."""

ABSENT: Final = (errno.ESRCH, errno.ENOENT)
"""There is no such domain."""
REFUSED: Final = (errno.EACCES, errno.EPERM)
"""The caller may not ask: EPERM without a policy, EACCES from a Flask/XSM policy."""

PAGE: Final = 4096
ENTRIES: Final = 144
"""Where the entries of a list begin: after the struct of the call, in the same memory."""
_DOMCTL_SIZE: Final = ffi.sizeof("struct domctl")


def xen_version(privcmd: Privcmd) -> int:
    """Major version << 16 | minor version, or minus the errno."""
    return privcmd.call(privcmd.prepare(_XEN_VERSION, 0, 0))


class ListCall:
    """A prepared getdomaininfolist for `most` domains at a time. One caller at a time.

    Args:
        privcmd: The way to the hypervisor.
        room: Bytes for the entries.
        most: Domains to ask for.
        version: The sysctl version; may be set later.

    Attributes:
        header: The struct of the call; `entries`: the bytes after it.
        prepared: What `Privcmd.call` takes. `memory`: header and entries.
    """

    def __init__(self, privcmd: Privcmd, room: int, most: int, version: int = 0) -> None:
        self.privcmd = privcmd
        self._most = most
        # The casts below do not keep the memory, so this object does.
        self._memory = memory = privcmd.memory(ENTRIES + room)
        self.header: Any = cast(Any, ffi.cast("struct sysctl_list *", memory.at))
        self.header.cmd = _GETDOMAININFOLIST
        self.header.max_domains = most
        self.header.buffer = memory.address + ENTRIES
        self.version = version
        self.prepared: CData = privcmd.prepare(_SYSCTL, memory.address)
        self.memory: memoryview[int] = memoryview(memory.view)
        self.entries: memoryview[int] = self.memory[ENTRIES:]

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


class Domctl:
    """A prepared domctl. One caller at a time."""

    def __init__(self, privcmd: Privcmd) -> None:
        self._privcmd = privcmd
        self._memory = privcmd.memory(PAGE)
        self.struct: Any = cast(Any, ffi.cast("struct domctl *", self._memory.at))
        self._call = privcmd.prepare(_DOMCTL, self._memory.address)

    def __call__(self, cmd: int, version: int, domid: int) -> int:
        """The result, or minus the errno; what Xen wrote is in `struct`."""
        ffi.buffer(self.struct, _DOMCTL_SIZE)[:] = bytes(_DOMCTL_SIZE)
        self.struct.cmd, self.struct.interface_version, self.struct.domain = cmd, version, domid
        return self._privcmd.call(self._call)
