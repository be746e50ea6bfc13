"""Make the virtual environment, on a machine that has Python and nothing else.

Debian's Python comes without pip and without ensurepip. So pip is taken from wherever there
is one: ensurepip, the machine's own pip, or Debian's package of it, fetched without root.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--group", help="dependency group of pyproject.toml to install as well")
    args = parser.parse_args()
    python = args.directory.absolute() / "bin" / "python"
    if not python.exists():
        venv.create(args.directory, with_pip=False, symlinks=True)
    pip = find_pip(python)
    groups = tomllib.loads((PROJECT / "pyproject.toml").read_text())["dependency-groups"]
    wanted = groups[args.group] if args.group else []
    print(f"installing domindex{' and its tools' if wanted else ''} into {args.directory}")
    subprocess.run(
        [*pip, "install", "--quiet", "--disable-pip-version-check", "-e", str(PROJECT), *wanted],
        check=True,
        env=clean_environment(),
    )
    return 0


def find_pip(python: Path) -> list[str]:
    """A command that installs into the environment of `python`."""
    own = [str(python), "-m", "pip"]
    if works([*own, "--version"]):
        return own
    if importlib.util.find_spec("ensurepip") and works([str(python), "-m", "ensurepip"]):
        return own
    outer = [sys.executable, "-m", "pip", "--python", str(python)]
    if works([*outer, "--version"]) and works([*outer, "install", "--quiet", "pip"]):
        return own
    sys.path.insert(0, str(PROJECT))
    from tests.real.build.debian import package_set

    (wheel,) = package_set(codename(), ["python3-pip-whl"]).rglob("pip-*.whl")
    subprocess.run(
        [str(python), f"{wheel}/pip", "install", "--quiet", "pip"],
        check=True,
        env=clean_environment(),
    )
    return own


def codename() -> str:
    """The machine's Debian suite."""
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "bookworm")


def works(command: list[str]) -> bool:
    done = subprocess.run(command, capture_output=True, check=False, env=clean_environment())
    return done.returncode == 0


def clean_environment() -> dict[str, str]:
    """Without what points Python at another environment than the one being made."""
    drop = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")
    return {key: value for key, value in os.environ.items() if key not in drop}


if __name__ == "__main__":
    sys.exit(main())
