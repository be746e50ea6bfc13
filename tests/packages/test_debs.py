"""The .debs: built in trixie and in bookworm, checked by lintian, installed and run in both."""

from __future__ import annotations

import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.packages.conftest import SUITES, have
from tests.packages.system import System
from tools import packages

pytestmark = pytest.mark.timeout(900)  # the first time they fetch what they need

_SUPPRESSED = "initial-upload-closes-no-bugs"  # it is not uploaded to Debian

_USE = """
dpkg --install *.deb
domindex list --simulated
cd /
python3 -W error -c 'import domindex.direct, domindex.aio; print("module", domindex.__version__)'
dpkg --status domindex | grep -x 'Status: install ok installed'
test -e /usr/lib/systemd/system/domindex-exporter.service -o \
    -e /lib/systemd/system/domindex-exporter.service
dpkg --purge domindex python3-domindex
"""


def test_lintian_has_nothing_to_say(dist: Path, debs: Path, workshop: System) -> None:
    """No error and no warning, but that of a command without a man page, if the wheel has none."""
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        manual = any("/man1/" in name for name in wheel.namelist())
    tags = _SUPPRESSED if manual else f"{_SUPPRESSED},no-manual-page"
    done = workshop.run(
        f"lintian --allow-root --fail-on error,warning --suppress-tags {tags} *.changes", debs
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("suite", SUITES)
def test_they_run_with_what_they_depend_on(debs: Path, suite: str) -> None:
    """dpkg installs them beside the packages that they name and no other, and they work."""
    done = have(suite, *_dependencies(debs)).run(_USE, debs)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^ +0 .* Domain-0$", done.stdout, re.MULTILINE), done.stdout
    assert "module 0." in done.stdout


def test_bookworm_can_build_them(dist: Path, tmp_path: Path) -> None:
    """Its hatchling is older than the metadata in pyproject.toml."""
    bookworm = have("bookworm", *packages.build_dependencies())
    built = packages.debs(packages.sdist_of(dist), tmp_path, bookworm, options="nocheck")
    assert sum(path.suffix == ".deb" for path in built) == 2


def _dependencies(debs: Path) -> list[str]:
    """The other packages that the .debs depend on."""
    names: set[str] = set()
    for deb in debs.glob("*.deb"):
        field = subprocess.run(
            ["dpkg-deb", "--field", str(deb), "Depends"], capture_output=True, text=True, check=True
        ).stdout
        names |= {re.split(r"[ :]", entry.strip())[0] for entry in field.split(",")}
    return sorted(names - {"python3-domindex"})
