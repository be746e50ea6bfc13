"""Domains and events as JSON. It is plain ASCII, so that it prints anywhere.

Read after arguments.py.
"""

from __future__ import annotations

import json
from typing import Any, TextIO

from domindex.domain import Domain, ShutdownReason
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


def print_json(value: object, out: TextIO) -> None:
    """Print one document, over several lines."""
    print(json.dumps(value, indent=2), file=out)


def named(name: str | None) -> dict[str, Any]:
    """A name, and its bytes in hexadecimal if it is not UTF-8.

    `name` then has lone surrogates for the bytes that are not, as Python reads them back. Other
    readers, such as jq, put other characters in their place.
    """
    raw = None if name is None else name.encode("utf-8", "surrogateescape")
    is_utf8 = raw is None or raw.decode("utf-8", "replace") == name
    return {"name": name, "name_hex": None if raw is None or is_utf8 else raw.hex()}


def as_json(domain: Domain) -> dict[str, Any]:
    """A domain."""
    return {
        "domid": domain.domid,
        "uuid": str(domain.uuid),
        **named(domain.name),
        "type": str(domain.type),
        "shutdown": reason_json(domain.shutdown),
        "first_seen": domain.first_seen,
    }


def reason_json(reason: ShutdownReason | None) -> str | None:
    """Why a domain stopped, as a word in lower case."""
    return None if reason is None else reason.name.lower()


def event_json(event: Event) -> dict[str, Any]:
    """An event."""
    fields: dict[str, Any] = {
        "event": type(event).__name__,
        "generation": event.generation,
        "time": event.time,
    }
    match event:
        case Renamed() | Changed() | Rebooted():
            fields |= {"old": as_json(event.old), "new": as_json(event.new)}
        case Lost():
            fields["cause"] = str(event.cause)
        case Recovered():
            fields["downtime"] = event.downtime
        case DuplicateName(name, domains):
            fields |= named(name) | {"domains": [as_json(domain) for domain in domains]}
        case DuplicateUuid(uuid, domains):
            fields |= {"uuid": str(uuid), "domains": [as_json(domain) for domain in domains]}
        case Resync(domains):
            fields["domains"] = [as_json(domain) for domain in domains]
        case Added(domain) | Ready(domain) | Removed(domain) | ShutDown(domain):
            fields["domain"] = as_json(domain)
    return fields
