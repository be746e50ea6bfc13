"""An index that is followed through a fault, and the reckoning when the fault is over."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import domindex
from domindex import Lost, Recovered
from domindex.domain import Domain, OSType, ShutdownReason
from domindex.options import Timing
from domindex.ports import Host
from tests.stage import PATIENCE, Heard, believed, eventually

from . import xl
from .toolstack import RealHost

TIMING = Timing(request=1.5, probe=0.5, audit=600.0, retry=0.02, retry_most=0.3)
"""A deaf line is noticed soon, and no audit comes to help."""

Told = tuple[int, UUID, str | None, OSType, ShutdownReason | None]


def told(domain: Domain) -> Told:
    """What a record says, without what only one index can know."""
    return (domain.domid, domain.uuid, domain.name, domain.type, domain.shutdown)


@dataclass
class Following:
    """An index, a listener that has heard everything, and how to hold them to the truth."""

    index: domindex.Index
    heard: Heard

    def lost(self) -> int:
        """How often the line was lost until now, each time but the last made good again."""
        kinds = self._line()
        assert kinds == [Lost, Recovered] * (len(kinds) // 2) + [Lost] * (len(kinds) % 2)
        return (len(kinds) + 1) // 2

    def reckon(self, *, lost: int, by_xl: bool = True) -> None:
        """The index equals hypervisor and xenstore, and the events tell exactly that.

        lost: how often the line was lost in all; each loss is made good by now.
        """
        self.index.refresh(timeout=PATIENCE)
        assert self.index.live
        held = list(self.index)
        with domindex.direct.open(timeout=PATIENCE) as look:
            assert [told(domain) for domain in held] == [told(domain) for domain in look.all()]
        if by_xl:
            assert {domain.domid: domain.printable for domain in held} == xl.list()
        known = {domain.domid: domain for domain in held}
        line = [Lost, Recovered] * lost

        def told_all() -> bool:
            self.heard.rest()
            return believed(self.heard.events, []) == known and self._line() == line

        try:
            eventually(told_all, "the listener knows what the index holds")
        except AssertionError as error:
            error.add_note(f"of the line it heard {self._line()}; and in all: {self.heard.events}")
            raise
        assert self.index.stats.listener_errors == 0

    def _line(self) -> list[type]:
        return [type(e) for e in self.heard.events if isinstance(e, (Lost, Recovered))]


@contextmanager
def following(host: Host, timing: Timing = TIMING) -> Iterator[Following]:
    """Open an index on `host` and listen; afterwards no thread and no descriptor is left."""
    with leaves_nothing(), domindex.connect(host, timing=timing, timeout=PATIENCE) as index:
        heard = Heard()
        index.subscribe(heard)
        yield Following(index, heard)


@contextmanager
def leaves_nothing() -> Iterator[None]:
    """P9: threads and descriptors are as they were before the block.

    A line proxy closes its ends of a line a moment after the index has closed its own.
    """
    threads, descriptors = _threads(), _descriptors()
    yield
    eventually(lambda: _threads() <= threads, "no thread is left")
    eventually(lambda: _descriptors() <= descriptors, f"only {descriptors} are left")


def _threads() -> set[int | None]:
    return {t.ident for t in threading.enumerate() if t.name.startswith("domindex")}


def _descriptors() -> Counter[str]:
    """How many are open of each kind, or on each file."""
    found: Counter[str] = Counter()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that listed them
            found[re.sub(r"[0-9]+\]$", "", os.readlink(f"/proc/self/fd/{fd}"))] += 1
    return found


def a_day(host: RealHost) -> None:
    """One of each kind: births, renames, a shutdown, a crash, deaths, a domid used again."""
    gone, kept, down = (host.create(name) for name in ("gone", "kept", "down"))
    host.rename(kept, "renamed")
    host.shutdown(down)
    host.destroy(gone)
    host.create("heir", domid=gone, type="pvh")
    left = host.create("left")
    host.destroy(left, order="xapi")
    host.crash(host.create("crashed"))
