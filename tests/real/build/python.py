"""Byte code for dom0's Python, made by that same Python outside.

Compiling the standard library inside the emulated machine would take longer than most test
runs, and each boot begins without what the last one wrote.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .debian import HostUnavailable
from .qemu import run_unpacked


def compile_tree(userland: Path, python: str, directory: Path, installed: str) -> None:
    """Put byte code beside the Python files below `directory`.

    userland: the unpacked packages that hold Python `python`, for the machine that this runs on:
        byte code is the same on all.
    installed: where the directory will be in dom0, for tracebacks.
    """
    command = [
        *run_unpacked(userland, f"usr/bin/python{python}"),
        # In this one process: others that it started would run without the set's libraries.
        *("-I", "-W", "ignore", "-m", "compileall", "-q", "-j", "1"),
        # dom0's clock and the archive's time stamps need not agree: trust the byte code.
        *("--invalidation-mode", "unchecked-hash"),
        *("-s", str(directory), "-p", installed, str(directory)),
    ]
    environment = {**os.environ, "PYTHONHOME": str(userland / "usr"), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    # Status 1 means that some file does not compile, as a few on purpose do not. Which, is said on
    # the other stream.
    if done.returncode not in (0, 1) or done.stderr:
        raise HostUnavailable(f"dom0's Python {python} does not run here: {done.stderr.strip()}")
