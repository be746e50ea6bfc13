"""The emulator: the machine's own if it has one, else Debian's, unpacked and not installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .debian import package_set
from .machine import Machine

_SUITE = "bookworm"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"


@dataclass(frozen=True, slots=True)
class Emulator:
    """How to start QEMU: `argv` goes before its options; `environment` is its whole one."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]


def find(machine: Machine) -> Emulator:
    """QEMU for it from PATH, or fetched. Raises HostUnavailable if neither can be had."""
    installed = shutil.which(machine.program)
    if installed:
        return Emulator((installed,), dict(os.environ))
    root = package_set(_SUITE, machine.packages)
    # An unpacked program would look for its loader, libraries, modules and firmware in the
    # places where they are installed: each has to be named.
    firmware = [root / "usr/share/qemu", root / "usr/share/seabios"]
    argv = [*run_unpacked(root, f"usr/bin/{machine.program}")]
    for path in firmware:
        argv += ["-L", str(path)]
    modules = str(root / _LIBRARIES / "qemu")
    return Emulator(tuple(argv), {**os.environ, "QEMU_MODULE_DIR": modules})


def run_unpacked(root: Path, program: str) -> tuple[str, ...]:
    """The argv that runs a program of an unpacked package set with that set's own libraries."""
    libraries = [root / "lib/x86_64-linux-gnu", root / _LIBRARIES]
    loader = next(
        path
        for path in (libraries[0] / "ld-linux-x86-64.so.2", libraries[1] / "ld-linux-x86-64.so.2")
        if path.exists()
    )
    return (str(loader), "--library-path", ":".join(map(str, libraries)), str(root / program))
