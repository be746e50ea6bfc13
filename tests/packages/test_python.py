"""The wheel and the sdist: what is in them, and that the same source gives the same bytes."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import domindex
from tools import packages

pytestmark = pytest.mark.timeout(300)

_ANOTHER_YEAR = "import time; _now = time.time; time.time = lambda: _now() + 4e7\n"


def test_the_wheel_says_what_it_is(dist: Path) -> None:
    """Licence, versions and Pythons are there for whoever chooses by metadata."""
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        (name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        told = email.message_from_bytes(wheel.read(name))
    assert f"{Path(name).parent}/licenses/LICENSE" in names
    assert "domindex/py.typed" in names
    assert (told["Name"], told["Version"]) == ("domindex", domindex.__version__)
    assert told["License-Expression"] == "MIT"
    assert told["License-File"] == "LICENSE"
    assert told["Author"] == "The domindex authors"
    assert "pyxs<0.5,>=0.4.1" in told.get_all("Requires-Dist", [])
    pythons = [text for text in told.get_all("Classifier", []) if "Python :: 3." in text]
    assert [text.rpartition(".")[2] for text in pythons] == ["11", "12", "13", "14"]


def test_every_package_has_the_same_version() -> None:
    """A release changes three files; one of them forgotten is noticed here."""
    changelog = (packages.PROJECT / "packaging/debian/changelog").read_text()
    spec = (packages.PROJECT / "packaging/domindex.spec").read_text()
    assert changelog.startswith(f"domindex ({domindex.__version__}-")
    assert re.findall(r"^Version: +(\S+)$", spec, re.MULTILINE) == [domindex.__version__]
    assert f"> - {domindex.__version__}-" in spec.partition("%changelog")[2]


def test_debian_and_fedora_ask_for_what_the_wheel_asks_for() -> None:
    """Debian's own tool leaves out python3-cffi, as most programs need only its other half."""
    control = (packages.PROJECT / "packaging/debian/control").read_text()
    (depends,) = re.findall(
        r"^Package: python3-domindex\n(?:.*\n)*?Depends: (.*)$", control, re.MULTILINE
    )
    assert "python3-cffi" in depends.split(", ")


def test_the_sdist_is_the_whole_project(dist: Path, tmp_path: Path) -> None:
    """All that is committed but CI's own, so that whoever has it can test, build and package."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=packages.PROJECT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("this is no checkout")
    source = unpack(packages.sdist_of(dist), tmp_path)
    there = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    committed = {path for path in listed.stdout.splitlines() if not path.startswith(".")}
    assert {path for path in committed if (packages.PROJECT / path).exists()} <= there


def test_the_tests_run_from_the_sdist(dist: Path, tmp_path: Path) -> None:
    """A few of them, of the sdist's own package: all are there, as the test above says."""
    source = unpack(packages.sdist_of(dist), tmp_path)
    few = ["tests/core/test_errors.py", "tests/shape/test_public_names.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *few],
        cwd=source,
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_the_same_source_gives_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    """In another directory, a year later, and with other modes, times, locale and hash seed."""
    source = unpack(packages.sdist_of(dist), tmp_path / "a much longer name of a directory")
    for path in [source, *source.rglob("*")]:
        path.chmod(path.stat().st_mode & 0o700)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    (tmp_path / "later").mkdir()
    (tmp_path / "later/sitecustomize.py").write_text(_ANOTHER_YEAR)
    again = tmp_path / "again"
    subprocess.run(
        [*(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(again)), str(source)],
        env={
            **os.environ,
            "PYTHONPATH": str(tmp_path / "later"),
            "PYTHONHASHSEED": "7",
            "TZ": "Asia/Tokyo",
            "LC_ALL": "C",
            "HOME": str(tmp_path),
        },
        umask=0o077,
        check=True,
        capture_output=True,
    )
    built = {path.name: path.read_bytes() for path in dist.iterdir()}
    assert {path.name for path in again.iterdir()} == built.keys()
    for path in again.iterdir():
        assert path.read_bytes() == built[path.name], f"{path.name} is not reproducible"


def unpack(sdist: Path, directory: Path) -> Path:
    """The sdist's own directory, in `directory`."""
    with tarfile.open(sdist) as archive:
        archive.extractall(directory, filter="data")
    return directory / sdist.name.removesuffix(".tar.gz")
