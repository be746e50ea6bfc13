"""What one entry of the hypervisor's domain list looks like in each Xen: data, no I/O.

The layout of an entry belongs to Xen's *domctl* version, but the call that lists them checks only
the *sysctl* version, and sysctl 0x10 was used with two different sizes. So a release is identified
by both numbers together.

Read after _privcmd.py; next calls.py.

Sources: struct xen_domctl_getdomaininfo and XEN_DOMINF_* in xen/include/public/domctl.h,
XEN_*_INTERFACE_VERSION there and in sysctl.h, XEN_X86_EMU_* in arch-x86/xen.h, of each
release from 3.1 to 4.22; offsets and sizes were measured by compiling those headers.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from domindex.domain import OSType, ShutdownReason

DYING: Final = 0x1
HVM_GUEST: Final = 0x2
SHUTDOWN: Final = 0x4
PAUSED: Final = 0x8
BLOCKED: Final = 0x10
RUNNING: Final = 0x20
PVH_GUEST: Final = 0x80
"""PVHv1, from 4.4 to 4.8. Later releases use the bit for other things."""
REASON_SHIFT: Final = 16
"""Eight bits from here are the reason; they are valid only where SHUTDOWN is set."""

DEVICE_MODEL: Final = 0x6C
"""PM timer, RTC, PIC and VGA: an HVM guest has all four emulated, a PVH guest none."""


class Emulation(enum.Enum):
    """How an HVM guest is distinguished from a PVH guest."""

    NONE = "up to 4.3 there was no PVH"
    PVH_FLAG = "4.4 to 4.6 have a flag for PVHv1"
    HALF_SILENT = "4.7 and 4.8 have the flag, and PVHv2 too, which they do not mark"
    SILENT = "4.9 to 4.10.0 have PVHv2 alone, and do not mark it"
    LISTED = "from 4.10.1 on the entry lists the emulated devices"
    ARM = "on arm64 there is one kind, which libxl calls PVH"


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets in bytes of what is read of an entry; `size` is the distance between two entries.

    In all layouts domain is at 0, flags at 4, tot_pages at 8 and max_pages at 16.
    emulation: of the x86 emulation flags; None where the entry does not have them.

    `row`, `identity` and `info` unpack an entry: each skips what its caller does not need.
    """

    name: str
    size: int
    frame: int
    cpu_time: int
    vcpus: int
    handle: int
    emulation: int | None = None

    @property
    def row(self) -> struct.Struct:
        """(domid, flags, frame, cpu_time, handle, emulation flags or b"")"""
        fields = [(0, "H"), (4, "I"), (self.frame, "Q"), (self.cpu_time, "Q")]
        return self._picking([*fields, (self.handle, "16s"), self._last])

    @property
    def identity(self) -> struct.Struct:
        """(domid, flags, handle, emulation flags or b"")"""
        return self._picking([(0, "H"), (4, "I"), (self.handle, "16s"), self._last])

    @property
    def info(self) -> struct.Struct:
        """(domid, flags, tot_pages, max_pages, cpu_time, vcpus, handle, emulation or b"")"""
        fields = [(0, "H"), (4, "I"), (8, "Q"), (16, "Q"), (self.cpu_time, "Q")]
        return self._picking([*fields, (self.vcpus, "I"), (self.handle, "16s"), self._last])

    @property
    def _last(self) -> tuple[int, str]:
        return (self.size, "0s") if self.emulation is None else (self.emulation, "I")

    def _picking(self, fields: list[tuple[int, str]]) -> struct.Struct:
        text, at = "<", 0
        for offset, code in fields:
            text += "x" * (offset - at) + code
            at = offset + struct.calcsize("<" + code)
        return struct.Struct(text + "x" * (self.size - at))


GDI72 = Layout("gdi72", 72, frame=24, cpu_time=32, vcpus=40, handle=52)
GDI80 = Layout("gdi80", 80, frame=32, cpu_time=40, vcpus=48, handle=60)
GDI88 = Layout("gdi88", 88, frame=40, cpu_time=48, vcpus=56, handle=68)
GDI96 = Layout("gdi96", 96, frame=48, cpu_time=56, vcpus=64, handle=76)
GDI104 = Layout("gdi104", 104, frame=48, cpu_time=56, vcpus=64, handle=76, emulation=96)
GDI112 = Layout("gdi112", 112, frame=48, cpu_time=56, vcpus=64, handle=76, emulation=104)
ARM112 = Layout("arm gdi112", 112, frame=48, cpu_time=56, vcpus=64, handle=76)
ARM120 = Layout("arm gdi120", 120, frame=48, cpu_time=56, vcpus=64, handle=76)


@dataclass(frozen=True, slots=True)
class Release:
    """A pair of interface versions, and the releases that have it."""

    names: str
    domctl: int
    sysctl: int
    x86_64: Layout
    arm64: Layout | None
    emulation: Emulation

    def covers(self, major: int, minor: int) -> bool:
        """Whether Xen major.minor is among `names`. That makes it likely, not certain."""
        return f"{major}.{minor}" in (name.split("-")[0] for name in self.names.split())

    def layout(self, machine: str) -> Layout | None:
        """For this `platform.machine()`; None where the release does not run on it."""
        return {"x86_64": self.x86_64, "aarch64": self.arm64}.get(machine)

    def kind(self, machine: str) -> Emulation:
        """How types are distinguished on that machine."""
        return Emulation.ARM if machine == "aarch64" else self.emulation


_NONE, _FLAG = Emulation.NONE, Emulation.PVH_FLAG
_SILENT, _LISTED = Emulation.SILENT, Emulation.LISTED

RELEASES: Final = (
    Release("4.23-dev 4.22", 0x18, 0x16, GDI112, ARM120, _LISTED),
    Release("4.21", 0x17, 0x16, GDI112, ARM120, _LISTED),
    Release("4.20 4.19", 0x17, 0x15, GDI112, ARM120, _LISTED),
    Release("4.18", 0x16, 0x15, GDI112, ARM120, _LISTED),
    Release("4.17", 0x15, 0x15, GDI112, ARM120, _LISTED),
    Release("4.16", 0x14, 0x14, GDI112, ARM120, _LISTED),
    Release("4.15", 0x13, 0x13, GDI104, ARM112, _LISTED),
    Release("4.14", 0x12, 0x13, GDI104, ARM112, _LISTED),
    Release("4.13", 0x12, 0x12, GDI104, ARM112, _LISTED),
    Release("4.12", 0x11, 0x12, GDI104, ARM112, _LISTED),
    Release("4.11", 0x10, 0x11, GDI104, ARM112, _LISTED),
    Release("4.10-1", 0xF, 0x10, GDI104, ARM112, _LISTED),
    Release("4.10-0", 0xE, 0x10, GDI96, GDI96, _SILENT),
    Release("4.9", 0xD, 0xF, GDI96, GDI96, _SILENT),
    Release("4.8", 0xC, 0xE, GDI96, GDI96, Emulation.HALF_SILENT),
    Release("4.7", 0xB, 0xD, GDI96, GDI96, Emulation.HALF_SILENT),
    Release("4.6", 0xB, 0xC, GDI96, GDI96, _FLAG),
    Release("4.5", 0xA, 0xB, GDI96, GDI96, _FLAG),
    Release("4.4 4.3", 0x9, 0xA, GDI96, GDI96, _FLAG),
    Release("4.2", 0x8, 0x9, GDI88, None, _NONE),
    Release("4.1", 0x7, 0x8, GDI80, None, _NONE),
    Release("4.0", 0x6, 0x7, GDI80, None, _NONE),
    Release("3.4 3.3 3.2", 0x5, 0x6, GDI72, None, _NONE),
    Release("3.1", 0x5, 0x3, GDI72, None, _NONE),
)
"""Newest first."""


def os_type(kind: Emulation) -> Callable[[int, int], OSType]:
    """How types are distinguished: a function of the flags and the emulation flags of an entry."""

    def listed(flags: int, emulation: int) -> OSType:
        if not flags & HVM_GUEST:
            return OSType.PV
        return OSType.HVM if emulation & DEVICE_MODEL else OSType.PVH

    def flagged(flags: int, _emulation: int) -> OSType:
        if flags & PVH_GUEST:
            return OSType.PVH
        return OSType.HVM if flags & HVM_GUEST else OSType.PV

    def half_silent(flags: int, _emulation: int) -> OSType:
        return OSType.PVH if flags & PVH_GUEST else silent(flags, _emulation)

    def silent(flags: int, _emulation: int) -> OSType:
        return OSType.UNKNOWN if flags & HVM_GUEST else OSType.PV

    def none(flags: int, _emulation: int) -> OSType:
        return OSType.HVM if flags & HVM_GUEST else OSType.PV

    def arm(flags: int, _emulation: int) -> OSType:
        return OSType.PVH if flags & HVM_GUEST else OSType.PV

    return {
        Emulation.LISTED: listed,
        Emulation.PVH_FLAG: flagged,
        Emulation.HALF_SILENT: half_silent,
        Emulation.SILENT: silent,
        Emulation.NONE: none,
        Emulation.ARM: arm,
    }[kind]


def xenstore_flag(emulation: Emulation) -> int:
    """The flag of a xenstore stub domain (xs_domain): it moved in 4.9. 0 where there is none."""
    if emulation is Emulation.HALF_SILENT:
        return 0x100
    return 0x80 if emulation in (Emulation.SILENT, Emulation.LISTED) else 0


def shutdown_reason(flags: int) -> ShutdownReason | None:
    """Why the guest stopped; None while it runs."""
    return ShutdownReason(flags >> REASON_SHIFT & 0xFF) if flags & SHUTDOWN else None
