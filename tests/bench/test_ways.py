"""Ways and their target: what is looked for, and how ways are timed against each other."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

import pytest

from domindex.testing import SimulatedHost
from tests.bench.subject import Subject
from tests.bench.ways import Sampler, Way, measure, spread


def subject_of(host: SimulatedHost) -> Subject:
    with host.connect() as index:
        return Subject.of(host, tuple(index))


def test_the_target_is_in_the_middle_and_has_keys_of_its_own() -> None:
    """A scan then reads half of the host; and no look-up is Ambiguous."""
    host = SimulatedHost()
    for name in ("a", "twin", "twin", "b", None, "c"):
        host.create(name)
    assert subject_of(host).name == "b"


def test_without_a_guest_the_target_is_dom0() -> None:
    """Some ways can be measured with it."""
    subject = subject_of(SimulatedHost())
    assert (subject.name, subject.target.uuid) == ("Domain-0", UUID(int=0))


def test_ways_take_turns() -> None:
    """Each once in each round, in any order."""
    called: list[str] = []
    ways = [
        Way("q", name, "sleep(0.011); note(name)", "", scope=scope(called, name)) for name in "abc"
    ]
    measure(ways, rounds=4, budget=10.0)
    rounds = [sorted(called[start : start + 3]) for start in range(3, len(called), 3)]
    assert called[:3] == ["a", "b", "c"]
    assert rounds == [["a", "b", "c"]] * 4


def test_each_sample_comes_after_one_of_its_floor() -> None:
    """Other load affects both: the ratio is that of the pair, and not that of two medians."""
    called: list[str] = []
    floor, way = (
        Way("q", name, f"sleep({seconds}); note(name)", "", "least", scope=scope(called, name))
        for name, seconds in (("least", 0.011), ("way", 0.022))
    )
    least, timed = measure([floor, way], rounds=4, budget=10.0)
    assert [called[at - 1] for at, name in enumerate(called) if name == "way"][1:] == ["least"] * 4
    assert (least.of_floor, least.samples) == (0, 8)
    assert 0 < timed.of_floor_low <= timed.of_floor <= timed.of_floor_high


def scope(called: list[str], name: str) -> dict[str, Any]:
    return {"sleep": time.sleep, "note": called.append, "name": name}


@pytest.mark.parametrize(("budget", "samples"), [(0.0, 3), (100.0, 8)])
def test_a_slow_way_is_called_less_often_but_not_dropped(budget: float, samples: int) -> None:
    """Three samples, whatever it costs; all of them within its share of the time."""
    (timed,) = measure([Way("q", "slow", "pass", "")], rounds=8, budget=budget)
    assert timed.samples == samples


def test_a_slow_way_takes_part_from_the_first_rounds_to_the_last() -> None:
    """So that a machine that was slow at the start does not slow this way alone."""
    sampler = Sampler(Way("q", "slow", "pass", ""))
    sampler.warm_up(9, 0.0)
    assert [turn for turn in range(9) if sampler.takes_part(turn)] == [0, 3, 6]


def test_a_way_that_fails_says_how_and_the_others_go_on() -> None:
    """Whatever a peer raises."""
    bad, good = measure(
        [Way("q", "bad", "1 / 0", ""), Way("q", "good", "pass", "")], rounds=3, budget=1.0
    )
    assert bad.missing == "failed: ZeroDivisionError: division by zero"
    assert good.samples == 3


def test_the_spread() -> None:
    """Median and quartiles; one sample has no spread."""
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == (3.0, 2.0, 4.0)
    assert spread([7.0]) == (7.0, 7.0, 7.0)
