"""Guests that Xen has started itself, before there was a dom0: what the index makes of them.

They run in this order on the host `dom0less` of `tests/real/build`: the first guest is enhanced,
and `init-dom0less` introduces it to xenstored, once; of the second xenstored never hears.
"""

from __future__ import annotations

import contextlib
import queue
import subprocess
from uuid import UUID

import pytest

import domindex
from domindex import Changed, NoSuchDomain, Ready, Removed, Renamed, Synced
from domindex.core.reconcile import SPECIAL
from domindex.domain import OSType
from domindex.options import Timing
from tests.stage import PATIENCE

from . import xl
from .following import following, told

ENHANCED, PLAIN = 1, 2
NAME = "dom0less-1"
NODE = "memory/target"
NIL = UUID(int=0)
HOST = domindex.XenHost(transport="socket")

BY_EVENTS = Timing(probe=600.0, audit=600.0)
BY_PROBES = Timing(probe=0.5, audit=600.0)
"""Nothing else is in time here to find what happened."""


def initialise() -> None:
    """Introduce the enhanced guests; on a usual host a service of dom0 does it at the start."""
    subprocess.run(["init-dom0less"], check=True, capture_output=True, timeout=PATIENCE)


def test_they_are_there_at_the_start() -> None:
    """P1: they run, without name, with a uuid that is nobody's, and xenstored knows of none."""
    with contextlib.closing(HOST.open_store(PATIENCE)) as store:
        assert [store.is_introduced(domid) for domid in (0, ENHANCED, PLAIN)] == [
            True,
            False,
            False,
        ]
    with domindex.connect(HOST, timeout=PATIENCE) as index, domindex.direct.open() as look:
        assert [domain.domid for domain in index] == [0, ENHANCED, PLAIN]
        assert [told(domain) for domain in index] == [told(domain) for domain in look.all()]
        for domid in (ENHANCED, PLAIN):
            guest = index.by_id(domid, verify=True)
            assert told(guest) == (domid, NIL, None, OSType.PVH, None)
            assert index.info(domid).state == "blocked"
        with pytest.raises(NoSuchDomain):
            index.by_uuid(NIL)
        with pytest.raises(NoSuchDomain):
            index.by_name(NAME)


def test_the_enhanced_one_is_named_in_the_middle_of_its_life() -> None:
    """P3: its uuid, name and introduction are no birth and no end, and its nodes are followed."""
    with following(HOST, BY_EVENTS) as follower:
        index, heard = follower.index, follower.heard
        heard.until(Synced)
        before, known = index.by_id(ENHANCED), len(heard.events)
        values: queue.Queue[bytes | None] = queue.Queue()
        index.watch(before, NODE, lambda _, value: values.put(value))
        assert values.get(timeout=PATIENCE) is None
        initialise()
        heard.until(Renamed, domid=ENHANCED, name=NAME)
        assert values.get(timeout=PATIENCE) == b"32768"
        index.refresh(timeout=PATIENCE)
        now = index.by_name(NAME, verify=True)
        assert now == index.by_uuid(now.uuid) == index.by_id(ENHANCED)
        assert now.life == before.life
        follower.reckon(lost=0)
        assert {type(event) for event in heard.events[known:]} == {Changed, Renamed, Ready}
        subprocess.run(
            ["xenstore-write", f"/local/domain/{ENHANCED}/{NODE}", "4096"],
            check=True,
            timeout=PATIENCE,
        )
        assert values.get(timeout=PATIENCE) == b"4096"


def test_the_end_of_the_other_one_is_met_without_an_event() -> None:
    """P2: xenstored tells nobody that it ended; the next probe finds out."""
    with (
        contextlib.closing(HOST.open_store(PATIENCE)) as store,
        following(HOST, BY_PROBES) as follower,
    ):
        store.watch(SPECIAL)
        store.barrier()
        assert set(store.events()) == set(SPECIAL)  # each fires once when it is set
        plain = follower.index.by_id(PLAIN)
        xl.destroy(PLAIN)
        assert follower.heard.until(Removed, domid=PLAIN).domain == plain
        store.barrier()
        assert list(store.events()) == []
        follower.reckon(lost=0)


def test_the_end_of_the_enhanced_one_is_an_event() -> None:
    """P2: since it was introduced it is a domain like any other."""
    with following(HOST, BY_EVENTS) as follower:
        xl.destroy(ENHANCED)
        assert follower.heard.until(Removed, domid=ENHANCED).domain.name == NAME
        follower.reckon(lost=0)
