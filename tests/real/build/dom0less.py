"""A host on which Xen itself has started guests before dom0: "dom0less", with a dom0.

What is to be started stands in the device tree, and the files lie in memory where it says. The
first guest is `enhanced`: it is given a page for xenstore, and `init-dom0less` in dom0 names and
introduces it later. The second is not, and nobody ever tells xenstored of it.

Source: docs/misc/arm/device-tree/booting.txt in Xen.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from .devicetree import Node, read, write
from .guest import arm_kernel
from .machine import INITRD_AT, KERNEL_AT, LINUX_OPTIONS, arm_board, arm_lines, arm_options
from .qemu import Emulator

_GUESTS = {"domU1": ("enabled", 0x4E000000), "domU2": ("disabled", 0x4E100000)}
"""Whether it is enhanced, and where its kernel is put."""
_GUEST_MEMORY = 32 << 10  # KiB
_TIME_LIMIT = 60.0


def arguments(emulator: Emulator, run: Path, memory: int, processor: str) -> list[str]:
    """As `Machine.arguments`, for a boot in the directory `run`. Two files are made there."""
    board = _board(emulator, run, memory, processor)
    (run / "guest").write_bytes(arm_kernel())
    files = {KERNEL_AT: "linux", INITRD_AT: "initrd", **{at: "guest" for _, at in _GUESTS.values()}}
    size = {at: (run / name).stat().st_size for at, name in files.items()}
    chosen = board.nodes["chosen"]
    _sizes_of_two_cells(chosen)
    chosen.text("xen,xen-bootargs", arm_options(memory))
    chosen.nodes["kernel"] = _module("kernel", KERNEL_AT, size[KERNEL_AT])
    chosen.nodes["kernel"].text("bootargs", LINUX_OPTIONS)
    chosen.nodes["initrd"] = _module("ramdisk", INITRD_AT, size[INITRD_AT])
    for name, (enhanced, at) in _GUESTS.items():
        guest = chosen.nodes[name] = Node()
        _sizes_of_two_cells(guest)
        guest.text("compatible", "xen,domain")
        guest.text("xen,enhanced", enhanced)
        guest.cells("cpus", 1)
        guest.cells("memory", 0, _GUEST_MEMORY)
        guest.nodes["kernel"] = _module("kernel", at, size[at])
    (run / "tree").write_bytes(write(board))
    loaders = [f"loader,file={name},addr={at:#x},force-raw=on" for at, name in files.items()]
    return [
        *arm_board(memory, processor),
        *arm_lines(),
        *("-kernel", "xen", "-dtb", "tree"),
        *(option for loader in loaders for option in ("-device", loader)),
    ]


def _board(emulator: Emulator, run: Path, memory: int, processor: str) -> Node:
    """What the emulator says of its own board."""
    machine = [*emulator.argv, "-nodefaults", "-display", "none", "-smp", "1"]
    subprocess.run(
        [*machine, *arm_board(memory, processor), "-machine", "dumpdtb=board"],
        cwd=run,
        env=dict(emulator.environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=_TIME_LIMIT,
    )
    return read((run / "board").read_bytes())


def _module(kind: str, at: int, size: int) -> Node:
    node = Node()
    node.text("compatible", f"multiboot,{kind}", "multiboot,module")
    node.cells("reg", 0, at, 0, size)
    return node


def _sizes_of_two_cells(node: Node) -> None:
    node.cells("#address-cells", 2)
    node.cells("#size-cells", 2)
