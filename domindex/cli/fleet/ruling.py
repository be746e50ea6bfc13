"""`fleet forget`, `fleet offline` and `fleet grant`: an operator's words, and who may say what.

Read after following.py; next checking.py.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from typing import TextIO

from domindex.cli.arguments import Failure
from domindex.cli.as_json import print_json
from domindex.cli.fleet.opening import reader_of
from domindex.fleet.layout import ROOT, alive_key, check_host, dom_prefix, host_key
from domindex.ports import Host


def forget(_: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Delete a host that nobody publishes."""
    host = check_host(args.host)
    with reader_of(args) as fleet:
        fleet.forget(host)
    if args.json:
        print_json({"host": host, "forgotten": True}, out)
    return 0


def offline(_: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Declare a host to be off."""
    host = check_host(args.host)
    with reader_of(args) as fleet:
        fleet.declare_offline(host, args.reason)
    if args.json:
        print_json({"host": host, "state": "offline", "reason": args.reason}, out)
    return 0


def grant(_: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Print what an administrator of etcd runs, a line a command."""
    if args.reader is not None:
        lines = list(_role("domindex-reader", _as_user(args.reader), [("read", ROOT, True)]))
    else:
        host = check_host(args.host)
        rights = [
            ("readwrite", alive_key(host), False),
            ("readwrite", host_key(host), False),
            # With its last slash: without it xen1 could write the domains of xen10.
            ("readwrite", dom_prefix(host), True),
        ]
        lines = list(_role(f"domindex-host-{host}", _as_user(args.user or host), rights))
    if args.json:
        print_json(lines, out)
    else:
        print(*lines, sep="\n", file=out)
    return 0


def _as_user(name: str) -> str:
    """The name, quoted for a shell. Raises Failure for one that could not be read on a line."""
    if not name or not name.isprintable():
        raise Failure(2, f"{name!r} is no common name for a certificate")
    return shlex.quote(name)


def _role(role: str, user: str, rights: list[tuple[str, str, bool]]) -> Iterator[str]:
    yield f"etcdctl role add {role}"
    for right, key, is_prefix in rights:
        prefix = " --prefix" if is_prefix else ""
        yield f"etcdctl role grant-permission {role} {right} {key}{prefix}"
    # No password: who has no certificate with this common name cannot be this user.
    yield f"etcdctl user add {user} --no-password"
    yield f"etcdctl user grant-role {user} {role}"
