"""The index, and the look-ups without one, as ways that are timed.

Read after floors.py; next peers.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final

from domindex import Index, NoSuchDomain, connect, direct
from tests.bench.questions import (
    ALL,
    BY_ID,
    BY_NAME,
    BY_UUID,
    DICT,
    HYPERCALL,
    NAMES,
    NO_NAME,
    OS_TYPE,
    ROUND_TRIP,
    SUBSCRIPT,
    WATCHES,
)
from tests.bench.subject import ABSENT, Subject
from tests.bench.ways import Peer, Way


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


DIRECT: Final = Peer(
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
