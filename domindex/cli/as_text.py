"""Domains and events as text. Every name is escaped, unless bytes are asked for.

Read after arguments.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TextIO

from domindex.domain import Domain, DomainInfo, ShutdownReason, fit_for_terminal, printable
from domindex.events import (
    Added,
    Changed,
    DuplicateName,
    DuplicateUuid,
    Event,
    Lost,
    Ready,
    Rebooted,
    Recovered,
    Removed,
    Renamed,
    Resync,
    ShutDown,
)

_MIB = 1 << 20
_SECOND = 1_000_000_000


def print_table(domains: Iterable[Domain], out: TextIO, *, header: bool = True) -> None:
    """Print a line for each domain. Names come last, as they may be long, and are escaped.

    Args:
        domains: The records.
        out: Where to print.
        header: Print a line with the names of the columns first.
    """
    if header:
        print(f"{'DOMID':>5} {'TYPE':<7} {'STATE':<10} {'UUID':<36} NAME", file=out)
    for domain in domains:
        state = "up" if domain.shutdown is None else reason_word(domain.shutdown)
        print(
            f"{domain.domid:>5} {domain.type:<7} {state:<10} {domain.uuid} {domain.printable}",
            file=out,
        )


def print_wide(
    domains: Iterable[Domain], infos: Mapping[int, DomainInfo], out: TextIO, *, header: bool = True
) -> None:
    """Print what `xl list` prints of each domain, and its type and uuid.

    Args:
        domains: The records.
        infos: By domid, what the hypervisor says. A domain that is not in it, or has another uuid
            there, has ended meanwhile and is left out.
        out: Where to print.
        header: Print a line with the names of the columns first.
    """
    if header:
        columns = f"{'STATE':<6} {'MEM(MiB)':>9} {'VCPUS':>5} {'TIME(s)':>10}"
        print(f"{'DOMID':>5} {'TYPE':<7} {columns} {'UUID':<36} NAME", file=out)
    for domain in domains:
        info = infos.get(domain.domid)
        if info is None or info.uuid != domain.uuid:
            continue
        columns = (
            f"{state_letters(info):<6} {info.memory // _MIB:>9} {info.vcpus:>5} "
            f"{info.cpu_time / _SECOND:>10.1f}"
        )
        print(
            f"{domain.domid:>5} {domain.type:<7} {columns} {domain.uuid} {domain.printable}",
            file=out,
        )


def state_letters(info: DomainInfo) -> str:
    """The six letters of `xl list`: running, blocked, paused, shutdown, crashed, dying."""
    flags = (
        ("r", info.running),
        ("b", info.blocked),
        ("p", info.paused),
        ("s", info.shutdown is not None),
        ("c", info.shutdown is ShutdownReason.CRASH),
        ("d", info.dying),
    )
    return "".join(letter if holds else "-" for letter, holds in flags)


def print_name(name: str, out: TextIO, *, end: str) -> None:
    r"""Print the bytes of a name; escaped if the output is a terminal.

    Args:
        name: The name.
        out: Where to print.
        end: What follows it, "\n" or "\0".
    """
    if out.isatty():
        print(printable(name), end=end, file=out)
        return
    out.flush()  # what was printed as text comes first
    out.buffer.write(name.encode("utf-8", "surrogateescape") + end.encode("ascii"))


def reason_word(reason: ShutdownReason) -> str:
    """Why a domain stopped, in lower case."""
    return reason.name.lower()


def stamp(time: float) -> str:
    """A time in seconds since the epoch, as ISO 8601 with the local offset from UTC."""
    return datetime.fromtimestamp(time).astimezone().isoformat(timespec="milliseconds")


def event_line(event: Event) -> str:
    """An event as one line, with all names escaped for a terminal."""
    word = type(event).__name__
    match event:
        case Renamed(old, new):
            return f"{word:<9} {new.domid:>5} {old.printable} -> {new.printable}"
        case Rebooted(old, new):
            return f"{word:<9} {new.domid:>5} {new.printable} (was domain {old.domid})"
        case Changed(_, new, fields):
            changes = ", ".join(f"{field}: {_value(new, field)}" for field in fields)
            return f"{word:<9} {new.domid:>5} {new.printable} ({changes})"
        case Lost():
            return f"{word:<9}     - {fit_for_terminal(str(event.cause))}"
        case Recovered():
            return f"{word:<9}     - after {event.downtime:.1f} s"
        case DuplicateName(name, domains):
            return f"{word:<9}     - {printable(name)} ({_domids(domains)})"
        case DuplicateUuid(uuid, domains):
            return f"{word:<9}     - {uuid} ({_domids(domains)})"
        case Resync(domains):
            return f"{word:<9}     - ({_domids(domains)})"
        case Added(domain) | Ready(domain) | Removed(domain) | ShutDown(domain):
            why = "" if domain.shutdown is None else f" ({reason_word(domain.shutdown)})"
            return f"{word:<9} {domain.domid:>5} {domain.printable}{why}"
    return word


def _domids(domains: Iterable[Domain]) -> str:
    return "domains " + ", ".join(str(domain.domid) for domain in domains)


def _value(domain: Domain, field: str) -> str:
    value = getattr(domain, field)
    return reason_word(value) if isinstance(value, ShutdownReason) else str(value)
