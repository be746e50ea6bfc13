"""The command line: calls the library, prints, and turns errors into exit statuses."""

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
    Rebooted,
    Recovered,
    Removed,
    Renamed,
    Resync,
    ShutDown,
)
from domindex.listening.delivery import EventStream
from domindex.opening import XenHost, connect
from domindex.ports import Host

Parser: TypeAlias = argparse.ArgumentParser

_PATIENCE = 5.0
"""Seconds within which xenstored has to be there, and the index to be whole."""

EXIT = """\
exit status:
  0  done
  1  no such domain, or several; check: something does not work
  2  wrong use
  3  the host could not be asked
  130  interrupted
"""


def main(argv: Sequence[str] | None = None, host: Host | None = None) -> int:
    """Run one command. See EXIT for what it returns. `host`: for tests."""
    parser = _parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed why
        return int(stop.code or 0)
    if host is None:
        host = _simulated() if args.simulated else XenHost(transport=args.transport)
    out = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  # started without one
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="backslashreplace")  # a locale that lacks the letter
    try:
        status: int = args.run(host, args, out)
        out.flush()
    except (NoSuchDomain, Ambiguous) as error:
        return _fail(error, 1)
    except InvalidKey as error:
        return _fail(error, 2)
    except DomindexError as error:
        return _fail(error, 3)
    except BrokenPipeError:  # `domindex watch | head`: nobody reads on
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # the disk is full
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
    """Print one domain, found by name, --id or --uuid."""
    with direct.open(host) as look:
        if args.id is not None:
            domain = look.by_id(args.id)
        elif args.uuid is not None:
            domain = look.by_uuid(args.uuid)
        else:
            # The bytes the user typed, whatever the locale.
            domain = look.by_name(os.fsencode(args.name))
    if args.json:
        print(json.dumps(as_json(domain), indent=2), file=out)
    else:
        print_table([domain], out)
    return 0


def watch(host: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Print the domains there are, then each event, until interrupted or for --seconds."""
    limit = _PATIENCE if args.seconds is None else min(_PATIENCE, args.seconds)
    with connect(host, timeout=limit) as index, index.events() as events:
        for event in _until(events, args.seconds):
            line = json.dumps(event_json(event)) if args.json else event_line(event)
            print(line, file=out, flush=True)
    return 0


def check(host: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Print what works on this host and, where something does not, why and what to do."""
    findings: list[tuple[str, bool, str]] = []

    def attempt(what: str, run: Callable[[], str]) -> None:
        try:
            findings.append((what, True, run()))
        except DomindexError as error:
            findings.append((what, False, str(error)))

    def hypervisor() -> str:
        opened = host.open_hypervisor()
        try:
            told = "names every life" if opened.has_unique_ids else "lives told by uuid and time"
            return f"{opened.version}, {len(opened.list())} domains, {told}"
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
            told = "; events name domains" if opened.capabilities.watch_depth else ""
            told += "; one watch for all names" if opened.capabilities.one_watch else ""
            for domid, error in sorted(opened.unreadable.items()):
                findings.append(("name", False, f"of domain {domid}: {error}"))
            if opened.stats.deaf:
                text = "no event tells this caller of births and ends; each probe finds them"
                findings.append(("events", False, text))
            return f"live with {len(opened)} domains{told}"

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


def bench(host: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Measure what the index costs on this host, beside all other ways to the same answers."""
    from domindex.bench.command import run  # what nobody else needs

    return run(host, args, out)


def print_table(domains: Iterable[Domain], out: TextIO) -> None:
    """A line for each domain; names last, as they may be long, and escaped."""
    print(f"{'DOMID':>5} {'TYPE':<7} {'STATE':<10} {'UUID':<36} NAME", file=out)
    for domain in domains:
        state = "up" if domain.shutdown is None else domain.shutdown.name.lower()
        print(
            f"{domain.domid:>5} {domain.type:<7} {state:<10} {domain.uuid} {domain.printable}",
            file=out,
        )


def as_json(domain: Domain) -> dict[str, Any]:
    """A domain for `--json`. Bytes of the name that are not UTF-8 come as lone surrogates."""
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
    told: dict[str, Any] = {
        "event": type(event).__name__,
        "generation": event.generation,
        "time": event.time,
    }
    match event:
        case Renamed() | Changed() | Rebooted():
            told |= {"old": as_json(event.old), "new": as_json(event.new)}
        case Lost():
            told["cause"] = str(event.cause)
        case Recovered():
            told["downtime"] = event.downtime
        case DuplicateName(name, domains):
            told |= {"name": name, "domains": [as_json(domain) for domain in domains]}
        case DuplicateUuid(uuid, domains):
            told |= {"uuid": str(uuid), "domains": [as_json(domain) for domain in domains]}
        case Resync(domains):
            told["domains"] = [as_json(domain) for domain in domains]
        case Added(domain) | Removed(domain) | ShutDown(domain):
            told["domain"] = as_json(domain)
    return told


def event_line(event: Event) -> str:
    """An event as one line, fit for a terminal."""
    word = type(event).__name__
    match event:
        case Renamed(old, new):
            return f"{word:<9} {new.domid:>5} {old.printable} -> {new.printable}"
        case Rebooted(old, new):
            return f"{word:<9} {new.domid:>5} {new.printable} (was domain {old.domid})"
        case Changed():
            told = ", ".join(f"{field}: {getattr(event.new, field)}" for field in event.fields)
            return f"{word:<9} {event.new.domid:>5} {event.new.printable} ({told})"
        case Lost():
            return f"{word:<9}     - {fit_for_terminal(str(event.cause))}"
        case Recovered():
            return f"{word:<9}     - after {event.downtime:.1f} s"
        case DuplicateName(_, domains) | DuplicateUuid(_, domains) | Resync(domains):
            what = f" {domains[0].printable}" if isinstance(event, DuplicateName) else ""
            held = ", ".join(str(domain.domid) for domain in domains)
            return f"{word:<9}     -{what} (domains {held})"
        case Added(domain) | Removed(domain) | ShutDown(domain):
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


def _pause(text: str) -> float:
    try:
        seconds = _seconds(text)
    except ValueError:
        seconds = math.inf
    if seconds > threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds that come to an end")
    return seconds


def _fail(error: Exception, status: int) -> int:
    print(f"domindex: {fit_for_terminal(str(error))}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--transport", choices=("socket", "xenbus"), help="the way to xenstore (default: found out)"
    )
    shared.add_argument(
        "--simulated", action="store_true", help="a simulated host with four guests, for trying out"
    )
    parser = argparse.ArgumentParser(
        prog="domindex",
        description="Which Xen domain is called what.",
        epilog=EXIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[..., int], *, report: bool = False) -> Parser:
        text = (run.__doc__ or "").strip()
        added = commands.add_parser(name, parents=[shared], help=text, description=text)
        if not report:
            added.add_argument("--json", action="store_true", help="print JSON instead of text")
        added.set_defaults(run=run)
        return added

    command("list", list_domains)
    one = command("get", get).add_mutually_exclusive_group(required=True)
    one.add_argument("name", nargs="?", metavar="NAME", help="digits are a name like any other")
    one.add_argument("--id", type=int, metavar="DOMID")
    one.add_argument("--uuid", metavar="UUID", help="in any spelling")
    watching = command("watch", watch)
    watching.add_argument("--seconds", type=_seconds, help="end after this long (default: never)")
    command("check", check)
    _bench_arguments(command("bench", bench, report=True))
    return parser


def _bench_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("--rounds", type=_at_least(3), default=15, help="samples of each way (default: 15)")
    add("--budget", type=_seconds, default=2.0, help="seconds for each way (default: 2)")
    add("--pause", type=_pause, default=0.01, help="seconds before a sample (default: 0.01)")
    add("--idle", type=_pause, default=10.0, help="seconds to watch it idle (default: 10)")
    add("--write", action="store_true", help="allow one node of its own to be written to xenstore")
    add("--label", default="", help="what to say of this host")
    add("--relative", action="store_true", help="tell no times, as of an emulated machine")
    add("--domains", type=_at_least(1), default=100, help="of a simulated host (default: 100)")
    add("--json", metavar="FILE", help="write it all there")
    add("--svg", metavar="FILE", help="draw it there; needs domindex[plot]")
    add("--plot", metavar="FILE", nargs="+", help="measure nothing; show what --json wrote earlier")


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < least:
            raise ValueError
        return int(text)

    number.__name__ = f"number from {least}"  # argparse says it of what is none
    return number
