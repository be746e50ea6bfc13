"""`fleet check`: whether the store is fit for a fleet, and who may write what.

Read after publishing.py.
"""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, TextIO

from domindex.cli.as_json import print_json
from domindex.cli.fleet.opening import patience, store_of
from domindex.domain import fit_for_terminal
from domindex.errors import DomindexError
from domindex.fleet import EngineDenied, Fenced, FleetSnapshot, HostState, connect
from domindex.fleet.layout import check_host
from domindex.fleet.ports import Engine, Health
from domindex.ports import Host

_FULL: Final = 0.8
"""Part of the quota from which it is time to do something."""
_USUAL_QUOTA: Final = 2 << 30
"""Bytes: what etcd takes unless it was told otherwise. It does not say what it was told."""


class _Finding(NamedTuple):
    what: str
    how: Literal["ok", "warn", "NO"]
    detail: str


def check(_: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Test each part. What comes after a store that does not answer is left out."""
    host = None if args.host is None else check_host(args.host)
    with store_of(args) as engine:
        health = engine.health()
        found = list(_of_health(health))
        if _answers(health):
            found += _of_reading(engine, args)
            found += _of_rights(engine, host)
    if args.json:
        print_json([{**one._asdict(), "how": one.how.lower()} for one in found], out)
    else:
        for what, how, detail in found:
            print(f"{what:<8} {how:<4} {fit_for_terminal(detail)}", file=out)
    return 1 if any(one.how == "NO" for one in found) else 0


def _answers(health: Health) -> bool:
    """Whether any member does; one that is full has a version, and the one in memory has none."""
    return bool(health.version) or not all(health.members.values())


def _of_health(health: Health) -> Iterator[_Finding]:
    for endpoint, trouble in health.members.items():
        if "NOSPACE" in trouble:
            yield _Finding("alarm", "NO", f"{endpoint} is full and takes no writes: {trouble}")
        elif trouble:
            yield _Finding("member", "NO", trouble)
        else:
            yield _Finding("member", "ok", f"{endpoint} answers")
    if health.version:
        yield _Finding("engine", "ok", f"{health.engine} {health.version}")
    for warning in health.warnings if _answers(health) else ():
        yield _Finding("engine", "warn", warning)
    if health.engine == "etcd" and health.version:
        yield _of_size(health)
        if health.epoch is None:
            sentence = "there is none that can be read: nobody has published here yet, or root must"
            yield _Finding("epoch", "warn", f"{sentence} make it, see docs/fleet-operations.md")
        else:
            yield _Finding("epoch", "ok", health.epoch)


def _of_size(health: Health) -> _Finding:
    if health.size is None:
        return _Finding("quota", "warn", "the size is told to root alone: check as root")
    quota, known = (health.quota, "") if health.quota else (_USUAL_QUOTA, ", if that is as usual")
    detail = f"{health.size / 1e6:.0f} MB in use of {quota / 1e6:.0f} MB{known}"
    return _Finding("quota", "ok" if health.size < _FULL * quota else "warn", detail)


def _of_reading(engine: Engine, args: argparse.Namespace) -> Iterator[_Finding]:
    """Whether everything can be read and followed, and which hosts say nothing."""
    try:
        with connect(engine, timeout=patience(args)) as fleet:
            snapshot, bad = fleet.snapshot(), fleet.stats.bad_values
    except EngineDenied as error:
        yield _Finding("reader", "warn", f"this certificate may not read the fleet: {error}")
        return
    except DomindexError as error:
        yield _Finding("reader", "NO", str(error))
        return
    domains = sum(map(len, snapshot.domains.values()))
    yield _Finding("reader", "ok", f"live, with {len(snapshot.hosts)} hosts and {domains} domains")
    yield from _of_hosts(snapshot, bad)


def _of_hosts(snapshot: FleetSnapshot, bad: int) -> Iterator[_Finding]:
    for host in snapshot.hosts.values():
        if host.state not in (HostState.LIVE, HostState.OFFLINE):
            why = f": {host.reason}" if host.reason else ""
            yield _Finding("host", "warn", f"{host.host} is {host.state}{why}")
        if host.unreadable:
            domids = ", ".join(map(str, host.unreadable))
            yield _Finding("host", "warn", f"{host.host}: domains {domids} cannot be read")
    if bad:
        yield _Finding("values", "warn", f"{bad} values in the store cannot be read")


def _of_rights(engine: Engine, host: str | None) -> Iterator[_Finding]:
    """Whether this host's keys may be written, and that a stranger's may not."""
    if host is not None:
        refusal = _refusal(engine, host)
        detail = f"this certificate may write the keys of host {host}"
        if refusal:
            detail = f"{refusal}; `domindex fleet grant {host}` prints what gives it that right"
        yield _Finding("rights", "NO" if refusal else "ok", detail)
    # A name that nobody has: who may write it may write any.
    if _refusal(engine, f"check-{secrets.token_hex(16)}"):
        yield _Finding("rights", "ok", "the keys of other hosts cannot be written")
    else:
        detail = (
            "the keys of every host can be written: this is root's certificate, or the store has "
            "no rights, and whoever reaches it may say anything"
        )
        yield _Finding("rights", "warn", detail)


def _refusal(engine: Engine, host: str) -> str:
    """Why the keys of a host cannot be written; "" if they can.

    Rights are looked at before conditions. So the deletion of a host whose record is a secret that
    was made just now, which no host has, is refused for the one or the other, and never done.
    """
    try:
        engine.replace(host, secrets.token_bytes(32), None)
    except Fenced:
        return ""
    except DomindexError as error:
        return str(error)
    raise AssertionError("a host had a record that nobody wrote")
