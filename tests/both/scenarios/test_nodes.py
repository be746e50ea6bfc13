"""Nodes of a domain that are followed beside its name, on both hosts: what a balancer lives on."""

from __future__ import annotations

import asyncio
import queue
from typing import Any
from uuid import uuid4

import pytest

import domindex
import domindex.aio
from domindex import direct
from domindex.domain import Domain
from domindex.events import Added
from tests.stage import PATIENCE, Stage

MEMINFO = "memory/meminfo"
Told = tuple[Domain, bytes | None]


class Hand:
    """A handler that keeps what it is handed."""

    def __init__(self) -> None:
        self.told: queue.Queue[Told] = queue.Queue()

    def __call__(self, domain: Domain, value: bytes | None) -> None:
        self.told.put((domain, value))

    def next(self) -> Told:
        return self.told.get(timeout=PATIENCE)

    def until(self, value: bytes | None) -> Domain:
        """The record that came with this value. What is overtaken may be left out."""
        while True:
            domain, came = self.next()
            if came == value:
                return domain


def test_a_node_is_told_now_and_at_each_change(stage: Stage) -> None:
    """P8: first what is there, which may be nothing; then each change, with the latest record."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web")
        web = heard.named(domid, "web")
        hand = Hand()
        with index.watch(web, MEMINFO, hand) as watch:
            assert hand.next() == (web, None)
            stage.toolstack.write(domid, MEMINFO, b"1")
            assert hand.until(b"1") == web
            stage.toolstack.rename(domid, "www")
            heard.named(domid, "www")
            stage.toolstack.write(domid, MEMINFO, b"2")
            assert hand.until(b"2").name == "www"
            stage.toolstack.write(domid, MEMINFO, None)
            assert hand.until(None).name == "www"
            assert not watch.closed
        stage.toolstack.write(domid, MEMINFO, b"3")
        index.refresh(timeout=PATIENCE)
        assert hand.told.empty()


def test_many_follow_one_node_and_one_many(stage: Stage) -> None:
    """Each handler has its own; closing one leaves the others."""
    with stage.index() as (index, heard):
        domids = [stage.toolstack.create(f"vm-{number}") for number in range(5)]
        records = [heard.named(domid, f"vm-{domids.index(domid)}") for domid in domids]
        for domid in domids:
            stage.toolstack.write(domid, MEMINFO, b"%d" % domid)
        hands = [Hand() for _ in domids]
        watches = [
            index.watch(record, MEMINFO, hand) for record, hand in zip(records, hands, strict=True)
        ]
        second = Hand()
        index.watch(records[0], MEMINFO, second)
        for record, hand in zip(records, hands, strict=True):
            assert hand.until(b"%d" % record.domid) == record
        assert second.until(b"%d" % domids[0]) == records[0]
        watches[0].close()
        stage.toolstack.write(domids[0], MEMINFO, b"more")
        assert second.until(b"more") == records[0]
        assert hands[0].told.empty()


def test_it_ends_with_its_domain(stage: Stage) -> None:
    """P1, P3: another life on the domid has its own nodes, which that handler never hears of."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web")
        web = heard.named(domid, "web")
        hand = Hand()
        watch = index.watch(web, MEMINFO, hand)
        assert hand.next() == (web, None)
        with stage.unseen():
            stage.toolstack.destroy(domid)
            stage.toolstack.create("db", domid=domid, uuid=uuid4())
            stage.toolstack.write(domid, MEMINFO, b"of another")
        new = heard.named(domid, "db")
        assert watch.closed
        with pytest.raises(domindex.NoSuchDomain):
            index.watch(web, MEMINFO, hand)
        other = Hand()
        index.watch(new, MEMINFO, other)
        assert other.until(b"of another") == new
        assert hand.told.empty()


def test_the_handler_of_added_may_watch(stage: Stage) -> None:
    """P8: as a balancer does; the value comes after the domain's Added."""
    with stage.index() as (index, heard):
        hand = Hand()
        added: dict[int, Domain] = {}

        def follow(event: Any) -> None:
            added[event.domain.domid] = event.domain
            index.watch(event.domain, MEMINFO, hand)

        with index.subscribe(follow, events=(Added,), where=lambda domain: domain.domid != 0):
            domid = stage.toolstack.create("web")
            heard.until(Added, domid=domid)
            stage.toolstack.write(domid, MEMINFO, b"512")
            assert hand.until(b"512").life == added[domid].life


def test_nodes_are_read_once(stage: Stage) -> None:
    """P1: what is there, of this life and no other; by an index, in a loop, and without either."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web")
        web = heard.named(domid, "web")
        stage.toolstack.write(domid, MEMINFO, b"1")
        expected = {MEMINFO: b"1", "name": b"web", "data/none": None}

        async def in_a_loop() -> dict[str, bytes | None]:
            async with domindex.aio.connect(stage.host, timeout=PATIENCE) as other:
                return await other.read(other.by_id(domid), *expected, timeout=PATIENCE)

        assert index.read(web, *expected, timeout=PATIENCE) == expected
        assert asyncio.run(in_a_loop()) == expected
        with direct.open(stage.host) as look_ups:
            assert look_ups.read(web, *expected) == expected
            with stage.unseen():
                stage.toolstack.destroy(domid)
                stage.toolstack.create("db", domid=domid, uuid=uuid4())
            for reader in (index, look_ups):
                with pytest.raises(domindex.NoSuchDomain):
                    reader.read(web, MEMINFO)
        new = heard.named(domid, "db")
        assert index.read(new, MEMINFO, timeout=PATIENCE) == {MEMINFO: None}


def test_every_write_is_told(stage: Stage) -> None:
    """P8: the same value again, and a node below; not what the index reads of its own accord."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web")
        web = heard.named(domid, "web")
        hand = Hand()
        with index.watch(web, "data", hand, every=True):
            assert hand.until(None) == web
            for path in ("data", "data", "data/below"):
                index.refresh(timeout=PATIENCE)
                while not hand.told.empty():  # the first event of a watch may be late
                    hand.next()
                stage.toolstack.write(domid, path, b"1")
                assert hand.next() == (web, b"1")


@pytest.mark.parametrize(
    "path", ["", "/memory", "memory/", "a//b", "a b", "ä", "a\0b", "../7/name", 7]
)
def test_a_path_that_is_none(stage: Stage, path: Any) -> None:
    """Said at once, not by xenstored."""
    with stage.index() as (index, _), pytest.raises(domindex.InvalidKey):
        index.watch(index.by_id(0), path, lambda *_: None)
