"""`watch`: the events of an index, as they come.

Read after listing.py; next waiting.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import select
import time
from collections import deque
from collections.abc import Iterator
from typing import Final, Protocol, TextIO, get_args

from domindex.cli.arguments import (
    PATIENCE,
    Commands,
    add_filters,
    add_reboot_grace,
    reboot_grace,
    seconds,
    wanted,
)
from domindex.cli.as_json import event_json
from domindex.cli.as_text import event_line, stamp
from domindex.cli.demo import stirred
from domindex.events import Event
from domindex.opening import connect
from domindex.ports import Host

EVENTS: Final[dict[str, type[Event]]] = {kind.__name__: kind for kind in get_args(Event)}
"""The kinds of events by their names."""

_LONGEST_POLL: Final = 1_000_000.0
"""Seconds. poll() takes milliseconds as a C int, and waits again after that."""

_EVENTS = """\
It begins with an Added for each domain that runs. With --json each event is one
line with one JSON object. It ends by Ctrl-C, after --seconds if that is given,
and at once when nobody reads its output any more, as in "domindex watch | head".
"""


def add(commands: Commands) -> None:
    """Add the command."""
    names = ", ".join(EVENTS)
    parser = commands.add("watch", watch, "print what happens to domains", _EVENTS)
    add_filters(parser)
    parser.add_argument(
        "--event",
        metavar="EVENT",
        nargs="+",
        action="extend",
        type=_event,
        choices=list(EVENTS),
        help=f"only these events, of: {names}; a Resync always comes",
    )
    parser.add_argument(
        "--no-replay", action="store_true", help="without the domains that run already"
    )
    add_reboot_grace(parser)
    parser.add_argument(
        "--timestamps",
        action="store_true",
        help="print the time before each event; in JSON it is always there, as seconds",
    )
    parser.add_argument(
        "--seconds",
        metavar="SECONDS",
        type=seconds,
        help="stop after this time; 0 prints what runs now",
    )


def watch(host: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Print the domains that run, then each event."""
    kinds = None if args.event is None else tuple(EVENTS[name] for name in args.event)
    grace = reboot_grace(args)
    with connect(host, timeout=PATIENCE) as index, stirred(host, args):
        arrived: deque[Event] = deque()
        index.subscribe(
            arrived.append,
            events=kinds,
            where=wanted(args),
            replay=not args.no_replay,
            reboot_grace=grace,
            threaded=False,
        )
        for _ in turns(index, out, math.inf if args.seconds is None else args.seconds):
            while arrived:
                print(_line(arrived.popleft(), args), file=out, flush=True)
    return 0


class Dispatches(Protocol):
    """An index, or a reader of a fleet, whose events are handled by who waits for them."""

    def fileno(self) -> int: ...
    def dispatch(self) -> int: ...


def turns(index: Dispatches, out: TextIO, seconds: float) -> Iterator[None]:
    """Let events be handled as they come, until the time is up or nobody reads `out` any more.

    A write to a pipe whose reader is gone fails, but there may be no event to write for hours. So
    the output is waited for together with the index: poll() always reports an error on it.
    """
    poll = select.poll()
    poll.register(index.fileno(), select.POLLIN)
    with contextlib.suppress(OSError):  # an output without a descriptor has no reader to lose
        poll.register(out.fileno(), 0)
    deadline = time.monotonic() + seconds
    left = seconds
    while left >= 0:  # at least once: what runs now is there already
        ready = poll.poll(math.ceil(min(left, _LONGEST_POLL) * 1000))
        if any(fd != index.fileno() for fd, _ in ready):
            return
        index.dispatch()
        yield
        left = deadline - time.monotonic()


def _line(event: Event, args: argparse.Namespace) -> str:
    if args.json:
        return json.dumps(event_json(event))
    return f"{stamp(event.time)} {event_line(event)}" if args.timestamps else event_line(event)


def _event(text: str) -> str:
    """The name of an event, in the spelling that it has here."""
    for name in EVENTS:
        if name.lower() == text.lower():
            return name
    raise argparse.ArgumentTypeError(f"no event is called {text!r}; there are {', '.join(EVENTS)}")
