"""Valgrind: the machine's own if it has one, else Debian's, unpacked and not installed."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping

from tests.real.build.debian import HostUnavailable, package_set
from tests.real.build.qemu import run_unpacked

_SUITE = "bookworm"


def find() -> tuple[tuple[str, ...], Mapping[str, str]]:
    """Its argv and environment. Raises HostUnavailable if it cannot be had."""
    installed = shutil.which("valgrind")
    if installed:
        return (installed,), {"PATH": os.environ["PATH"]}
    if platform.machine() != "x86_64":
        raise HostUnavailable("valgrind is not installed, and is fetched for x86_64 alone")
    root = package_set(_SUITE, ["valgrind"])
    # usr/bin/valgrind is a script around this one, which starts the tool that is asked for.
    return run_unpacked(root, "usr/bin/valgrind.bin"), {
        "VALGRIND_LIB": str(root / "usr/libexec/valgrind")
    }
