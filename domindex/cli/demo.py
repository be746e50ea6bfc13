"""The simulated host of `--simulated`, on which something happens while a command waits.

Read after arguments.py.
"""

from __future__ import annotations

import argparse
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final
from uuid import NAMESPACE_DNS, UUID, uuid5

from domindex.ports import Host

if TYPE_CHECKING:
    from domindex.testing import SimulatedHost

_PACE: Final = 0.5
"""Seconds between two happenings."""

_GUESTS: Final = (
    ("web", "pvh", 1024, 2),
    ("db", "pvh", 4096, 4),
    ("router", "pv", 256, 1),
    ("windows", "hvm", 8192, 4),
)
"""Name, type, memory in MiB, vCPUs."""


def demo_host() -> SimulatedHost:
    """A host with four guests, the same each time."""
    from domindex.testing import SimulatedHost

    host = SimulatedHost()
    for name, kind, memory, vcpus in _GUESTS:
        host.create(name, uuid=_uuid(name), type=kind, memory=memory << 20, vcpus=vcpus)
    return host


@contextlib.contextmanager
def stirred(host: Host, args: argparse.Namespace) -> Iterator[None]:
    """With `--simulated`, let guests come and go for as long as the block runs."""
    if not args.simulated:
        yield
        return
    from domindex.testing import SimulatedHost

    assert isinstance(host, SimulatedHost)
    ended = threading.Event()
    thread = threading.Thread(target=_live, args=(host, ended), name="domindex-simulated")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _live(host: SimulatedHost, ended: threading.Event) -> None:
    """Guests come and go, over and over. Nobody else changes the host."""
    web, job = host.domids()[0], 0

    def begin() -> None:
        nonlocal job
        job = host.create("job--incoming", uuid=_uuid("job"))

    def reboot() -> None:
        nonlocal web
        web = host.reboot(web)

    happenings: tuple[Callable[[], object], ...] = (
        begin,
        lambda: host.rename(job, "job"),
        reboot,
        lambda: host.shutdown(job),
        lambda: host.destroy(job),
    )
    while True:
        for happen in happenings:
            if ended.wait(_PACE):
                return
            happen()


def _uuid(name: str) -> UUID:
    return uuid5(NAMESPACE_DNS, f"{name}.domindex.example")
