"""1,200 domains with domids of five digits: a listing of them no longer fits a packet.

/local/domain then holds 7,200 bytes of names, and a packet of xenstore 4,096. What lists it has
to do so in portions, or fails; the index never does.
"""

from __future__ import annotations

import time

from domindex import Added, Removed, Renamed
from domindex import ShutdownReason as Why
from domindex.ports import Row
from tests.stage import PATIENCE, Stage, tale, true_to_its_events

MANY = 1200
FIRST = 20000
ENDED = 10
"""How many end: on a real host xenstored looks at all its domains and nodes at each death."""


def test_more_than_a_listing_holds(stage: Stage) -> None:
    """P2, P3, P6, P11: the index agrees with the host, a refresh asks for no more than it must,
    and each event still comes."""
    passed = Clock()
    made = [
        # Announced when all are made: with each that is announced, xenstored is slower.
        stage.toolstack.create(f"vm-{domid}", domid=domid, introduce=False)
        for domid in range(FIRST, FIRST + MANY)
    ]
    for domid in made:
        stage.toolstack.introduce(domid)
    passed(f"{MANY} domains made")
    with stage.index() as (index, heard):
        passed("first sync")
        assert listed(stage) == [0, *made] == [domain.domid for domain in index]
        assert all(index.by_name(f"vm-{domid}").domid == domid for domid in made)
        generation, before = index.generation, index.stats
        assert index.refresh(timeout=PATIENCE) == generation
        after = index.stats
        assert (after.lists, after.reads) == (before.lists + 1, before.reads)
        passed("refresh without change")

        first, middle, last = made[0], made[MANY // 2], made[-1]
        stage.toolstack.rename(first, "first")
        heard.until(Renamed, domid=first, name="first")
        stage.toolstack.crash(middle)
        stage.toolstack.destroy(last)
        heard.until(Removed, domid=last)
        stage.toolstack.create("last", domid=last)
        assert heard.named(last, "last") == index.by_name("last")
        heard.told(index)
        assert index.by_id(middle, verify=True).shutdown is Why.CRASH
        true_to_its_events(index, heard)
        passed("renamed, crashed, destroyed, created again")

        with stage.unseen():
            for domid in made[:ENDED]:
                stage.toolstack.destroy(domid)
        ended = {"-first", *(f"-vm-{domid}" for domid in made[1:ENDED])}
        assert {text for text in tale(heard.told(index)) if text[0] == "-"} == ended
        assert listed(stage) == [0, *made[ENDED:]] == [domain.domid for domain in index]
        assert sum(isinstance(event, Added) for event in heard.events) == MANY + 2
        true_to_its_events(index, heard)
        passed(f"{ENDED} ended unseen")


def listed(stage: Stage) -> list[int]:
    """The domids that the hypervisor lists to another than the index."""
    hypervisor = stage.host.open_hypervisor()
    try:
        rows: list[Row] = list(hypervisor.list())
    finally:
        hypervisor.close()
    return [row.domid for row in rows]


class Clock:
    """Prints what took how long."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, what: str) -> None:
        now = time.monotonic()
        print(f"{what}: {now - self._last:.1f} s")
        self._last = now
