"""A hypervisor that is played in memory: it answers at the addresses it is given, as Xen does.

What a release looks like comes from `abi.json`, measured by compiling its headers, and not from
`domindex.xen.layouts`, which is to agree with it. `FakePrivcmd` is the real `Privcmd` with `call`
led here: its memory is real, mapped, and gone when it is closed.

Sources: xen/common/{sysctl,domctl}.c and xen/arch/*/domctl.c for what is checked in which order.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from domindex import forking
from domindex.xen._privcmd import CData, Privcmd, ffi

ABI: Final[dict[str, Any]] = json.loads(Path(__file__).with_name("abi.json").read_text())
RELEASES: Final = tuple(ABI["releases"])
ARCHITECTURES: Final = {"x86_64": "x86_64", "aarch64": "arm64"}
"""What platform.machine() says, and what the headers say."""
PAIRS: Final = tuple(
    (release, machine)
    for release, facts in ABI["releases"].items()
    for machine, name in ARCHITECTURES.items()
    if name in facts["layout"]
)
"""Every release on every machine it runs on."""

GARBAGE: Final = b"\xc3"
"""What padding holds: Xen clears it in some releases only."""

Entry = dict[str, int | bytes]


@dataclass
class FakeDomain:
    """One domain. `fields` are as its entry has them; what is not given has a value of its own.

    unique_id: as Xen >= 4.21 says. state, caps: of get_domain_state.
    """

    domid: int
    fields: Entry = field(default_factory=dict)
    unique_id: int = 0
    state: int = 1
    caps: int = 0

    def __post_init__(self) -> None:
        self.caps = self.caps or (0 if self.domid else 3)
        self.unique_id = self.unique_id or 0x9E3779B97F4A7C15 + self.domid
        self.fields.setdefault("flags", 0xFFFF0000)  # as from 4.8 on while nothing happened

    def value(self, name: str, size: int) -> bytes:
        """A field's bytes: no two fields and no two domains have the same, unless given."""
        given = self.fields.get(name)
        if name == "domain":
            given = self.domid
        if isinstance(given, bytes):
            return given.ljust(size, b"\0")
        if given is None and size == 1:
            given = len(name)
        if given is None:
            seed = bytes([len(name), ord(name[0]), ord(name[-1])]) + self.domid.to_bytes(
                2, "little"
            )
            return (seed * size)[:size]
        return given.to_bytes(size, "little")


class FakeXen:
    """A Xen of `release` on `machine` with these domains; dom0 is made if it is not among them.

    guest: the caller is a domU: EPERM for sysctl and domctl.
    restricted: IOCTL_PRIVCMD_RESTRICT was used: EPERM for everything.
    hidden: domids that a policy does not let the caller see: not listed, EACCES for each.
    secret: errno of each get_domain_state, as where a policy refuses it, by domid.
    flask: a policy denies sysctl and domctl: EACCES, as for a wrong version.
    versions: (domctl, sysctl) other than the release has; says: what xen_version says.
    extra: bytes more in each entry, as a vendor's patch would add them.
    excess: domains more than there are, in the answer's count.
    arrange: what to make of the list before it is given out. most: how many were asked for.
    spurious: how many of the next calls fail with EFAULT, as while the kernel moves a page.
    failing: errno of every call from now on.
    """

    def __init__(
        self, release: str, machine: str = "x86_64", domains: Sequence[FakeDomain] = ()
    ) -> None:
        facts = ABI["releases"][release]
        self.release, self.machine = release, machine
        self.versions: tuple[int, int] = (facts["domctl"], facts["sysctl"])
        architecture = ARCHITECTURES[machine]
        self.layout: dict[str, Any] = ABI["layouts"][architecture][facts["layout"][architecture]]
        digits = release.rstrip("+").split("-")[0].split(".")
        self.number = (int(digits[0]), int(digits[1]))
        self.says = self.number
        self.lock = threading.Lock()
        self.domains = {domain.domid: domain for domain in domains}
        self.domains.setdefault(0, FakeDomain(0))
        self.guest = self.restricted = self.flask = False
        self.hidden: set[int] = set()
        self.secret: dict[int, int] = {}
        self.extra = self.excess = self.spurious = self.failing = 0
        self.most = 0
        self.arrange: Callable[[list[FakeDomain]], list[FakeDomain]] = list
        self.padding = GARBAGE
        self.calls: list[tuple[int, int]] = []
        """(hypercall, command) of each call that was made."""
        self.lengths: list[int] = []
        """How many domains each list gave."""

    def add(self, domid: int, **fields: int | bytes) -> FakeDomain:
        """A new domain."""
        with self.lock:
            self.domains[domid] = domain = FakeDomain(domid, dict(fields))
            domain.unique_id += len(self.calls) << 20  # another life, another id
        return domain

    def remove(self, domid: int) -> None:
        with self.lock:
            del self.domains[domid]

    def entry(self, domain: FakeDomain) -> bytes:
        """What Xen copies out for one domain."""
        raw = bytearray(self.padding * self.layout["size"])
        for name, (offset, size) in self.layout["offsets"].items():
            raw[offset : offset + size] = domain.value(name, size)
        return bytes(raw) + self.padding * self.extra

    # -- hypercalls --------------------------------------------------------------------------

    def hypercall(self, op: int, arguments: Sequence[int]) -> int:
        """The result, or minus the errno."""
        with self.lock:
            if self.restricted:
                return -errno.EPERM
            if self.spurious:
                self.spurious -= 1
                return -errno.EFAULT
            if self.failing:
                return -self.failing
            if op == 17:
                return self._xen_version(*arguments[:2])
            if op == 35:
                return self._sysctl(arguments[0])
            if op == 36:
                return self._domctl(arguments[0])
            return -errno.ENOSYS

    def _xen_version(self, command: int, _argument: int) -> int:
        self.calls.append((17, command))
        return self.says[0] << 16 | self.says[1] if command == 0 else -errno.ENOSYS

    def _sysctl(self, address: int) -> int:
        at = _bytes(address, 136)
        command, version = _int(at, 0, 4), _int(at, 4, 4)
        self.calls.append((35, command))
        checks = [(version != self.versions[1], errno.EACCES), (self.guest, errno.EPERM)]
        for fails, error in checks if self.number >= (4, 0) else reversed(checks):
            if fails:
                return -error
        if self.flask:
            return -errno.EACCES
        if command != 6:
            return -errno.ENOSYS
        first, most, buffer = _int(at, 8, 2), _int(at, 12, 4), _int(at, 16, 8)
        self.most = most
        seen = sorted(self.domains.keys() - self.hidden)
        rest = [self.domains[d] for d in seen if d >= first]
        listed = self.arrange(rest)[:most]
        raw = b"".join(self.entry(domain) for domain in listed)
        _bytes(buffer, len(raw))[:] = raw
        at[24:28] = (len(listed) + self.excess).to_bytes(4, "little")
        self.lengths.append(len(listed))
        return 0

    def _domctl(self, address: int) -> int:
        at = _bytes(address, 144)
        command, version, domid = _int(at, 0, 4), _int(at, 4, 4), _int(at, 8, 2)
        self.calls.append((36, command))
        assert at[10:16] == bytes(6), "the padding of a domctl is to be zero"
        known = (0,) if command == 90 and self.number >= (4, 21) else (self.versions[0],)
        if version not in known:
            return -errno.EACCES
        if self.guest:
            return -errno.EPERM
        if self.flask:
            return -errno.EACCES
        if command == 5:
            candidates = [d for d in sorted(self.domains) if d >= domid]
            if not candidates or (self.number >= (4, 18) and candidates[0] != domid):
                return -errno.ESRCH
            if candidates[0] in self.hidden:
                return -errno.EACCES
            raw = self.entry(self.domains[candidates[0]])
            at[16 : 16 + min(len(raw), 128)] = raw[:128]
            at[8:10] = candidates[0].to_bytes(2, "little")
            return 0
        if command == 90 and self.number >= (4, 21):
            assert at[20:24] == bytes(4), "the padding of get_domain_state is to be zero"
            if domid not in self.domains:
                return -errno.ESRCH
            if domid in self.hidden or domid in self.secret:
                return -self.secret.get(domid, errno.EACCES)
            domain = self.domains[domid]
            at[16:18] = domain.state.to_bytes(2, "little")
            at[18:20] = domain.caps.to_bytes(2, "little")
            at[24:32] = domain.unique_id.to_bytes(8, "little")
            return 0
        return -errno.ENOSYS


class FakePrivcmd(Privcmd):
    """The real one, whose calls are answered by `xen`.

    plain: memory as on a kernel without /dev/xen/hypercall; else shared, as that device's.
    """

    def __init__(self, xen: FakeXen, *, plain: bool = False) -> None:
        self.xen = xen
        self._fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._buffers = None if plain else os.open("/dev/zero", os.O_RDWR | os.O_CLOEXEC)
        forking.register(self.close)

    def call(self, prepared: CData) -> int:
        self.check_open()
        return self.xen.hypercall(prepared.op, list(prepared.arg))


class FakeLibc:
    """The C library, whose ioctl is answered by `xen`: for the real Privcmd on plain files."""

    def __init__(self, xen: FakeXen, libc: Any) -> None:
        self.xen = xen
        self.ioctls: list[tuple[int, int]] = []
        self.mmap, self.munmap, self.madvise = libc.mmap, libc.munmap, libc.madvise

    def ioctl(self, fd: int, request: int, argument: CData, /) -> int:
        self.ioctls.append((fd, request))
        result = self.xen.hypercall(argument.op, list(argument.arg))
        if result < 0:
            ffi.errno = -result
            return -1
        return result


def _bytes(address: int, length: int) -> Any:
    return memoryview(ffi.buffer(ffi.cast("uint8_t *", address), length)).cast("B")


def _int(at: Any, offset: int, size: int) -> int:
    return int.from_bytes(at[offset : offset + size], "little")
