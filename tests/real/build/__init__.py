"""A real Xen host for the tests: hypervisor and dom0 in an emulated machine.

Nothing is installed and root is not needed: Xen, Linux, Python and, where missing, QEMU come
from Debian's packages into a private cache. Reading order: `host.py` (build and boot),
`machine.py` (a PC, an Arm board), `debian.py`, `qemu.py`, `root.py` (what dom0 holds), `init.py`,
`network.py`, `guest.py`, `cpio.py`; `dom0less.py` and `devicetree.py` for guests that Xen starts
itself.
"""
