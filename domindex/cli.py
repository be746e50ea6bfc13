"""The command line: calls the library, prints, and turns errors into exit statuses.

Read after opening.py and direct.py.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TextIO, TypeAlias

from domindex import direct
from domindex.domain import Domain, fit_for_terminal
from domindex.errors import Ambiguous, DomindexError, InvalidKey, NoSuchDomain, TimedOut
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
from domindex.listening.stream import EventStream
from domindex.opening import XenHost, connect
from domindex.ports import Host

Parser: TypeAlias = argparse.ArgumentParser

_PATIENCE = 5.0
"""Seconds in which `watch` and `check` must be able to open the index."""

EXIT = """\
exit status:
  0  done
  1  no such domain, or several; check: something does not work
  2  wrong arguments
  3  the hypervisor or xenstore cannot be used
  130  interrupted (Ctrl-C)
"""


def main(argv: Sequence[str] | None = None, host: Host | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments after the name of the program. None takes those of this process.
        host: The host, for tests. None takes the one that the arguments choose.

    Returns:
        The exit status, as in EXIT.
    """
    parser = _parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed why
        return int(stop.code or 0)
    if host is None:
        host = _simulated() if args.simulated else XenHost(transport=args.transport)
    out = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  # None if it was closed
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="backslashreplace")  # for locales that lack a character of a name
    try:
        status: int = args.run(host, args, out)
        out.flush()
    except (NoSuchDomain, Ambiguous) as error:
        return _fail(error, 1)
    except InvalidKey as error:
        return _fail(error, 2)
    except DomindexError as error:
        return _fail(error, 3)
    except BrokenPipeError:  # as in `domindex watch | head`: the reader has closed the pipe
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # the output cannot be written: a full disk, a closed descriptor
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _fail(error, 3)
    except KeyboardInterrupt:
        return 130
    return status


def list_domains(host: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Print every domain: domid, type, state, uuid, name."""
    with direct.open(host) as look:
        domains = look.all()
    if args.json:
        print(json.dumps([as_json(domain) for domain in domains], indent=2), file=out)
    else:
        print_table(domains, out)
    return 0


def get(host: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Print one domain, given by name, --id or --uuid."""
    with direct.open(host) as look:
        if args.id is not None:
            domain = look.by_id(args.id)
        elif args.uuid is not None:
            domain = look.by_uuid(args.uuid)
        else:
            # As bytes, since the locale may have decoded what the user typed in another way.
            domain = look.by_name(os.fsencode(args.name))
    if args.json:
        print(json.dumps(as_json(domain), indent=2), file=out)
    else:
        print_table([domain], out)
    return 0


def watch(host: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Print the domains that run, then each event, until Ctrl-C or for --seconds."""
    limit = _PATIENCE if args.seconds is None else min(_PATIENCE, args.seconds)
    with connect(host, timeout=limit) as index, index.events() as events:
        for event in _until(events, args.seconds):
            line = json.dumps(event_json(event)) if args.json else event_line(event)
            print(line, file=out, flush=True)
    return 0


def check(host: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Test each part on this host. For a part that does not work, print why and what to do."""
    findings: list[tuple[str, bool, str]] = []

    def attempt(what: str, run: Callable[[], str]) -> None:
        try:
            findings.append((what, True, run()))
        except DomindexError as error:
            findings.append((what, False, str(error)))

    def hypervisor() -> str:
        opened = host.open_hypervisor()
        try:
            ids = "with unique ids" if opened.has_unique_ids else "no unique ids before Xen 4.21"
            return f"{opened.version}, {len(opened.list())} domains, {ids}"
        finally:
            opened.close()

    def xenstore() -> str:
        line = host.open_store(5.0)
        try:
            line.barrier()
            return "answers"
        finally:
            line.close()

    def index() -> str:
        with connect(host, timeout=_PATIENCE) as opened:
            opened.refresh()
            extra = "; events name the domain" if opened.capabilities.watch_depth else ""
            extra += "; one watch for all names" if opened.capabilities.one_watch else ""
            for domid, error in sorted(opened.unreadable.items()):
                findings.append(("name", False, f"domain {domid}: {error}"))
            if opened.stats.deaf:
                text = "xenstored sends none when domains start and end; probes find these"
                findings.append(("events", False, text))
            return f"live with {len(opened)} domains{extra}"

    attempt("hypervisor", hypervisor)
    attempt("xenstore", xenstore)
    if all(works for _, works, _ in findings):
        attempt("index", index)
    if args.json:
        rows = [{"what": what, "works": works, "detail": text} for what, works, text in findings]
        print(json.dumps(rows, indent=2), file=out)
    else:
        for what, works, text in findings:
            print(f"{what:<11} {'ok ' if works else 'NO '} {fit_for_terminal(text)}", file=out)
    return 0 if all(works for _, works, _ in findings) else 1


def print_table(domains: Iterable[Domain], out: TextIO) -> None:
    """Print a line for each domain. Names come last, as they may be long, and are escaped.

    Args:
        domains: The records.
        out: Where to print.
    """
    print(f"{'DOMID':>5} {'TYPE':<7} {'STATE':<10} {'UUID':<36} NAME", file=out)
    for domain in domains:
        state = "up" if domain.shutdown is None else domain.shutdown.name.lower()
        print(
            f"{domain.domid:>5} {domain.type:<7} {state:<10} {domain.uuid} {domain.printable}",
            file=out,
        )


def as_json(domain: Domain) -> dict[str, Any]:
    """A domain for `--json`. Bytes of the name that are not UTF-8 become lone surrogates."""
    return {
        "domid": domain.domid,
        "uuid": str(domain.uuid),
        "name": domain.name,
        "type": str(domain.type),
        "shutdown": None if domain.shutdown is None else domain.shutdown.name.lower(),
        "first_seen": domain.first_seen,
    }


def event_json(event: Event) -> dict[str, Any]:
    """An event for `--json`."""
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
            fields |= {"name": name, "domains": [as_json(domain) for domain in domains]}
        case DuplicateUuid(uuid, domains):
            fields |= {"uuid": str(uuid), "domains": [as_json(domain) for domain in domains]}
        case Resync(domains):
            fields["domains"] = [as_json(domain) for domain in domains]
        case Added(domain) | Ready(domain) | Removed(domain) | ShutDown(domain):
            fields["domain"] = as_json(domain)
    return fields


def event_line(event: Event) -> str:
    """An event as one line, with all names escaped for a terminal."""
    word = type(event).__name__
    match event:
        case Renamed(old, new):
            return f"{word:<9} {new.domid:>5} {old.printable} -> {new.printable}"
        case Rebooted(old, new):
            return f"{word:<9} {new.domid:>5} {new.printable} (was domain {old.domid})"
        case Changed():
            fields = ", ".join(f"{field}: {getattr(event.new, field)}" for field in event.fields)
            return f"{word:<9} {event.new.domid:>5} {event.new.printable} ({fields})"
        case Lost():
            return f"{word:<9}     - {fit_for_terminal(str(event.cause))}"
        case Recovered():
            return f"{word:<9}     - after {event.downtime:.1f} s"
        case DuplicateName(_, domains) | DuplicateUuid(_, domains) | Resync(domains):
            what = f" {domains[0].printable}" if isinstance(event, DuplicateName) else ""
            domids = ", ".join(str(domain.domid) for domain in domains)
            return f"{word:<9}     -{what} (domains {domids})"
        case Added(domain) | Ready(domain) | Removed(domain) | ShutDown(domain):
            why = "" if domain.shutdown is None else f" ({domain.shutdown.name.lower()})"
            return f"{word:<9} {domain.domid:>5} {domain.printable}{why}"
    return word


def _until(events: EventStream, seconds: float | None) -> Iterator[Event]:
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            yield events.get(timeout=min(left, threading.TIMEOUT_MAX))
        except TimedOut:
            return


def _simulated() -> Host:
    from domindex.testing import SimulatedHost

    host = SimulatedHost()
    for name, type_ in (("web", "pvh"), ("db", "pvh"), ("router", "pv"), ("windows", "hvm")):
        host.create(name, type=type_)
    return host


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds >= 0:
        raise ValueError
    return seconds


def _fail(error: Exception, status: int) -> int:
    print(f"domindex: {fit_for_terminal(str(error))}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--transport",
        choices=("socket", "xenbus"),
        help="how to reach xenstored (default: the socket if there is one, else the xenbus)",
    )
    shared.add_argument(
        "--simulated",
        action="store_true",
        help="use a simulated host with four guests, to try the commands",
    )
    parser = argparse.ArgumentParser(
        prog="domindex",
        description="Find Xen domains by name, uuid or domid, and follow what happens to them.",
        epilog=EXIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[..., int]) -> Parser:
        text = (run.__doc__ or "").strip()
        added = commands.add_parser(name, parents=[shared], help=text, description=text)
        added.add_argument("--json", action="store_true", help="print JSON instead of text")
        added.set_defaults(run=run)
        return added

    command("list", list_domains)
    one = command("get", get).add_mutually_exclusive_group(required=True)
    one.add_argument(
        "name", nargs="?", metavar="NAME", help="the whole name, even if it is all digits"
    )
    one.add_argument("--id", type=int, metavar="DOMID", help="a number, such as 7")
    one.add_argument("--uuid", metavar="UUID", help="with or without hyphens, in either case")
    watching = command("watch", watch)
    watching.add_argument(
        "--seconds", type=_seconds, help="stop after so many seconds (default: never)"
    )
    command("check", check)
    return parser
