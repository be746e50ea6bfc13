"""Hosts, answers and events of a fleet, as text and as JSON. What comes from a store is escaped.

Read after cli/as_text.py and cli/as_json.py; next the commands.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from domindex.cli.as_json import as_json, event_json
from domindex.cli.as_text import event_line, reason_word
from domindex.domain import fit_for_terminal
from domindex.fleet import (
    FleetEvent,
    Found,
    HostBlind,
    HostEvent,
    HostForgotten,
    HostLive,
    HostLost,
    HostOffline,
    HostRenamed,
    HostsCloned,
    HostView,
    Moved,
    Resync,
)
from domindex.fleet.clock import reader_clock

_FROM_THERE = 12
"""Characters that the name of a host has at least, so that short ones stand below each other."""


def print_found(found: Iterable[Found], out: TextIO, *, header: bool = True) -> None:
    """Print a line for each domain. HOST-IS is the state of the host, STATE of the domain.

    Args:
        found: The domains.
        out: Where to print.
        header: Print a line with the names of the columns first.
    """
    rows = [
        (
            one.host,
            str(one.state),
            str(one.domain.domid),
            str(one.domain.type),
            "up" if one.domain.shutdown is None else reason_word(one.domain.shutdown),
            str(one.domain.uuid),
            one.domain.printable,
        )
        for one in found
    ]
    head = ("HOST", "HOST-IS", "DOMID", "TYPE", "STATE", "UUID", "NAME")
    _print_columns(head if header else None, rows, out, right={2})


def print_hosts(hosts: Iterable[HostView], out: TextIO, *, header: bool = True) -> None:
    """Print a line for each host. AGE is the time since its last word was known to hold.

    A `?` there means longer than this command has been looking: a store does not say when a host
    was lost.

    Args:
        hosts: The hosts.
        out: Where to print.
        header: Print a line with the names of the columns first.
    """
    rows = [
        (
            host.host,
            str(host.state),
            str(host.domains),
            str(host.generation),
            _age_text(_age(host.as_of)),
            fit_for_terminal(host.reason),
        )
        for host in hosts
    ]
    head = ("HOST", "STATE", "DOMAINS", "GENERATION", "AGE", "REASON")
    _print_columns(head if header else None, rows, out, right={2, 3, 4})


def candidate(found: Found) -> str:
    """One of several that a key may mean, in a form that can be given instead."""
    domain = found.domain
    where = f"--host {found.host} id:{domain.domid}"
    return f"  {where}  uuid:{domain.uuid}  {found.state}  {domain.printable}"


def found_json(found: Found) -> dict[str, Any]:
    """A domain, its host, and the seconds since that was known to be so; null if too long ago."""
    return {
        "host": found.host,
        "host_state": str(found.state),
        "age": _number(_age(found.as_of)),
        **as_json(found.domain),
    }


def host_json(host: HostView) -> dict[str, Any]:
    """A host."""
    return {
        "host": host.host,
        "state": str(host.state),
        "reason": host.reason,
        "domains": host.domains,
        "generation": host.generation,
        "age": _number(_age(host.as_of)),
        "machine": host.machine,
        "unreadable": list(host.unreadable),
    }


def fleet_event_json(event: FleetEvent) -> dict[str, Any]:
    """An event. What happened within a host is as in `domindex watch`, with the host."""
    fields: dict[str, Any] = {"generation": event.generation, "time": event.time}
    word = type(event).__name__
    match event:
        case HostEvent(host, inner):
            within = event_json(inner)
            return within | {"host": host, **fields, "elsewhere": list(event.elsewhere)}
        case Moved(old, new):
            fields |= {"old": found_json(old), "new": found_json(new)}
        case HostLive(host) | HostForgotten(host):
            fields |= {"host": host}
        case HostLost(host, reason) | HostBlind(host, reason) | HostOffline(host, reason):
            fields |= {"host": host, "reason": reason}
        case HostRenamed(old, new):
            fields |= {"old": old, "new": new}
        case HostsCloned(hosts):
            fields |= {"hosts": list(hosts)}
        case Resync(found, states):
            domains = [found_json(one) for one in found]
            hosts_now = {name: str(state) for name, state in states.items()}
            fields |= {"domains": domains, "hosts": hosts_now}
        case _:
            return event_json(event)
    return {"event": word, **fields}


def fleet_event_line(event: FleetEvent) -> str:
    """An event as one line: the host first, "-" if it is about none."""
    word = type(event).__name__
    match event:
        case HostEvent(host, inner):
            return _line(host, event_line(inner))
        case Moved(old, new):
            from_there = f"(from domain {old.domain.domid} of {old.host})"
            return _line(
                new.host, f"{word:<9} {new.domain.domid:>5} {new.domain.printable} {from_there}"
            )
        case HostLive(host) | HostForgotten(host):
            return _line(host, word)
        case HostLost(host, reason) | HostBlind(host, reason) | HostOffline(host, reason):
            why = f"     - {fit_for_terminal(reason)}" if reason else ""
            return _line(host, f"{word:<9}{why}")
        case HostRenamed(old, new):
            return _line(new, f"{word:<9}     - was {old}")
        case HostsCloned(hosts):
            return _line("-", f"{word:<9}     - {', '.join(hosts)}")
        case Resync(found, states):
            return _line("-", f"{word:<9}     - {len(found)} domains, {len(states)} hosts")
    return _line("-", event_line(event))


def _line(host: str, rest: str) -> str:
    return f"{host:<{_FROM_THERE}} {rest}"


def _print_columns(
    head: Sequence[str] | None, rows: Sequence[Sequence[str]], out: TextIO, right: set[int]
) -> None:
    """Print rows with each column as wide as it must be; the last is not filled up."""
    lines = [*([head] if head else []), *rows]
    if not lines:
        return
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    for line in lines:
        filled = [
            text.rjust(width) if place in right else text.ljust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        print(" ".join([*filled[:-1], line[-1]]).rstrip(), file=out)


def _age(as_of: float) -> float:
    return max(0.0, reader_clock() - as_of)


def _age_text(age: float) -> str:
    return f"{age:.0f}s" if math.isfinite(age) else "?"


def _number(age: float) -> float | None:
    return round(age, 3) if math.isfinite(age) else None
