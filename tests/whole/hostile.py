"""`domindex` on a host whose names are made to do harm: `python -m tests.whole.hostile COMMAND`."""

from __future__ import annotations

import sys
from typing import Final
from uuid import UUID

from domindex.cli import main
from domindex.testing import SimulatedHost

NAMES: Final = (
    b"plain",
    b"two words",
    b"7",
    b"-rf",
    b"id:1",
    b"back\\slash",
    b"line\nbreak",
    b"\x1b]0;owned\x07\x1b[2J",
    b"caf\xe9",
    "\u202egnp.exe".encode(),
    b"",
    b"$(reboot)",
)
"""Of the domains from 1 on. After them comes one without a name."""


def hostile() -> SimulatedHost:
    """Domain N has the N-th of the names."""
    host = SimulatedHost()
    for domid, name in enumerate(NAMES, 1):
        host.create(name, domid=domid, uuid=UUID(int=domid))
    host.create(None, domid=len(NAMES) + 1)
    return host


if __name__ == "__main__":
    sys.exit(main(host=hostile()))
