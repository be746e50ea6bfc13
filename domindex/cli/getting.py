"""`get`, `domid`, `uuid` and `name`: one domain, looked up without an index.

Read after arguments.py, as_text.py and as_json.py; next listing.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TextIO

from domindex import direct
from domindex.cli.arguments import Commands, Failure, add_key, key
from domindex.cli.as_json import as_json, print_json
from domindex.cli.as_text import print_name, print_table
from domindex.domain import Domain
from domindex.ports import Host

_FOR_SCRIPTS = """\
It prints that alone, for $(...) in a script. Nothing is printed and the status
is 1 if no domain has KEY, or if several have it."""

_NAMES = """\
A name is printed as it is, if it can be on a line of its own. One that has a
line break, a control character or bytes that are not UTF-8 is refused, with
status 1: use -0 or --json for such names. On a terminal every name is escaped."""


def add(commands: Commands) -> None:
    """Add the four commands."""
    parser = commands.add("get", get, "print one domain")
    one = parser.add_mutually_exclusive_group(required=True)
    add_key(one, nargs="?")
    one.add_argument(
        "--id", metavar="DOMID", dest="by", type=_form("id"), help="the same as id:..."
    )
    one.add_argument(
        "--uuid", metavar="UUID", dest="by", type=_form("uuid"), help="the same as uuid:..."
    )
    add_key(commands.add("domid", domid, "print the domid of a domain", _FOR_SCRIPTS))
    add_key(commands.add("uuid", uuid, "print the uuid of a domain", _FOR_SCRIPTS))
    parser = commands.add("name", name, "print the name of a domain", f"{_FOR_SCRIPTS}\n\n{_NAMES}")
    add_key(parser)
    parser.add_argument(
        "-0",
        "--null",
        action="store_true",
        help="print the bytes of the name, and a NUL after it",
    )


def get(host: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Print the record of a domain."""
    domain = _find(host, args.by or args.key)
    if args.json:
        print_json(as_json(domain), out)
    else:
        print_table([domain], out)
    return 0


def domid(host: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Print a domid, which as JSON is the same."""
    print(_find(host, args.key).domid, file=out)
    return 0


def uuid(host: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Print a uuid, as JSON in quotes."""
    text = str(_find(host, args.key).uuid)
    if args.json:
        print_json(text, out)
    else:
        print(text, file=out)
    return 0


def name(host: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Print a name. One that could fool a script or a terminal is only printed on request."""
    if args.null and args.json:
        raise Failure(2, "-0 and --json contradict each other")
    domain = _find(host, args.key)
    called = domain.name
    if called is None:
        raise Failure(1, f"domain {domain.domid} has no name")
    if args.json:
        print_json(called, out)
    elif args.null and "\0" not in called:
        print_name(called, out, end="\0")
    elif not args.null and (called.isprintable() or out.isatty()):
        print_name(called, out, end="\n")
    else:
        way = "--json" if "\0" in called else "-0, which prints its bytes and a NUL, or --json"
        raise Failure(
            1,
            f"the name of domain {domain.domid} cannot be printed as it is: {domain.printable}; "
            f"use {way}",
        )
    return 0


def _find(host: Host, key: str) -> Domain:
    with direct.open(host) as look:
        return look.resolve(key)


def _form(kind: str) -> Callable[[str], str]:
    """The type of an option that stands for `kind:...`."""
    return lambda text: key(f"{kind}:{text}")
