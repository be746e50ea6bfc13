"""The floors as ways that are timed: a bare dict, a bare hypercall, a bare client of xenstored.

Read after bare.py; next ours.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Final

from domindex import XenHost
from domindex.ports import Watch
from tests.bench.bare import BareLine, BareList
from tests.bench.questions import DICT, FLOORS, HYPERCALL, NAMES, ROUND_TRIP, SUBSCRIPT, WATCHES
from tests.bench.subject import Subject
from tests.bench.ways import Missing, Peer, Way


def _open_dict(subject: Subject, _: ExitStack) -> Mapping[str, object]:
    plain = {domain.name: domain for domain in subject.domains}
    return {"plain": plain, "get": plain.get, "name": subject.name}


def _open_hypercall(subject: Subject, stack: ExitStack) -> Mapping[str, object]:
    call: Callable[[int], object]
    if isinstance(subject.host, XenHost):
        bare = BareList()
        call, close = bare, bare.close
    else:  # a simulated host has nothing below its port
        hypervisor = subject.host.open_hypervisor()
        call, close = hypervisor.get, hypervisor.close
    stack.callback(close)
    return {"call": call, "domid": subject.target.domid}


def _open_line(subject: Subject, stack: ExitStack) -> Mapping[str, object]:
    if not isinstance(subject.host, XenHost):
        return _open_port(subject, stack)
    paths = subject.name_paths
    try:
        line = BareLine()
    except OSError as error:
        raise Missing(f"the socket of xenstored cannot be opened ({error})") from None
    stack.callback(line.close)

    def sync() -> None:
        another = BareLine()
        try:
            another.watch([b"@introduceDomain", b"@releaseDomain", *paths])
            another.read(paths)
        finally:
            another.close()

    return {"ask": line.round_trip, "read": line.read, "paths": paths, "sync": sync}


def _open_port(subject: Subject, stack: ExitStack) -> Mapping[str, object]:
    """The same by the port of a simulated host."""
    paths = subject.name_paths
    store = subject.host.open_store(5.0)
    stack.callback(store.close)

    def sync() -> None:
        another = subject.host.open_store(5.0)
        another.watch([Watch(path, b"%d" % token) for token, path in enumerate(paths)])
        another.read(paths)
        another.close()

    return {"ask": store.barrier, "read": store.read, "paths": paths, "sync": sync}


BARE: Final = (
    Peer(
        (
            Way(FLOORS, DICT, "get(name)", "nothing"),
            Way(FLOORS, SUBSCRIPT, "plain[name]", "nothing"),
        ),
        _open_dict,
    ),
    Peer((Way(FLOORS, HYPERCALL, "call(domid)", "1 hypercall"),), _open_hypercall),
    Peer(
        (
            Way(FLOORS, ROUND_TRIP, "ask()", "1 request"),
            Way(FLOORS, NAMES, "read(paths)", "n reads"),
            Way(FLOORS, WATCHES, "sync()", "a connection, n watches, n reads"),
        ),
        _open_line,
    ),
)
