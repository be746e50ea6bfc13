"""An environment for a Python that this machine does not have: Debian's, unpacked, not installed.

It looks as one that `venv` makes, but `bin/python` is a script: a program of another Debian runs
with the libraries that came with it, and those have to be named to its loader. Read after
`environment.py`; what fetches and unpacks is `tests/real/build`.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from tests.real.build.debian import package_set
from tests.real.build.qemu import run_unpacked

SUITES = {"3.13": "trixie", "3.14": "sid"}
"""Which Debian has which Python."""


def create(directory: Path, version: str) -> None:
    """Make the environment, with pip. Raises HostUnavailable if Python cannot be fetched."""
    packages = [f"libpython{version}-stdlib", f"python{version}-minimal"]
    root = package_set(SUITES[version], packages)
    packages_here = directory / "lib" / f"python{version}" / "site-packages"
    packages_here.mkdir(parents=True, exist_ok=True)
    (directory / "bin").mkdir(exist_ok=True)
    # Python finds its own library from `home`, and this environment from where it believes that
    # it was started: `argv0` names the script, so that its children start the script again.
    (directory / "pyvenv.cfg").write_text(f"home = {root}/usr/bin\nversion = {version}\n")
    loader, *rest = run_unpacked(root, f"usr/bin/python{version}")
    script = directory / "bin" / "python"
    script.write_text(f'#!/bin/sh\nexec {loader} --argv0 "$0" {shlex.join(rest)} "$@"\n')
    script.chmod(0o755)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--only-binary=:all:", "--target", str(packages_here), "pip"),
        ],
        check=True,
    )
