"""Build the packages into a directory: wheel, sdist, and the .debs for a Debian suite.

The .debs are built from the sdist with `packaging/debian`, in that suite's own unpacked packages:
neither root nor a Debian of that age is needed. On a Debian with the packages that
`packaging/debian/control` names, this does the same:

    cp -r packaging/debian . && dpkg-buildpackage -b -us -uc
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from tests.packages.system import System  # noqa: E402
from tests.real.build.debian import HostUnavailable  # noqa: E402


class BuildFailed(Exception):
    """A package was not built; the message is what the build printed."""


def main() -> int | str:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path, help="where to put them")
    parser.add_argument("--suite", default="trixie", help="the Debian to build the .debs in")
    args = parser.parse_args()
    args.directory.mkdir(parents=True, exist_ok=True)
    try:
        built = wheel_and_sdist(PROJECT, args.directory)
        system = System(args.suite, build_dependencies())
        built += debs(sdist_of(args.directory), args.directory, system)
    except (HostUnavailable, BuildFailed) as error:
        return f"the packages cannot be built: {error}"
    print(*built, sep="\n")
    return 0


def wheel_and_sdist(source: Path, directory: Path) -> list[Path]:
    """Build the sdist of `source`, and the wheel from that sdist, with the tools installed here."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True)
    if done.returncode:
        raise BuildFailed(done.stdout + done.stderr)
    return [sdist_of(directory), next(directory.glob("*.whl"))]


def sdist_of(directory: Path) -> Path:
    """The one sdist there."""
    (sdist,) = directory.glob("domindex-*.tar.gz")
    return sdist


def build_dependencies() -> tuple[str, ...]:
    """The packages that `packaging/debian/control` asks for, without versions and conditions."""
    control = (PROJECT / "packaging/debian/control").read_text()
    (field,) = re.findall(r"^Build-Depends:((?:.*\n)(?: .*\n)*)", control, re.MULTILINE)
    return tuple(entry.split()[0] for entry in field.split(","))


def debs(sdist: Path, directory: Path, system: System, options: str = "") -> list[Path]:
    """Build the .debs from an sdist.

    Args:
        sdist: The sdist.
        directory: Where to put them, with their .changes and .buildinfo.
        system: A Debian with `build_dependencies`.
        options: DEB_BUILD_OPTIONS, as "nocheck" for no tests.

    Returns:
        All that was built.

    Raises:
        HostUnavailable: That Debian cannot be had here.
        BuildFailed: It was not built.
    """
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        with tarfile.open(sdist) as archive:
            archive.extractall(work, filter="data")
        (source,) = work.iterdir()
        shutil.copytree(source / "packaging/debian", source / "debian")
        done = system.run(
            # The compilers of build-essential are left out, as nothing is compiled.
            f"cd {source.name} && dpkg-checkbuilddeps -I && dpkg-buildpackage -d -b -us -uc",
            work,
            environment={"DEB_BUILD_OPTIONS": options},
        )
        if done.returncode:
            raise BuildFailed(done.stdout)
        built = sorted(path for path in work.iterdir() if path.is_file())
        return [Path(shutil.copy(path, directory)) for path in built]


if __name__ == "__main__":
    sys.exit(main())
