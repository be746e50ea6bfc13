"""What the tests here share: what was built, once."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from tests.packages.system import System
from tests.real.build.debian import HostUnavailable
from tools import packages

SUITES = ("bookworm", "trixie")


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel and the sdist."""
    directory = tmp_path_factory.mktemp("dist")
    packages.wheel_and_sdist(packages.PROJECT, directory)
    return directory


@pytest.fixture(scope="session")
def workshop() -> System:
    """A trixie in which everything is built and checked."""
    return have("trixie", *packages.build_dependencies(), "lintian", "rpm", "systemd", "zsh")


@pytest.fixture(scope="session")
def debs(dist: Path, workshop: System, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the .debs, built in trixie with their tests."""
    directory = tmp_path_factory.mktemp("trixie")
    packages.debs(packages.sdist_of(dist), directory, workshop)
    return directory


@functools.cache
def have(suite: str, *names: str) -> System:
    """That Debian with these packages. Skips the test without CI, and fails it with CI, if not."""
    ci = bool(os.environ.get("CI"))
    if not ci and os.environ.get("DOMINDEX_HOSTS") != "all":
        pytest.skip("unpacks Debians of some 500 MB: HOSTS=all runs it, and CI")
    system = System(suite, names)
    try:
        system.unpack()
    except HostUnavailable as error:
        if ci:
            pytest.fail(f"CI asks for it: {error}")
        pytest.skip(str(error))
    return system
