"""The two kinds of machine that hosts are emulated on, and what differs between them.

Xen on a PC is started by a boot loader of which QEMU has one built in. On Arm it has what it needs
from a device tree: QEMU makes that of its board, and has devices (guest-loader) which only put
dom0's kernel and initrd into memory and say in the tree where they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import guest

GUESTS = 2304
"""MiB that are left to Xen and its guests."""

# Time goes into these only; there is no one to be protected from in the emulated machine.
_XEN_OPTIONS = "loglvl=warning dom0_mem={memory}M,max:{memory}M dom0_max_vcpus=1 bootscrub=0"
_PC_OPTIONS = "console=com1 com1=115200 spec-ctrl=no xpti=no watchdog=0 cpufreq=none"
_ARM_OPTIONS = "console=dtuart dtuart=/pl011@9000000"
LINUX_OPTIONS = (
    "console=hvc0 rdinit=/init loglevel=3 "
    # As above; each of these saves part of a second or more at boot.
    "mitigations=off audit=0 apparmor=0 selinux=0 rodata=off cryptomgr.notests random.trust_cpu=on"
)

KERNEL_AT, INITRD_AT = 0x49000000, 0x50000000
"""Where dom0's files are put on Arm: behind Xen, which lies at the start of memory."""

Arguments = Callable[[int, str], list[str]]


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of machine.

    name: as its kernel says it, and pip. debian: as Debian says it.
    processor: the one that is emulated, unless another is asked for.
    program, packages: QEMU's for it, and Debian's that hold it.
    arguments: QEMU's, for MiB of dom0's memory and a processor. They name the files `xen`,
        `linux` and `initrd`, and the character device `line`.
    line: that device in dom0.
    loader: where programs look for the loader of their libraries.
    guest: makes a kernel for its guests, which ends for a reason, or never.
    """

    name: str
    debian: str
    processor: str
    program: str
    packages: tuple[str, ...]
    arguments: Arguments
    line: str
    loader: str
    guest: Callable[[guest.Reason | None], bytes]

    @property
    def libraries(self) -> str:
        """Where Debian puts its libraries."""
        return f"usr/lib/{self.name}-linux-gnu"


def xen_options(console: str, memory: int) -> str:
    """Xen's command line. memory: of dom0, in MiB."""
    return f"{console} {_XEN_OPTIONS.format(memory=memory)}"


def quoted(option: str) -> str:
    """As a value within one of QEMU's options, which it parts at commas."""
    return option.replace(",", ",,")


def _pc(memory: int, processor: str) -> list[str]:
    return [
        *("-cpu", processor, "-m", str(GUESTS + memory)),
        *("-serial", "file:log", "-serial", "chardev:line"),
        *("-kernel", "xen", "-append", xen_options(_PC_OPTIONS, memory)),
        *("-initrd", f"linux {quoted(LINUX_OPTIONS)},initrd"),
    ]


def arm_board(memory: int, processor: str) -> list[str]:
    """An Arm machine that can run Xen."""
    return [
        *("-M", "virt,virtualization=on,gic-version=3"),
        *("-cpu", processor, "-m", str(GUESTS + memory)),
    ]


def arm_lines() -> list[str]:
    """Its two lines to the outside: it has one serial port itself, so the other one is a card's."""
    return ["-serial", "file:log", "-device", "pci-serial,chardev=line"]


def arm_options(memory: int) -> str:
    """Xen's command line on that board."""
    return xen_options(_ARM_OPTIONS, memory)


def _arm(memory: int, processor: str) -> list[str]:
    linux = f"guest-loader,addr={KERNEL_AT:#x},kernel=linux,bootargs={quoted(LINUX_OPTIONS)}"
    return [
        *arm_board(memory, processor),
        *arm_lines(),
        *("-kernel", "xen", "-append", arm_options(memory)),
        *("-device", linux, "-device", f"guest-loader,addr={INITRD_AT:#x},initrd=initrd"),
    ]


PC = Machine(
    "x86_64",
    "amd64",
    # AMD's virtualisation is what this emulator can emulate, with nested paging. `max` would
    # offer the dom0 kernel features that Xen then faults on.
    processor="qemu64,+svm,+npt,+rdtscp",
    program="qemu-system-x86_64",
    packages=("qemu-system-x86", "seabios"),
    arguments=_pc,
    line="/dev/ttyS1",
    loader="lib64/ld-linux-x86-64.so.2",
    guest=guest.kernel,
)
ARM = Machine(
    "aarch64",
    "arm64",
    processor="cortex-a57",
    program="qemu-system-aarch64",
    packages=("qemu-system-arm",),
    arguments=_arm,
    line="/dev/ttyS0",
    loader="lib/ld-linux-aarch64.so.1",
    guest=guest.arm_kernel,
)
