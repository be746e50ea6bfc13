"""Child processes that run pytest, some at a time, each with a time limit.

A fork of a process that has pytest and Hypothesis loaded, and nothing of domindex, is ready in
milliseconds and imports the package anew. Read after kinds.py; next reach.py.
"""

from __future__ import annotations

import importlib
import os
import resource
import selectors
import shutil
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

from tests.measure.mutants.kinds import PROJECT

BUILD: Final = PROJECT / "build" / "mutants"

_LOADED: Final = ("cffi", "hypothesis.stateful", "prometheus_client", "pytest", "sortedcontainers")
"""What every child needs, and what is not the package."""

OPTIONS: Final = (
    *("-q", "--tb=line", "-rfE", "-p", "no:cacheprovider"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # Hypothesis is loaded already
)
"""How a child runs pytest."""

RAISED: Final = 70
"""Status of a child whose job raised: that is a fault of ours, not of what is tried."""

_MEMORY: Final = 8 << 30
"""Bytes of address space for a child: a fault may be a loop that fills the machine."""

T = TypeVar("T")


class Job(NamedTuple, Generic[T]):
    """What one child does. about: for whoever started it. limit: in seconds.

    work: its result is the exit status.
    """

    about: T
    work: Callable[[], int]
    limit: float


class Done(NamedTuple, Generic[T]):
    """What became of it. status: None if it was ended at its limit; negative for a signal."""

    about: T
    status: int | None
    printed: str


class _Child(NamedTuple, Generic[T]):
    job: Job[T]
    slot: int
    pid: int
    until: float


def run(jobs: deque[Job[T]], at_once: int) -> Iterator[Done[T]]:
    """Run all jobs, those too that are added meanwhile, and give what is done as it is done."""
    for name in _LOADED:
        importlib.import_module(name)
    free = set(range(at_once))
    with selectors.DefaultSelector() as selector:
        try:
            while jobs or len(free) < at_once:
                while jobs and free:
                    child = _start(jobs.popleft(), free.pop())
                    selector.register(os.pidfd_open(child.pid), selectors.EVENT_READ, child)
                next_limit = min(key.data.until for key in selector.get_map().values())
                selector.select(max(0.0, next_limit - time.monotonic()))
                for key in [*selector.get_map().values()]:
                    child = key.data
                    ended, status = _end(child)
                    if not ended:
                        continue
                    selector.unregister(key.fileobj)
                    os.close(key.fd)
                    free.add(child.slot)
                    yield Done(child.job.about, status, _printed(child.slot))
        finally:
            for key in [*selector.get_map().values()]:
                _kill(key.data.pid)
                os.close(key.fd)


def _start(job: Job[T], slot: int) -> _Child[T]:
    place = _place(slot, "")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    if (pid := os.fork()) != 0:
        return _Child(job, slot, pid, time.monotonic() + job.limit)
    status = RAISED
    try:
        os.setsid()  # so that whatever it starts is ended with it
        output = os.open(place / "printed", os.O_WRONLY | os.O_CREAT)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(place / "hypothesis")
        os.environ["TMPDIR"] = str(place)
        status = job.work()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)  # the parent's exit handlers are not ours


def _end(child: _Child[T]) -> tuple[bool, int | None]:
    """Whether it has ended, and its status; at its limit it is killed."""
    pid, status = os.waitpid(child.pid, os.WNOHANG)
    if pid:
        _kill(child.pid, wait=False)
        return True, os.waitstatus_to_exitcode(status)
    if time.monotonic() < child.until:
        return False, None
    _kill(child.pid)
    return True, None


def _kill(pid: int, *, wait: bool = True) -> None:
    """End it, and what it started."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    if wait:
        os.waitpid(pid, 0)


def _printed(slot: int) -> str:
    """The end of what it printed; nothing if it ended before it could."""
    try:
        with _place(slot, "printed").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1_000_000))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _place(slot: int, name: str) -> Path:
    return BUILD / f"child-{slot}" / name
