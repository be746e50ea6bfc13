"""Guest kernels made by hand: they sit still, or end as they are told.

For x86 it is one page, and the same file starts as PV and as PVH. As PV it enters in 64-bit mode
with a stack and a page of hypercalls; as PVH in 32-bit protected mode with paging off, where
`vmmcall` is a hypercall on AMD processors, which is what the emulated machine has.

For Arm it is a kernel image as Linux has them, entered with paging off.

Sources: xen/include/public/elfnote.h, .../sched.h (SCHEDOP_*), .../arch-arm.h, docs/misc/pvh.pandoc
in Xen; Documentation/arch/arm64/booting.rst in Linux.
"""

from __future__ import annotations

import struct
from enum import IntEnum


class Reason(IntEnum):
    """Why a domain ended, as it tells Xen (sched.h, SHUTDOWN_*)."""

    POWEROFF = 0
    REBOOT = 1
    CRASH = 3


_PAGE = 0x1000
_VIRTUAL_BASE = 0xFFFFFFFF80000000
_PHYSICAL = 0x100000  # where the page is loaded; below 1 MB a PVH domain has no memory to spare
_VIRTUAL = _VIRTUAL_BASE + _PHYSICAL
_HYPERCALL_PAGE = _VIRTUAL + _PAGE  # Xen fills the second page of a PV guest

_NOTES, _PV_CODE, _PVH_CODE, _ARGUMENT = 0x100, 0x400, 0x500, 0x600  # offsets in the page

_SCHED_OP = 29
_SHUTDOWN, _POLL = 2, 3


def kernel(end: Reason | None = None) -> bytes:
    """An ELF file for `kernel=`; the domain idles for ever, or ends at once because of `end`."""
    page = bytearray(_PAGE)
    program_headers = 2
    notes = _notes()
    page[0:64] = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",  # 64 bit, little endian, version 1
        *(2, 62, 1),  # an executable, for x86-64, version 1
        *(_VIRTUAL + _PV_CODE, 64, 0),  # entry, program headers follow at once, no sections
        *(0, 64, 56, program_headers, 0, 0, 0),  # flags, header sizes and counts
    )
    load = (1, 7, 0, _VIRTUAL, _PHYSICAL, _PAGE, 3 * _PAGE, _PAGE)  # PT_LOAD, readable to all
    note = (4, 4, _NOTES, _VIRTUAL + _NOTES, _PHYSICAL + _NOTES, len(notes), len(notes), 4)
    page[64:176] = struct.pack("<IIQQQQQQ", *load) + struct.pack("<IIQQQQQQ", *note)
    page[_NOTES : _NOTES + len(notes)] = notes
    for offset, code in ((_PV_CODE, _pv_code(end)), (_PVH_CODE, _pvh_code(end))):
        page[offset : offset + len(code)] = code
    # The argument of SCHEDOP_shutdown is the reason; that of SCHEDOP_poll is 24 bytes: no list
    # of ports, none in it, no time-out.
    page[_ARGUMENT : _ARGUMENT + 4] = struct.pack("<I", end or 0)
    return bytes(page)


def _pv_code(end: Reason | None) -> bytes:
    # SCHEDOP_block would let events in, and there is no handler: the first one would crash the
    # guest. SCHEDOP_poll sleeps with events masked, and shows as blocked all the same.
    operation = _POLL if end is None else _SHUTDOWN
    lea_next, call_next = _PV_CODE + 12, _PV_CODE + 17
    call = _HYPERCALL_PAGE + 32 * _SCHED_OP - (_VIRTUAL + call_next)
    return (
        b"\xbf"
        + struct.pack("<I", operation)  # mov edi, operation
        + b"\x48\x8d\x35"
        + struct.pack("<i", _ARGUMENT - lea_next)  # lea rsi, [rip + argument]
        + b"\xe8"
        + struct.pack("<i", call)  # call the hypercall page
        + b"\xeb"
        + struct.pack("<b", -19)  # jmp to the start
    )


def _pvh_code(end: Reason | None) -> bytes:
    if end is None:
        # With interrupts off, `hlt` is for Xen the end of the last processor: a power-off.
        return b"\xfb\xf4\xeb\xfd"  # sti; hlt; jmp to the hlt
    return (
        b"\xb8"
        + struct.pack("<I", _SCHED_OP)  # mov eax, the hypercall
        + b"\xbb"
        + struct.pack("<I", _SHUTDOWN)  # mov ebx, operation
        + b"\xb9"
        + struct.pack("<I", _PHYSICAL + _ARGUMENT)  # mov ecx, argument
        + b"\x0f\x01\xd9"  # vmmcall
        + b"\xeb\xfe"  # jmp here: not reached
    )


def _notes() -> bytes:
    """What the domain builder asks of a kernel, as notes of the owner "Xen"."""
    values: list[tuple[int, bytes]] = [
        (1, struct.pack("<Q", _VIRTUAL + _PV_CODE)),  # ENTRY
        (2, struct.pack("<Q", _HYPERCALL_PAGE)),  # HYPERCALL_PAGE
        (3, struct.pack("<Q", _VIRTUAL_BASE)),  # VIRT_BASE
        (5, b"xen-3.0\0"),  # XEN_VERSION
        (6, b"domindex-test\0"),  # GUEST_OS
        (8, b"generic\0"),  # LOADER
        (18, struct.pack("<I", _PHYSICAL + _PVH_CODE)),  # PHYS32_ENTRY
    ]
    notes = b""
    for kind, value in values:
        padding = b"\0" * (-len(value) % 4)
        notes += struct.pack("<III4s", 4, len(value), kind, b"Xen\0") + value + padding
    return notes


_ARM_SIZE = 0x10000
_ARM_HEADER = "<IIQQQQQQ4sI"
_ARM_ANYWHERE = 1 << 3  # flag: it may be loaded at any place in memory


def arm_kernel(end: Reason | None = None) -> bytes:
    """The same for Arm: an image for `kernel=`, of the least size that Xen's toolstack takes."""
    header = struct.calcsize(_ARM_HEADER)
    code = _arm_code(end)
    jump = 0x14000000 | header // 4  # b to what follows the header
    image = struct.pack(_ARM_HEADER, jump, 0, 0, _ARM_SIZE, _ARM_ANYWHERE, 0, 0, 0, b"ARMd", 0)
    return (image + code).ljust(_ARM_SIZE, b"\0")


def _arm_code(end: Reason | None) -> bytes:
    if end is None:
        return struct.pack("<II", 0xD503207F, 0x17FFFFFF)  # wfi; b to the wfi
    return struct.pack(
        "<6I",
        0xD2800010 | _SCHED_OP << 5,  # mov x16, the hypercall
        0xD2800000 | _SHUTDOWN << 5,  # mov x0, operation
        0x10000061,  # adr x1, argument: three instructions on
        0xD4000002 | 0xEA1 << 5,  # hvc, as Xen numbers it
        0x14000000,  # b here: not reached
        end,  # the argument
    )
