"""One run of everything on one host.

Read after measures.py; next report.py.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from domindex import DomindexError, Index, connect
from domindex.ports import Host
from domindex.testing import SimulatedHost
from tests.bench import measures
from tests.bench.floors import BARE
from tests.bench.measures import Measure, attempt
from tests.bench.ours import DIRECT, index_peer
from tests.bench.peers import PEERS, not_asked
from tests.bench.report import Report
from tests.bench.subject import Subject
from tests.bench.ways import Missing, measure

_WATCHER = "domindex-watcher"


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is measured.

    rounds: samples of each way.
    budget: seconds for each way; a slow one has fewer samples, and at least three.
    pause: seconds before each sample.
    idle: seconds for which the idle index is watched; 0 to leave that out.
    write: whether one node of its own may be written, for what cannot be measured otherwise.
    label, relative: see Report.
    """

    rounds: int = 15
    budget: float = 2.0
    pause: float = 0.01
    idle: float = 10.0
    write: bool = False
    label: str = ""
    relative: bool = False


Rename: TypeAlias = Callable[[int, str], None]


def bench(host: Host, settings: Settings, rename: Rename | None = None) -> Report:
    """Measure on `host` everything that can be measured there.

    Args:
        rename: gives a domain another name, if that is allowed. The command line never allows it:
            programs of the host could act on the new name.

    Raises:
        DomindexError: as `connect` does.
    """
    if settings.write and isinstance(host, SimulatedHost):
        rename = host.rename
    others = set(threading.enumerate())
    with connect(host, timeout=600.0) as index, ExitStack() as stack:
        (watcher,) = [
            thread
            for thread in threading.enumerate()
            if thread not in others and thread.name == _WATCHER
        ]
        subject = Subject.of(host, tuple(index))
        # Before a peer is opened: what that costs or leaves behind is not of the idle index.
        found = list(_quiet(index, watcher, subject, settings))
        peers = [not_asked(peer) for peer in PEERS] if subject.simulated else PEERS
        ways = [
            way
            for peer in (*BARE, index_peer(index), DIRECT, *peers)
            for way in peer.opened(subject, stack)
        ]
        order = list(dict.fromkeys(way.question for way in ways))
        ways.sort(key=lambda way: order.index(way.question))
        timed = measure(ways, rounds=settings.rounds, budget=settings.budget, pause=settings.pause)
        found += _writing(index, subject, settings, rename)
        machine = _machine(index, subject)
    found += _alone(subject, settings)
    return Report(
        domains=len(subject.domains),
        simulated=subject.simulated,
        when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine=machine,
        command=sys.argv,
        ways=tuple(timed),
        measures=tuple(found),
        label=settings.label,
        relative=settings.relative,
    )


def _quiet(
    index: Index, watcher: threading.Thread, subject: Subject, settings: Settings
) -> Iterator[Measure]:
    yield attempt(*measures.MEMORY, lambda: measures.memory(subject))
    yield attempt(*measures.IDLE, lambda: measures.idle(watcher, index, settings.idle))


def _writing(
    index: Index, subject: Subject, settings: Settings, rename: Rename | None
) -> Iterator[Measure]:
    if settings.write:
        yield attempt(*measures.REACTION, lambda: measures.reaction(index, subject))
        yield attempt(*measures.CHURN, lambda: measures.churn(index, subject))
    else:
        yield Measure(*measures.REACTION, missing=_NOT_ALLOWED)
        yield Measure(*measures.CHURN, missing=_NOT_ALLOWED)
    if rename is None:
        yield Measure(*measures.RENAME, missing="no domain of this host may be renamed")
    else:
        renaming = rename
        yield attempt(*measures.RENAME, lambda: measures.renamed(index, subject, renaming))


_NOT_ALLOWED = "it has to write a node of its own to xenstore: allow that with --write"


def _alone(subject: Subject, settings: Settings) -> Iterator[Measure]:
    """What is measured while no other index of ours is open."""
    kinds = measures.UNDISTURBED, measures.BESIDE
    if not settings.write:
        yield from (Measure(*kind, missing=_NOT_ALLOWED) for kind in kinds)
        return
    try:
        yield from measures.burden(subject)
    except (Missing, DomindexError, OSError) as reason:
        yield from (Measure(*kind, missing=str(reason)) for kind in kinds)


def _machine(index: Index, subject: Subject) -> dict[str, str]:
    try:
        version = importlib.metadata.version("domindex")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    return {
        "domindex": version,
        "xen": "none: simulated" if subject.simulated else index.capabilities.xen,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "processors": str(os.cpu_count()),
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return "unknown"
    named = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return named[0] if named else "unknown"


def simulated(domains: int) -> SimulatedHost:
    """A host of `domains` domains, dom0 included, for machines without Xen."""
    host = SimulatedHost(idle=True)
    for number in range(1, domains):
        host.create(f"vm-{number}", type="pvh")
    return host
