"""`fleet watch`: the events of a fleet, as they come.

Read after asking.py; next ruling.py.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import deque
from typing import Any, TextIO

import domindex.events
import domindex.fleet
from domindex.cli.arguments import reboot_grace, wanted
from domindex.cli.as_text import stamp
from domindex.cli.fleet.forms import fleet_event_json, fleet_event_line
from domindex.cli.fleet.opening import reader_of
from domindex.cli.watching import turns
from domindex.fleet import FleetEvent
from domindex.ports import Host


def watch(_: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Print what is there, then each event."""
    kinds = None if args.event is None else tuple(map(kind_of, args.event))
    grace = reboot_grace(args)
    with reader_of(args) as fleet:
        for host in args.host or ():
            fleet.hosts[host]  # raises NoSuchHost: a misspelt one would be silent for ever
        arrived: deque[FleetEvent] = deque()
        fleet.subscribe(
            arrived.append,
            events=kinds,
            where=wanted(args),
            among=args.host,
            replay=not args.no_replay,
            reboot_grace=grace,
            threaded=False,
        )
        for _turn in turns(fleet, out, math.inf if args.seconds is None else args.seconds):
            while arrived:
                print(_line(arrived.popleft(), args), file=out, flush=True)
    return 0


def kind_of(name: str) -> type[Any]:
    """The type of an event. A Resync is that of a fleet."""
    found: type[Any] = getattr(domindex.fleet, name, None) or getattr(domindex.events, name)
    return found


def _line(event: FleetEvent, args: argparse.Namespace) -> str:
    if args.json:
        return json.dumps(fleet_event_json(event))
    line = fleet_event_line(event)
    return f"{stamp(event.time)} {line}" if args.timestamps else line
