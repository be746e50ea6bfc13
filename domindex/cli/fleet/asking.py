"""`fleet list`, `fleet get` and `fleet hosts`: what a fleet holds now.

Read after opening.py and forms.py; next following.py.
"""

from __future__ import annotations

import argparse
from typing import TextIO

from domindex.cli.arguments import Failure, wanted
from domindex.cli.as_json import print_json
from domindex.cli.fleet.forms import (
    found_json,
    host_json,
    print_found,
    print_hosts,
)
from domindex.cli.fleet.opening import reader_of
from domindex.errors import NoSuchDomain, NotLive
from domindex.fleet import Fleet, Found, HostsSilent, HostState, SeveralFound
from domindex.keys import as_typed
from domindex.ports import Host

_TELLING = (HostState.LIVE, HostState.OFFLINE)
"""States of hosts that leave no doubt about what such a host has."""


def list_domains(_: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Print the domains that the filters let through, by host and domid."""
    holds = wanted(args)
    with reader_of(args) as fleet:
        found = fleet.find(
            host=args.host,
            states=args.state,
            where=None if holds is None else lambda one: holds(one.domain),
        )
        found = tuple(sorted(found, key=lambda one: (one.host, one.domain.domid)))
        if args.json:
            print_json([found_json(one) for one in found], out)
        else:
            print_found(found, out, header=not args.no_header)
    return 0


def get(_: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Print one domain. Raises Failure if --live is given and its host is not."""
    with reader_of(args) as fleet:
        found = _resolve(fleet, args.key, args.host, settled=args.settled)
        if args.live and found.state is not HostState.LIVE:
            host = fleet.hosts[found.host]
            why = f": {host.reason}" if host.reason else ""
            raise Failure(3, f"cannot tell: host {host.host} is {host.state}{why}")
        if args.json:
            print_json(found_json(found), out)
        else:
            print_found([found], out)
    return 0


def hosts(_: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Print the hosts, by name."""
    with reader_of(args) as fleet:
        views = fleet.snapshot().hosts
        chosen = [fleet.hosts[args.host]] if args.host else list(views.values())
        chosen = [view for view in chosen if args.state is None or view.state in args.state]
        if args.json:
            print_json([host_json(view) for view in chosen], out)
        else:
            print_hosts(chosen, out, header=not args.no_header)
    return 0


def _resolve(fleet: Fleet, key: str, host: str | None, *, settled: bool) -> Found:
    """The one domain that a person means: by name, by uuid, or by domid on one host.

    A name that is found answers, also where the text could be a uuid of which some hosts cannot
    tell now: a person who means that one writes `uuid:`.

    Args:
        fleet: Where to look.
        key: What the person typed.
        host: Only there.
        settled: As for `Fleet.by_name`.

    Raises:
        Failure: It is a domid, and no host was said.
        SeveralFound: It may be any of several.
        NoSuchDomain: There is none.
        NotLive: It was not found, and some hosts cannot tell.
    """
    name, uuid, domid = as_typed(key)
    if name is None and uuid is None and host is None:
        raise Failure(2, "each host has such a domid: say which with --host")
    among = None if host is None else (host,)
    answers: list[Found] = []
    doubt: NotLive | None = None
    try:
        answers += () if name is None else fleet.all_by_name(name, among=among)
    except NotLive as error:
        doubt = error
    try:
        answers += () if uuid is None else fleet.all_by_uuid(uuid, among=among)
    except NotLive as error:
        doubt = error
    if domid is not None and host is not None:
        state = fleet.hosts[host].state
        there = fleet.find(host=host, where=lambda one: one.domain.domid == domid)
        answers += there
        if not there and state not in _TELLING:
            doubt = HostsSilent("domid", domid, {host: state})
    found = {(one.host, one.domain.domid): one for one in answers}
    chosen = tuple(found[place] for place in sorted(found))
    if settled and len(chosen) > 1:
        chosen = tuple(one for one in chosen if one.domain.ready) or chosen
    if len(chosen) > 1:
        raise SeveralFound("key", key, chosen)
    if chosen:
        return chosen[0]
    if doubt is not None:
        raise doubt
    raise NoSuchDomain("name or uuid" if domid is None else "name, uuid or domid", key)
