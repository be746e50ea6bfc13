"""The index, the look-ups without one, and the floors: what must be done at the very least."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

from domindex import direct
from domindex.bench.bare import BareLine, BareList
from domindex.bench.subject import ABSENT, Subject
from domindex.bench.ways import Missing, Peer, Way
from domindex.core.reconcile import name_path
from domindex.errors import NoSuchDomain
from domindex.index import Index
from domindex.opening import XenHost, connect
from domindex.ports import Watch

DICT = "a bare dict.get"
SUBSCRIPT = "a bare dict subscript"
HYPERCALL = "a bare hypercall for one domain"
ROUND_TRIP = "a bare round trip to xenstored"
NAMES = "a bare client: all names, pipelined"
WATCHES = "a bare client: all watches and names, pipelined"

FLOORS = "floors"
BY_NAME, NO_NAME = "by name", "by a name that nobody has"
BY_UUID, BY_ID, OS_TYPE = "by uuid", "by domid", "type of a domain"
ALL = "all of the host"


def index_peer(index: Index) -> Peer:
    """The look-ups of an index that is open."""

    def opened(subject: Subject, _: ExitStack) -> Mapping[str, object]:
        ours = {"index": index, "names": index.names, "connect": connect, "host": subject.host}
        return {**_keys(subject), **ours}

    miss = "try:\n    index.by_name(absent{})\nexcept NoSuchDomain:\n    pass"
    one, call = "one dict look-up", "+ 1 hypercall"
    ways = [
        Way(BY_NAME, "index.by_name", "index.by_name(name)", one, DICT),
        Way(BY_NAME, "index.names[...]", "names[name]", one, SUBSCRIPT),
        Way(
            BY_NAME, "index.by_name, verified", "index.by_name(name, verify=True)", call, HYPERCALL
        ),
        Way(NO_NAME, "index.by_name", miss.format(""), "one dict look-up, a lock", DICT),
        Way(
            *(NO_NAME, "index.by_name, verified", miss.format(", verify=True")),
            *("1 hypercall for the list, 1 round trip", ROUND_TRIP),
        ),
        Way(BY_ID, "index.by_id", "index.by_id(domid)", one, DICT),
        Way(BY_ID, "index.by_id, verified", "index.by_id(domid, verify=True)", call, HYPERCALL),
        Way(BY_UUID, "index.by_uuid", "index.by_uuid(uuid)", one, DICT),
        Way(
            BY_UUID, "index.by_uuid, verified", "index.by_uuid(uuid, verify=True)", call, HYPERCALL
        ),
        Way(OS_TYPE, "index.os_type", "index.os_type(domid)", one, DICT),
        Way(
            OS_TYPE, "index.os_type, verified", "index.os_type(domid, verify=True)", call, HYPERCALL
        ),
        Way(
            *(ALL, "domindex.connect(): first sync", "connect(host, timeout=600).close()"),
            *("2 hypercalls, n watches, n reads", WATCHES),
        ),
        Way(
            *(ALL, "index.refresh()", "index.refresh(timeout=600)"),
            *("1 hypercall for the list, 1 round trip", ROUND_TRIP),
        ),
    ]
    return Peer(tuple(ways), opened)


def _open_direct(subject: Subject, stack: ExitStack) -> Mapping[str, object]:
    look = stack.enter_context(direct.open(subject.host, timeout=120.0))
    return {**_keys(subject), "look": look}


DIRECT = Peer(
    (
        Way(BY_NAME, "direct.by_name", "look.by_name(name)", "2 hypercalls, n reads", NAMES),
        Way(
            *(NO_NAME, "direct.by_name"),
            "try:\n    look.by_name(absent)\nexcept NoSuchDomain:\n    pass",
            *("1 hypercall, n reads", NAMES),
        ),
        Way(BY_ID, "direct.by_id", "look.by_id(domid)", "2 hypercalls, 1 read", ROUND_TRIP),
        Way(BY_UUID, "direct.by_uuid", "look.by_uuid(uuid)", "2 hypercalls, 1 read", ROUND_TRIP),
        Way(OS_TYPE, "direct.os_type", "look.os_type(domid)", "1 hypercall", HYPERCALL),
    ),
    _open_direct,
)


def _keys(subject: Subject) -> dict[str, object]:
    return {
        "name": subject.name,
        "uuid": subject.target.uuid,
        "domid": subject.target.domid,
        "absent": ABSENT,
        "NoSuchDomain": NoSuchDomain,
    }


def _open_dict(subject: Subject, _: ExitStack) -> Mapping[str, object]:
    plain = {domain.name: domain for domain in subject.domains}
    return {"plain": plain, "get": plain.get, "name": subject.name}


def _open_hypercall(subject: Subject, stack: ExitStack) -> Mapping[str, object]:
    call: Callable[[int], object]
    if isinstance(subject.host, XenHost):
        bare = BareList()
        call, close = bare, bare.close
    else:  # nothing barer is to be had
        hypervisor = subject.host.open_hypervisor()
        call, close = hypervisor.get, hypervisor.close
    stack.callback(close)
    return {"call": call, "domid": subject.target.domid}


def _open_line(subject: Subject, stack: ExitStack) -> Mapping[str, object]:
    paths = [name_path(domid) for domid in subject.domids]
    if not isinstance(subject.host, XenHost):
        # Nor here.
        store = subject.host.open_store(5.0)
        stack.callback(store.close)

        def watch_and_read() -> None:
            another = subject.host.open_store(5.0)
            another.watch([Watch(path, b"%d" % token) for token, path in enumerate(paths)])
            another.read(paths)
            another.close()

        round_trip, read = store.barrier, store.read
        return {"ask": round_trip, "read": read, "paths": paths, "sync": watch_and_read}
    try:
        line = BareLine()
    except OSError as error:
        raise Missing(f"no socket of xenstored can be opened ({error})") from None
    stack.callback(line.close)

    def sync() -> None:
        another = BareLine()
        try:
            another.watch([b"@introduceDomain", b"@releaseDomain", *paths])
            another.read(paths)
        finally:
            another.close()

    return {"ask": line.round_trip, "read": line.read, "paths": paths, "sync": sync}


BARE = (
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
