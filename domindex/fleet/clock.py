"""The clock of a fleet's readers, which goes on while their machine is suspended.

Read after layout.py; next ports.py.
"""

from __future__ import annotations

import time
from typing import Final

_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def reader_clock() -> float:
    """Seconds that never go back: `CLOCK_BOOTTIME`, where the system has it.

    `time.monotonic` stands still while a machine is suspended. The hosts go on meanwhile, so what
    was known before is as old as that. On a machine that never was suspended they are the same.
    """
    return time.clock_gettime(_CLOCK)
