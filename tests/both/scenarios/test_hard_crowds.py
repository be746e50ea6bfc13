"""Many at once: a boot storm, a mass kill, and both together."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

import domindex
from domindex import Added, Removed
from domindex import ShutdownReason as Why
from tests.stage import PATIENCE, Stage, believed, tale, true_to_its_events

CROWD = 100
BURST = 300


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
def test_boot_storm_and_mass_kill(stage: Stage, seen: bool) -> None:
    """P2, P8: 100 come and 100 go, each told once, with its name, in whatever portions."""
    names = [f"vm-{number}" for number in range(CROWD)]
    with stage.index() as (index, heard):
        if seen:
            made = [stage.toolstack.create(name) for name in names]
        else:
            with stage.unseen():
                made = [stage.toolstack.create(name) for name in names]
        assert sorted(tale(heard.told(index))) == sorted(f"+{name}" for name in names)
        assert [index.by_name(name).domid for name in names] == made
        true_to_its_events(index, heard)
        if seen:
            for domid in made:
                stage.toolstack.destroy(domid)
        else:
            with stage.unseen():
                for domid in made:
                    stage.toolstack.destroy(domid)
        assert sorted(tale(heard.told(index))) == sorted(f"-{name}" for name in names)
        assert [domain.domid for domain in index] == [0]
        assert index.names.copy().keys() == {index.by_id(0).name}
        true_to_its_events(index, heard)


def test_all_crash_and_are_replaced(stage: Stage) -> None:
    """P3, P5: 100 crash; each is ended and started again under its name, with another domid."""
    names = [f"vm-{number}" for number in range(CROWD)]
    with stage.index() as (index, heard):
        made = [stage.toolstack.create(name) for name in names]
        heard.told(index)
        for domid in made:
            stage.toolstack.crash(domid)
        assert sorted(tale(heard.told(index))) == sorted(f"{name}!crash" for name in names)
        assert {index.by_name(name).shutdown for name in names} == {Why.CRASH}
        heirs = []
        for name, domid in zip(names, made, strict=True):
            stage.toolstack.destroy(domid)
            heirs.append(stage.toolstack.create(name))
        told = Counter(tale(heard.told(index)))
        assert told == Counter([*(f"-{name} (crash)" for name in names), *(f"+{n}" for n in names)])
        assert [index.by_name(name).domid for name in names] == heirs
        true_to_its_events(index, heard)


def test_events_alone_tell_of_all(stage: Stage) -> None:
    """P9: nobody asks for anything; each of 100 births and deaths is heard of all the same."""
    with stage.index() as (index, heard):
        made = [stage.toolstack.create(f"vm-{number}") for number in range(CROWD)]
        for number, domid in enumerate(made):
            heard.named(domid, f"vm-{number}")
        for domid in made:
            stage.toolstack.destroy(domid)
        left = set(made)
        while left:
            left.discard(heard.until(Removed).domain.domid)
        assert len(index) == 1
        heard.told(index)
        came = [event.domain.domid for event in heard.events if isinstance(event, Added)]
        assert sorted(came) == [0, *made]
        index.refresh(timeout=PATIENCE)


def test_burst(stage: Stage) -> None:
    """300 domains come and go while four threads look up: each answer was true, none is lost."""
    wrong: list[str] = []
    done = threading.Event()

    def look_up(index: domindex.Index, thread: int) -> None:
        while not done.wait(0.02):
            for number in range(thread, BURST, 16):
                domain = index.names.get(f"vm-{number}")
                if domain is not None and domain.name != f"vm-{number}":
                    wrong.append(f"vm-{number} is {domain}")

    with stage.index() as (index, heard):
        start = list(index)
        threads = [threading.Thread(target=look_up, args=(index, n)) for n in range(4)]
        for thread in threads:
            thread.start()
        try:
            made = [stage.toolstack.create(f"vm-{number}") for number in range(BURST)]
            index.refresh(timeout=60)
            assert [index.by_name(f"vm-{number}").domid for number in range(BURST)] == made
            for domid in made:
                stage.toolstack.destroy(domid)
            index.refresh(timeout=60)
            assert [d.domid for d in index] == [d.domid for d in start]
        finally:
            done.set()
            for thread in threads:
                thread.join()
        for domid in made:
            heard.until(Removed, domid=domid)
        assert believed(heard.events[len(start) :], start) == {d.domid: d for d in index}
    assert not wrong
