"""`make` on a Debian that has Python and make alone: it says what to install."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packages.conftest import have
from tests.packages.test_python import unpack
from tools import packages

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("target", ["run", "test"])
def test_without_pip_it_says_what_to_install(dist: Path, target: str, tmp_path: Path) -> None:
    """One line of ours, then make's own. Debian's Python comes without pip."""
    source = unpack(packages.sdist_of(dist), tmp_path)
    done = have("trixie", "make", "python3").run(f"cd {source.name}; make {target}", tmp_path)
    _, ours, of_make = done.stdout.splitlines()
    assert ours.startswith(".venv cannot be made: there is no pip (Debian: apt install python3-ve")
    assert of_make.startswith("make: *** ")
    assert done.returncode == 2


def test_without_python_it_says_what_to_install(dist: Path, tmp_path: Path) -> None:
    """One line. It is the same where Python is too old, as make looks for one that is not."""
    source = unpack(packages.sdist_of(dist), tmp_path)
    script = f"cd {source.name}; rm /usr/bin/python3*; make run"
    done = have("trixie", "make", "python3").run(script, tmp_path)
    assert done.returncode == 2
    (line,) = done.stdout.splitlines()
    assert "domindex needs Python 3.11 or newer" in line
    assert "apt install python3 python3-venv" in line
