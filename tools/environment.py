"""Make a virtual environment, on a machine that has Python and nothing else.

Debian's Python comes without pip and without ensurepip. So pip is taken from wherever there
is one: ensurepip, the machine's own pip, or Debian's package of it, fetched without root. With
`--python` the environment is for a Python that this machine does not have: next `unpacked.py`.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        f"domindex needs Python 3.11 or newer, and {sys.executable} is {sys.version.split()[0]}; "
        "install a newer one (Debian 12 and later: apt install python3)"
    )
try:
    import argparse
    import importlib.util
    import os
    import platform
    import subprocess
    import tomllib
    import venv
    from pathlib import Path
except ImportError as error:
    sys.exit(
        f"{sys.executable} comes without its module {error.name}; "
        "install all of Python (Debian: apt install python3 python3-venv)"
    )

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from tests.real.build.debian import HostUnavailable, package_set  # noqa: E402


def main() -> int | str:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--group", help="dependency group of pyproject.toml to install as well")
    parser.add_argument("--extra", help="extra of domindex to install as well")
    parser.add_argument("--python", metavar="VERSION", help="fetch this Python from Debian")
    args = parser.parse_args()
    try:
        make(args.directory.absolute(), args.python, args.group, args.extra)
    except (HostUnavailable, OSError) as error:
        return f"{args.directory} cannot be made: {error}"
    except subprocess.CalledProcessError:
        return f"{args.directory} cannot be made: pip failed, as said above; it needs the network"
    return 0


def make(directory: Path, version: str | None, group: str | None, extra: str | None) -> None:
    """An environment with domindex, and with a dependency group and an extra if they are named."""
    python = directory / "bin" / "python"
    if not python.exists():
        if version is None:
            venv.create(directory, with_pip=False, symlinks=True)
        else:
            from tools import unpacked

            unpacked.create(directory, version)
    wanted = requirements(group) if group else []
    tools = f" and its {group} tools" if group else ""
    package = f"[{extra}]" if extra else ""
    print(f"installing domindex{package}{tools} into {directory.name}", flush=True)
    options = ("--quiet", "--disable-pip-version-check")
    subprocess.run(
        [*find_pip(python), "install", *options, "-e", f"{PROJECT}{package}", *wanted],
        check=True,
        env=clean_environment(),
    )


def requirements(group: str) -> list[str]:
    """What a dependency group of pyproject.toml asks for, with the groups that it includes."""
    groups = tomllib.loads((PROJECT / "pyproject.toml").read_text())["dependency-groups"]
    found: list[str] = []
    for entry in groups[group]:
        found += [entry] if isinstance(entry, str) else requirements(entry["include-group"])
    return found


def find_pip(python: Path) -> list[str]:
    """A command that installs into the environment of `python`. Raises HostUnavailable."""
    own = [str(python), "-m", "pip"]
    if works([*own, "--version"]):
        return own
    if importlib.util.find_spec("ensurepip") and works([str(python), "-m", "ensurepip"]):
        return own
    outer = [sys.executable, "-m", "pip", "--python", str(python)]
    if works([*outer, "--version"]) and works([*outer, "install", "--quiet", "pip"]):
        return own
    if not CERTIFICATES.exists():  # Debian's pip does not start without
        raise HostUnavailable("there is no pip (Debian: apt install python3-venv)")
    try:
        (wheel,) = package_set(codename(), ["python3-pip-whl"]).rglob("pip-*.whl")
    except HostUnavailable as error:
        raise HostUnavailable(
            f"there is no pip (Debian: apt install python3-venv), and {error}"
        ) from error
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
