"""`list`: every domain, in one of four forms.

Read after getting.py; next watching.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TextIO

from domindex import direct
from domindex.cli.arguments import Commands, Failure, add_filters, wanted
from domindex.cli.as_json import as_json, print_json
from domindex.cli.as_text import print_name, print_table, print_wide
from domindex.domain import Domain
from domindex.ports import Host

_NAMES = """\
Names are escaped: what is not printable is shown as \\n or \\x1b, and a
backslash as \\\\. Only -0 prints them as they are, and not on a terminal. With
-o name a domain without a name is left out."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("list", list_domains, "print every domain", _NAMES)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FORM",
        choices=("table", "wide", "name", "json"),
        help="table (the default); wide, with the state letters, memory, vCPUs and cpu time of "
        "xl list; name, one a line; json, one array of all",
    )
    parser.add_argument("--no-header", action="store_true", help="without the names of the columns")
    parser.add_argument(
        "-0",
        "--null",
        action="store_true",
        help="print the bytes of each name, and a NUL after it, as for xargs -0",
    )
    add_filters(parser)


def list_domains(host: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Print every domain that the filters let through."""
    form = _form(args)
    holds = wanted(args)
    with direct.open(host) as look:
        domains = [domain for domain in look.all() if holds is None or holds(domain)]
        infos = look.infos() if form == "wide" else {}
    if form == "json":
        print_json([as_json(domain) for domain in domains], out)
    elif form == "wide":
        print_wide(domains, infos, out, header=not args.no_header)
    elif form == "table":
        print_table(domains, out, header=not args.no_header)
    elif args.null:
        _print_raw(domains, out)
    else:
        for domain in domains:
            if domain.name is not None:
                print(domain.printable, file=out)
    return 0


def _print_raw(domains: Iterable[Domain], out: TextIO) -> None:
    """Print every name and a NUL after it. Raises Failure if one would look like two."""
    left_out = []
    for domain in domains:
        if domain.name is not None and "\0" in domain.name:
            left_out.append(str(domain.domid))
        elif domain.name is not None:
            print_name(domain.name, out, end="\0")
    if left_out:
        raise Failure(1, f"left out, as a NUL is in the name: {', '.join(left_out)}; use --json")


def _form(args: argparse.Namespace) -> str:
    """What -o, -0 and --json ask for together."""
    forms = {
        *([args.output] if args.output is not None else ()),
        *(["json"] if args.json else ()),
        *(["name"] if args.null else ()),
    }
    if len(forms) > 1:
        raise Failure(2, "-o, --json and -0 contradict each other: -0 is for -o name")
    return forms.pop() if forms else "table"
