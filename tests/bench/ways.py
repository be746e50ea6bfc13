"""Ways to an answer, and how they are timed fairly: in rounds, each way once in every round.

So other load on the machine affects all of them alike. A way that cannot be tried is kept, with
the reason. A slow one is called less often, and never dropped. Read after subject.py; next bare.py.
"""

from __future__ import annotations

import random
import statistics
import time
import timeit
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Final

from tests.bench.subject import Subject

_SLICE: Final = 0.01
"""The least seconds of one sample: a quick call is repeated until it takes as long, so that the
resolution of the clock does not matter."""
_MOST_LOOPS: Final = 1_000_000
_FEWEST: Final = 3
"""Samples of a way whatever it costs; fewer have no spread."""


class Missing(Exception):
    """Something cannot be tried on this host. The message says why."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to one answer.

    question: what is asked; ways with the same question are compared.
    code: a statement that is timed as it stands, in a loop, with nothing around it.
    cost: what it asks of the host.
    floor: the name of the way with the least that must be done for this answer.
    scope: the names that the code uses.
    missing: why it cannot be tried here.
    """

    question: str
    name: str
    code: str
    cost: str
    floor: str = ""
    scope: Mapping[str, object] = field(default_factory=dict)
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """Ways that need the same thing to be opened.

    open: returns their scope, and pushes on the stack how it is closed. Raises Missing. A "note"
        in the scope is added to the cost of each way.
    """

    ways: tuple[Way, ...]
    open: Callable[[Subject, ExitStack], Mapping[str, object]]

    def opened(self, subject: Subject, stack: ExitStack) -> list[Way]:
        """The ways, each with its scope, or with the reason why it is missing."""
        try:
            scope = self.open(subject, stack)
        except Missing as reason:
            return [replace(way, missing=str(reason)) for way in self.ways]
        except Exception as error:  # a peer may raise anything
            return [replace(way, missing=_failed(error)) for way in self.ways]
        note = f"; {scope['note']}" if scope.get("note") else ""
        return [replace(way, scope=scope, cost=f"{way.cost}{note}") for way in self.ways]


@dataclass(frozen=True, slots=True)
class Timed:
    """The times of a way: seconds of one call, over all samples.

    low, high: the quartiles. calls: made in each sample.
    of_floor: multiple of the floor, whose samples are taken just before; with its quartiles. 0
        without a floor.
    missing: why there are no times; then they are 0.
    """

    question: str
    name: str
    cost: str
    floor: str
    median: float = 0.0
    low: float = 0.0
    high: float = 0.0
    fastest: float = 0.0
    samples: int = 0
    calls: int = 0
    missing: str = ""
    of_floor: float = 0.0
    of_floor_low: float = 0.0
    of_floor_high: float = 0.0


class Sampler:
    """Takes the samples of one way, each after a sample of its floor if it has one."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.floor: Sampler | None = None
        self.missing = way.missing
        self._timer = timeit.Timer(way.code or "pass", globals={**way.scope})
        self._loops = 1
        self._turns: set[int] = set()
        self._samples: list[float] = []
        self._ratios: list[float] = []

    def warm_up(self, rounds: int, budget: float) -> None:
        """Find out how many calls make a sample, how many samples there are, and if it works."""
        took = 0.0
        while not self.missing and self._loops < _MOST_LOOPS:
            if (took := self._slice()) >= _SLICE:
                break
            self._loops *= 10
        self._samples.clear()
        share = rounds if took * rounds <= budget else int(budget / took)
        wanted = min(rounds, max(_FEWEST, share))
        # Spread over the whole run: the load of the machine may change meanwhile.
        self._turns = {turn * rounds // wanted for turn in range(wanted)}

    def takes_part(self, turn: int) -> bool:
        """Whether it has a sample in this round."""
        return turn in self._turns and not self.missing

    def once(self) -> float:
        """Take a sample, after one of the floor: seconds of one call, 0 if it fails."""
        least = self.floor.once() if self.floor and not self.floor.missing else 0.0
        took = self._slice() / self._loops
        if least and took:
            self._ratios.append(took / least)
        return took

    def _slice(self) -> float:
        try:
            took = self._timer.timeit(self._loops)
        except Exception as error:  # a peer may raise anything; the others go on
            self.missing = _failed(error)
            return 0.0
        self._samples.append(took / self._loops)
        return took

    def result(self) -> Timed:
        way = self.way
        if self.missing or not self._samples:
            why = self.missing or "no sample was taken"
            return Timed(way.question, way.name, way.cost, way.floor, missing=why)
        return Timed(
            *(way.question, way.name, way.cost, way.floor),
            *(*spread(self._samples), min(self._samples)),
            *(len(self._samples), self._loops, ""),
            *(spread(self._ratios) if self._ratios else ()),
        )


def measure(ways: Iterable[Way], *, rounds: int, budget: float, pause: float = 0.0) -> list[Timed]:
    """Time all of them. The results have the order of the ways.

    Args:
        rounds: samples of each way.
        budget: seconds for each way; a slow one takes part in fewer rounds.
        pause: seconds before each sample, so that work which a server still does for one way does
            not slow the next.
    """
    samplers = [Sampler(way) for way in ways]
    by_name = {sampler.way.name: sampler for sampler in samplers}
    for sampler in samplers:
        sampler.warm_up(rounds, budget)
        floor = by_name.get(sampler.way.floor)
        sampler.floor = None if floor is sampler else floor
    # In another order each time, so that no way always comes after the heaviest.
    order = random.Random(0)
    for turn in range(rounds):
        for sampler in order.sample(samplers, len(samplers)):
            if sampler.takes_part(turn):
                time.sleep(pause)
                sampler.once()
    return [sampler.result() for sampler in samplers]


def _failed(error: Exception) -> str:
    return f"failed: {type(error).__name__}: {error}"


def spread(samples: Sequence[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile."""
    if len(samples) < 2:
        return samples[0], samples[0], samples[0]
    low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
    return middle, low, high
