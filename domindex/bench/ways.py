"""Ways to an answer, and how they are timed fairly: in rounds, each way once in every round.

So whatever the machine does beside hits all of them. A way that cannot be tried is kept, with the
reason; one that is slow is called less often, and never dropped.
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

from domindex.bench.subject import Subject

_SLICE: Final = 0.01
"""Seconds that one sample takes at least: a quick call is repeated until it does, so that the
ticks of the clock fall on all of them alike."""
_MOST_LOOPS: Final = 1_000_000
_FEWEST: Final = 3
"""Samples of a way whatever it costs; with fewer there is no spread to tell."""


class Missing(Exception):
    """Something cannot be tried on this host; the message says why, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to one answer.

    question: what is asked; ways with the same question are compared.
    code: a statement that is timed as it stands, in a loop, with nothing around it.
    cost: what it asks of the host.
    floor: the name of the way that does no more than must be done.
    scope: what the code finds by name.
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
    """Ways that come together, because one thing has to be opened for them.

    open: gives their scope, and leaves on the stack how it is closed. Raises Missing. What is
        called "note" in the scope is told with the cost of each.
    """

    ways: tuple[Way, ...]
    open: Callable[[Subject, ExitStack], Mapping[str, object]]

    def opened(self, subject: Subject, stack: ExitStack) -> list[Way]:
        """The ways, each with its scope, or with the reason why it has none."""
        try:
            scope = self.open(subject, stack)
        except Missing as reason:
            return [replace(way, missing=str(reason)) for way in self.ways]
        except Exception as error:  # a peer's own
            return [replace(way, missing=_failed(error)) for way in self.ways]
        note = f"; {scope['note']}" if scope.get("note") else ""
        return [replace(way, scope=scope, cost=f"{way.cost}{note}") for way in self.ways]


@dataclass(frozen=True, slots=True)
class Timed:
    """What became of a way: seconds of one call, over all samples.

    low, high: the quartiles. calls: made in each sample.
    of_floor: how many times as much as the floor, whose samples are taken just before; with the
        quartiles. 0 without a floor.
    missing: why there is none of these; then they are 0.
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


class _Run:
    """A way while it is being timed, beside its floor if it has one."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.floor: _Run | None = None
        self.missing = way.missing
        self._timer = timeit.Timer(way.code or "pass", globals={**way.scope})
        self._loops = 1
        self._turns: set[int] = set()
        self._samples: list[float] = []
        self._ratios: list[float] = []

    def warm_up(self, rounds: int, budget: float) -> None:
        """Find out how many calls make a sample, how many samples it gets, and if it works."""
        took = 0.0
        while not self.missing and self._loops < _MOST_LOOPS:
            if (took := self._slice()) >= _SLICE:
                break
            self._loops *= 10
        self._samples.clear()
        share = rounds if took * rounds <= budget else int(budget / took)
        wanted = min(rounds, max(_FEWEST, share))
        # Over the whole run, and not the first rounds: the machine may be another by the end.
        self._turns = {turn * rounds // wanted for turn in range(wanted)}

    def takes(self, turn: int) -> bool:
        """It has a sample to give in this round."""
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
        except Exception as error:  # a peer's own: whatever it is, the others go on
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
    """Time all of them; what comes back has their order.

    rounds: samples of each way. budget: seconds that a slow one has: it takes part in fewer.
    pause: before each, so that what a server still does for one is not put to the next.
    """
    runs = [_Run(way) for way in ways]
    for run in runs:
        run.warm_up(rounds, budget)
        run.floor = next((r for r in runs if r.way.name == run.way.floor and r is not run), None)
    # In another order each time: else one way would always be the one after the heaviest.
    order = random.Random(0)
    for turn in range(rounds):
        for run in order.sample(runs, len(runs)):
            if run.takes(turn):
                time.sleep(pause)
                run.once()
    return [run.result() for run in runs]


def _failed(error: Exception) -> str:
    return f"failed: {type(error).__name__}: {error}"


def spread(samples: Sequence[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile."""
    if len(samples) < 2:
        return samples[0], samples[0], samples[0]
    low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
    return middle, low, high
