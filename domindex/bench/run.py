"""One run of everything on one host."""

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

from domindex.bench import measures
from domindex.bench.measures import Measure, attempt
from domindex.bench.ours import BARE, DIRECT, index_peer
from domindex.bench.peers import PEERS, not_asked
from domindex.bench.report import Report
from domindex.bench.subject import Subject
from domindex.bench.ways import Missing, measure
from domindex.errors import DomindexError
from domindex.index import Index
from domindex.opening import connect
from domindex.ports import Host
from domindex.testing import SimulatedHost

_WATCHER = "domindex-watcher"


@dataclass(frozen=True, slots=True)
class Settings:
    """How thoroughly.

    rounds: samples of each way. budget: seconds that a slow one has; three samples it always gets.
    pause: seconds before each sample. idle: seconds for which idleness is watched.
    write: one node of its own may be written, for what cannot be known else.
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
    """Measure everything that can be on `host`. Raises what `connect` raises.

    rename: how a domain is given another name and its own again, if that is allowed. Never by the
        command line: that a stranger's domain is renamed, even for a moment, could be noticed.
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
        # What opening a peer costs, and leaves behind, is no matter of the idle index.
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
        yield Measure(*measures.REACTION, missing=_NOT_ASKED)
        yield Measure(*measures.CHURN, missing=_NOT_ASKED)
    if rename is None:
        yield Measure(*measures.RENAME, missing="no domain of this host is renamed for it")
    else:
        renaming = rename
        yield attempt(*measures.RENAME, lambda: measures.renamed(index, subject, renaming))


_NOT_ASKED = "it needs to write a node of its own to xenstore: allow it with --write"


def _alone(subject: Subject, settings: Settings) -> Iterator[Measure]:
    """What is measured beside no other index of ours."""
    kinds = measures.UNDISTURBED, measures.BESIDE
    if not settings.write:
        yield from (Measure(*kind, missing=_NOT_ASKED) for kind in kinds)
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
    """A host for where there is no Xen: dom0 and guests."""
    host = SimulatedHost(idle=True)
    for number in range(1, domains):
        host.create(f"vm-{number}", type="pvh")
    return host
