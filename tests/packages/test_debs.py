"""The .debs: built in trixie and in bookworm, checked by lintian, installed and run in both."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import domindex
from tests.packages.conftest import SUITES, have
from tests.packages.system import System
from tools import packages

pytestmark = pytest.mark.timeout(900)  # the first time they fetch what they need

_SUPPRESSED = "initial-upload-closes-no-bugs"  # it is not uploaded to Debian

_USE = """
dpkg --install *.deb
domindex --version
domindex list --simulated
echo "web is $(domindex domid web --simulated)"
cd /
python3 -W error -c 'import domindex.direct, domindex.aio; print("module", domindex.__version__)'
dpkg --status domindex | grep -x 'Status: install ok installed'
test -e /usr/lib/systemd/system/domindex-exporter.service -o \
    -e /lib/systemd/system/domindex-exporter.service
dpkg --purge domindex python3-domindex
"""

_FOUND = """
dpkg-deb --extract domindex_*.deb /
MANWIDTH=80 man domindex
bash -c '. /usr/share/bash-completion/completions/domindex; complete -p domindex'
zsh -c 'autoload -Uz compinit; compinit -u -D; print $_comps[domindex]'
"""


def test_lintian_has_nothing_to_say(debs: Path, workshop: System) -> None:
    """No error and no warning."""
    done = workshop.run(
        f"lintian --allow-root --fail-on error,warning --suppress-tags {_SUPPRESSED} *.changes",
        debs,
    )
    assert done.returncode == 0, done.stdout


def test_man_bash_and_zsh_find_what_is_theirs(debs: Path, workshop: System) -> None:
    """The man page and the completions are where Debian's own look for them."""
    done = workshop.run(_FOUND, debs)
    assert done.returncode == 0, done.stdout
    *page, bash, zsh = done.stdout.splitlines()
    assert page[0].split() == ["DOMINDEX(1)", "User", "Commands", "DOMINDEX(1)"], done.stdout
    assert f"domindex {domindex.__version__}" in page[-1], done.stdout
    assert re.fullmatch("complete .* domindex", bash), done.stdout
    assert zsh == "_domindex", done.stdout


@pytest.mark.parametrize("suite", SUITES)
def test_they_run_with_what_they_depend_on(debs: Path, suite: str) -> None:
    """dpkg installs them beside the packages that they name and no other, and they work."""
    done = have(suite, *_dependencies(debs)).run(_USE, debs)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^ +0 .* Domain-0$", done.stdout, re.MULTILINE), done.stdout
    lines = done.stdout.splitlines()
    assert f"domindex {domindex.__version__}" in lines, done.stdout
    assert f"module {domindex.__version__}" in lines, done.stdout
    assert "web is 1" in lines, done.stdout


def test_bookworm_can_build_them(dist: Path, tmp_path: Path) -> None:
    """Its hatchling is older than the metadata in pyproject.toml.

    Its argparse-manpage and shtab are too old as well: the man page and completions are left out.
    """
    bookworm = have("bookworm", *packages.build_dependencies())
    built = packages.debs(packages.sdist_of(dist), tmp_path, bookworm, options="nocheck")
    debs = [path for path in built if path.suffix == ".deb"]
    assert len(debs) == 2
    listed = [subprocess.check_output(["dpkg-deb", "--contents", deb], text=True) for deb in debs]
    assert "./usr/bin/domindex\n" in "".join(listed)
    assert "/man1/" not in "".join(listed)


def _dependencies(debs: Path) -> list[str]:
    """The other packages that the .debs depend on."""
    names: set[str] = set()
    for deb in debs.glob("*.deb"):
        field = subprocess.run(
            ["dpkg-deb", "--field", str(deb), "Depends"], capture_output=True, text=True, check=True
        ).stdout
        names |= {re.split(r"[ :]", entry.strip())[0] for entry in field.split(",")}
    return sorted(names - {"python3-domindex"})
