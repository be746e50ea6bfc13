"""A network for dom0 that has one thing in it: one port of the machine outside.

The emulator plays the network itself, and nobody needs root. `restrict` closes it to all else. For
each connection that dom0 makes, the emulator starts a relay to that port of the loopback, which
ends with the connection. In dom0 `network-start` loads the driver and takes an address.

Read after init.py; next host.py, which boots with it.
"""

from __future__ import annotations

from pathlib import Path

DRIVER = "e1000"
"""The kernel's module for the emulated card: one that needs no other, on a PC and on Arm."""
PORT = 2379
OUTSIDE = f"10.0.2.100:{PORT}"
"""What dom0 connects to."""
_OURS = "10.0.2.15/24"


def script() -> str:
    """`network-start` in dom0."""
    return f"""#!/bin/sh
# The card is of no use before this, and most boots have none.
insmod /lib/modules/{DRIVER}.ko || exit 1
until [ -e /sys/class/net/eth0 ]; do usleep 10000; done
ip link set eth0 up && ip address add {_OURS} dev eth0
"""


def arguments(run: Path, here: Path, port: int) -> list[str]:
    """QEMU's, for a boot in the directory `run`, where the relay is put.

    here: unpacked packages with busybox, for the machine that this runs on. port: of the loopback,
        where somebody listens.
    """
    # The emulator parts its options at spaces and commas: give it a name without any.
    (run / "busybox").symlink_to(next(here.glob("**/bin/busybox")))
    forward = f"guestfwd=tcp:{OUTSIDE}-cmd:./busybox nc 127.0.0.1 {port}"
    return [
        *("-netdev", f"user,id=net,restrict=on,{forward}"),
        *("-device", f"{DRIVER},netdev=net,romfile="),  # nothing is booted from it
    ]
