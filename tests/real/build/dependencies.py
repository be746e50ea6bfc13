"""The Python packages that the tests use in dom0, as files for `boot`'s overlay.

They are made for dom0's Python, whatever Python runs the tests here. pip chooses and fetches
them; its own settings say from where.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from .debian import HostUnavailable, cache_directory, cache_lock, package_set, partial_of
from .host import Release, userland_here
from .python import compile_tree
from .root import Content

SITE = "/site"  # is on PYTHONPATH in dom0

# pytest 8.4 and later import pygments at every start, which takes seconds in emulation.
_WHEELS = (
    *("cffi>=1.16", "sortedcontainers>=2.4", "pytest>=8.2,<8.4", "pytest-timeout>=2.3"),
    "prometheus_client>=0.16",
)
_SOURCES = ("pyxs==0.4.1",)  # pure Python, and published as source only
_CPP = "usr/lib/.*/libstdc[+][+][.]so[.]6.*"
_PROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"
_PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")
_TIME_LIMIT = 600.0


def site(release: Release) -> Mapping[str, Content]:
    """Overlay with what the project and its tests need, pytest too, for the dom0 of `release`.

    Cost: a look at the cache after the first time. Raises HostUnavailable if pip cannot fetch.
    """
    return {SITE: _unpacked(release, _WHEELS, _SOURCES)}


def fleet_site(release: Release) -> Mapping[str, Content]:
    """The same overlay and what the project's extra `fleet` asks for, which is 20 MB.

    Cost, raises: as `site`.
    """
    extras = tomllib.loads(_PROJECT.read_text())["project"]["optional-dependencies"]
    machine = release.machine
    # gRPC is written in C++, and nothing else in dom0 is.
    packages = package_set(release.userland, ["libstdc++6"], only=_CPP, machine=machine.debian)
    library = next(path for path in packages.rglob("libstdc++.so.6*") if not path.is_symlink())
    return {
        SITE: _unpacked(release, (*_WHEELS, *extras["fleet"]), _SOURCES),
        f"{machine.libraries}/libstdc++.so.6": library,
    }


def wheel(release: Release, path: Path) -> Mapping[str, Content]:
    """Overlay with the pure wheel at `path`, as if it were installed: the project's own.

    With byte code: dom0 would need seconds to compile it, in each process again.
    """
    userland = userland_here(release)
    with tempfile.TemporaryDirectory() as scratch:
        unpacked = Path(scratch)
        with zipfile.ZipFile(path) as archive:
            archive.extractall(unpacked)
        compile_tree(userland, release.python, unpacked, SITE)
        return {
            f"{SITE}/{file.relative_to(unpacked)}": file.read_bytes()
            for file in unpacked.rglob("*")
            if file.is_file()
        }


def _unpacked(release: Release, wheels: Sequence[str], sources: Sequence[str]) -> Path:
    key = hashlib.sha256(
        json.dumps([release.machine.name, release.python, wheels, sources]).encode()
    ).hexdigest()[:12]
    home = cache_directory() / "site" / f"{release.python}-{key}"
    if not home.is_dir():
        userland = userland_here(release)
        with cache_lock("site"):
            if not home.is_dir():
                partial = partial_of(home)
                fetched = partial.with_name(f"{home.name}.wheels")
                _fetch(fetched, release, wheels, sources)
                for path in sorted(fetched.glob("*.whl")):
                    with zipfile.ZipFile(path) as archive:
                        archive.extractall(partial)
                compile_tree(userland, release.python, partial, SITE)
                shutil.rmtree(fetched)
                partial.rename(home)
    return home


def _fetch(into: Path, release: Release, wheels: Sequence[str], sources: Sequence[str]) -> None:
    if into.exists():
        shutil.rmtree(into)
    into.mkdir(parents=True)
    platforms = [f"{name}_{release.machine.name}" for name in _PLATFORMS]
    where = [option for name in platforms for option in ("--platform", name)]
    _pip("wheel", "--no-deps", "--wheel-dir", str(into), *sources)
    _pip(
        *("download", "--dest", str(into), "--only-binary=:all:"),
        *("--implementation", "cp", "--python-version", release.python, *where, *wheels),
    )


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIME_LIMIT
        )
    except subprocess.TimeoutExpired as error:
        raise HostUnavailable(f"pip {arguments[0]} did not end") from error
    if done.returncode:
        said = re.sub(r"https?://\S+", "(address)", done.stderr.strip()).splitlines()[-4:]
        raise HostUnavailable(f"pip {arguments[0]} failed: {'; '.join(said)}")
