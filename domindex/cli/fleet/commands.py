"""The parsers of the fleet's commands. What each does is in another file, imported when it runs.

Read after cli/fleet/__init__.py; next opening.py.
"""

from __future__ import annotations

import argparse
import importlib
from typing import Any, Final, TextIO

from domindex.cli.arguments import (
    Adds,
    Commands,
    Parser,
    Run,
    add_filters,
    add_key,
    add_reboot_grace,
    seconds,
)
from domindex.cli.arguments import typed_text as text
from domindex.ports import Host

URL_VARIABLE: Final = "DOMINDEX_FLEET"
"""The environment variable with the URL, for all commands; with _CA, _CERT and _KEY the files."""

STATES: Final = ("live", "syncing", "blind", "lost", "offline")
EVENTS: Final = (
    *("Added", "Ready", "Renamed", "ShutDown", "Changed", "Removed", "Rebooted", "Moved"),
    *("DuplicateName", "DuplicateUuid", "HostLive", "HostLost", "HostBlind", "HostOffline"),
    *("HostForgotten", "HostRenamed", "HostsCloned", "Lost", "Recovered", "Synced", "Resync"),
)
"""The words that --state and --event take. A test compares them with those of domindex.fleet."""

PATIENCE: Final = 10.0
"""Seconds in which the store must have answered, unless --timeout says otherwise."""

_VARIABLES = f"""\
The environment variable {URL_VARIABLE} stands for the URL of the store, as in
etcd://a:2379,b:2379,c:2379. {URL_VARIABLE}_CA, {URL_VARIABLE}_CERT and
{URL_VARIABLE}_KEY stand for --ca, --cert and --key."""

_FLEET = f"""\
It runs on any machine, Xen or not.

{_VARIABLES}

With --simulated there is a fleet of three hosts, one of which is lost."""

_PUBLISH = f"""\
It follows this host and writes each change to the store, until SIGTERM or
Ctrl-C. Then it gives the host up at once: readers see it as lost, with the
reason, and keep its domains. While the store does not answer it goes on trying,
and says so on stderr; with --json each line there is an object. One process
publishes a machine.

{_VARIABLES}

The status is 1 if another machine publishes under the name, or another process
of this machine does."""

_GET = """\
KEY is a name or a uuid. With --host it may be a domid. Digits may be a name.

The status is 3 if no host that can tell has it, and some cannot tell now, as
they are lost or blind: they are named. Where the domain is found, the state of
its host says how much that is worth."""

_LIST = """\
It never fails for a host that is silent: it prints what that host said last,
with the state of the host. A host that was declared offline is left out, unless
--state asks for it."""

_HOSTS = """\
live: what it said holds now. syncing: it has begun to write and is not done.
blind: it publishes, but does not follow Xen. lost: nobody publishes it; its
domains may run on. offline: an operator said so; it counts as empty."""

_WATCH = """\
It begins with the domains and the state of each host. With --json each event is
one line with one JSON object. It ends by Ctrl-C, after --seconds if that is
given, and at once when nobody reads its output any more."""

_CHECK = """\
It changes nothing. With --host it also tells whether this certificate may write
that host's keys. The status is 1 if a part does not work; a warning alone
leaves it 0."""

_FORGET = """\
It deletes the host with all its domains: for one that never comes back. If it
is published again it is there again. The status is 1 if somebody publishes it,
or if there is no such host."""

_OFFLINE = """\
Then it counts as holding no domain, so that other look-ups can say "there is
none" again. It ends by itself when the host is published again. The status is 1
if somebody publishes it, or if there is no such host."""

_GRANT = """\
It prints commands for etcdctl and runs none, and needs no store. They make a
role that may write this host's keys and no others, and a user that has it: the
one whose name is the common name of the host's certificate. With --reader the
role may read the whole fleet and write nothing."""


def add(commands: Commands) -> None:
    """Add `publish`, and `fleet` with its own commands."""
    _add_publish(commands)
    fleet = commands.group("fleet", "ask a fleet of hosts", _FLEET)
    _add_store(fleet)
    fleet.set_defaults(**_NOTHING)
    within = Commands(fleet, brief=commands.brief)

    parser = _command(
        within, "list", "asking.list_domains", "print the domains of all hosts", _LIST
    )
    add_filters(parser)
    _add_hosts(parser)
    _add_table(parser)

    parser = _command(within, "get", "asking.get", "print one domain, and where it is", _GET)
    add_key(parser)
    parser.add_argument("--host", metavar="HOST", help="only of this host")
    parser.add_argument(
        "--settled",
        action="store_true",
        help="of several the one that runs under its final name, as after a live migration",
    )
    parser.add_argument("--live", action="store_true", help="only if its host is live; else 3")

    parser = _command(within, "hosts", "asking.hosts", "print each host and its state", _HOSTS)
    _add_hosts(parser)
    _add_table(parser)

    parser = _command(within, "watch", "following.watch", "print what happens on all hosts", _WATCH)
    add_filters(parser)
    parser.add_argument(
        "--host", metavar="HOST", action="append", help="only of this host; may be given twice"
    )
    parser.add_argument(
        "--event",
        metavar="EVENT",
        nargs="+",
        action="extend",
        type=_event,
        choices=list(EVENTS),
        help=f"only these events, of: {', '.join(EVENTS)}; a Resync always comes",
    )
    parser.add_argument("--no-replay", action="store_true", help="without what is there already")
    add_reboot_grace(parser)
    parser.add_argument(
        "--timestamps",
        action="store_true",
        help="print the time before each event; in JSON it is always there, as seconds",
    )
    parser.add_argument(
        "--seconds", metavar="SECONDS", type=seconds, help="stop after this time; 0 prints what is"
    )

    parser = _command(within, "check", "checking.check", "test the store and its rights", _CHECK)
    parser.add_argument("--host", metavar="HOST", help="try the rights of this host")

    parser = _command(within, "forget", "ruling.forget", "delete a host that is gone", _FORGET)
    parser.add_argument("host", metavar="HOST")

    parser = _command(within, "offline", "ruling.offline", "say that a host is off", _OFFLINE)
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("--reason", metavar="TEXT", type=text, default="", help="for people")

    parser = _command(
        within, "grant", "ruling.grant", "print the commands that give a host its rights", _GRANT
    )
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("host", metavar="HOST", nargs="?")
    who.add_argument("--reader", metavar="USER", help="the commands for a reader instead")
    parser.add_argument(
        "--user", metavar="USER", help="the common name of its certificate (default: HOST)"
    )


_NOTHING: Final[dict[str, Any]] = dict.fromkeys(("url", "ca", "cert", "key_file", "timeout"))


def _add_publish(commands: Commands) -> None:
    parser = commands.add(
        "publish", _later("publishing.publish"), "publish this host in a fleet", _PUBLISH
    )
    parser.add_argument(
        "url", metavar="URL", nargs="?", help=f"the store (default: {URL_VARIABLE})"
    )
    parser.add_argument(
        "--host", metavar="NAME", help="the name of this host (default: that of the machine)"
    )
    parser.add_argument(
        "--ttl",
        metavar="SECONDS",
        type=seconds,
        default=15.0,
        help="how long after a crash it is known to be lost (default: 15)",
    )
    _add_tls(parser)
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        help="give up if the store has taken nothing by then (default: never)",
    )


def _command(commands: Commands, name: str, run: str, summary: str, description: str) -> Parser:
    parser = commands.add(name, _later(run), summary, description, on_host=False)
    if not commands.brief:
        _add_store(parser)
    return parser


def _later(where: str) -> Run:
    """The command that is in a file of this folder, imported when it runs.

    Args:
        where: The name of the file and of the function in it, as in `asking.get`.
    """
    module, _, name = where.partition(".")

    def run(host: Host, args: argparse.Namespace, out: TextIO) -> int:
        found: Run = getattr(importlib.import_module(f"domindex.cli.fleet.{module}"), name)
        with importlib.import_module("domindex.cli.fleet.opening").sentences():
            return found(host, args, out)

    return run


def _add_store(parser: Parser) -> None:
    """Where the store is. It may be said before and after the second word, as in `add_shared`."""
    group = parser.add_argument_group("options of every command of the fleet")
    absent: dict[str, Any] = {"default": argparse.SUPPRESS}
    group.add_argument(
        "--url", metavar="URL", help=f"the store (default: {URL_VARIABLE})", **absent
    )
    _add_tls(group, **absent)
    group.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        help=f"how long the store may take to answer (default: {PATIENCE:.0f})",
        **absent,
    )


def _add_tls(parser: Adds, **options: Any) -> None:
    for word, dest, help in (
        ("ca", "ca", "the certificates that the store's must be signed by"),
        ("cert", "cert", "our own certificate; its common name is the user"),
        ("key", "key_file", "the key to it"),
    ):
        parser.add_argument(
            f"--{word}", metavar="FILE", dest=dest, help=f"{help}, in PEM form", **options
        )


def _add_hosts(parser: Parser) -> None:
    parser.add_argument("--host", metavar="HOST", help="only this host")
    parser.add_argument(
        "--state",
        metavar="STATE",
        choices=STATES,
        action="append",
        help=f"only hosts in this state: {', '.join(STATES)}; may be given twice",
    )


def _add_table(parser: Parser) -> None:
    parser.add_argument("--no-header", action="store_true", help="without the names of the columns")


def _event(word: str) -> str:
    """The name of an event, in the spelling that it has here."""
    for name in EVENTS:
        if name.lower() == word.lower():
            return name
    raise argparse.ArgumentTypeError(f"no event is called {word!r}; there are {', '.join(EVENTS)}")
