"""Timing two things fairly: in turns, so that what the machine does beside hits both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured ratio, and what it is to stay below. why: it may not, if that is known."""

    what: str
    against: str
    ratio: float
    most: float
    detail: str
    why: str = ""

    def row(self) -> str:
        """A row of the table."""
        return (
            f"| {self.what} | {self.against} | {self.ratio:.2f} | {self.most:g} | {self.detail} |"
        )

    def note(self) -> str:
        """Why it is as it is; empty if it is as it should be, or if nobody knows."""
        return f"- {self.what}: {self.why}" if self.ratio > self.most and self.why else ""


HEAD = "| what | against | measured | at most | in this run |\n|---|---|---|---|---|"


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def in_turns(
    one: Callable[[], object], other: Callable[[], object], rounds: int, pause: float = 0.0
) -> tuple[float, float]:
    """Median seconds of each, called in turns.

    pause: before each, so that what a server still does for the one is not put to the other.
    """

    def rested(call: Callable[[], object]) -> float:
        time.sleep(pause)
        return seconds(call)

    pairs = [(rested(one), rested(other)) for _ in range(rounds)]
    return medians(pairs)


def medians(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of the first ones, and of the second ones."""
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)
