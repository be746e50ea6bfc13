"""A fake xenstored for each test that asks for one, and nothing left behind by any."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from domindex.xen.xenstore import XenStore

from .fake_xenstored import FakeXenstored

LIMIT = 0.2
"""Seconds for each request: what a silent server costs a test."""

OpenStore = Callable[..., XenStore]


def descriptors() -> set[tuple[int, str]]:
    """What this process has open, by number and by what it is."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except OSError:  # the one that listed them
            continue
    return found


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test: no descriptor and no thread more than before, no word from the surroundings."""
    for name in ("XENSTORED_PATH", "XENSTORED_RUNDIR"):
        monkeypatch.delenv(name, raising=False)
    open_before, threads = descriptors(), set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= threads
    assert descriptors() <= open_before


@pytest.fixture
def directory() -> Iterator[Path]:
    """One with a short name: a socket's path may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="xs") as name:
        yield Path(name)


@pytest.fixture
def xenstored(directory: Path) -> Iterator[FakeXenstored]:
    with FakeXenstored(f"{directory}/socket") as server:
        yield server


@pytest.fixture
def open_store(xenstored: FakeXenstored) -> Iterator[OpenStore]:
    """Opens lines to the fake xenstored, and closes them in the end."""
    opened: list[XenStore] = []

    def open_one(timeout: float = LIMIT) -> XenStore:
        known = len(xenstored.clients)
        opened.append(XenStore("socket", xenstored.path, timeout))
        xenstored.wait_until(lambda: len(xenstored.clients) > known)  # nothing is asked yet
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: OpenStore) -> XenStore:
    """One line, with time enough for a busy machine."""
    return open_store(10.0)
