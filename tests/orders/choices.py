"""Every way to choose, depth first, by playing again.

A play asks `choose(n)` for a number below n wherever it may go on in n ways. It must be
determined by the answers: with the same ones it asks the same. Then every play is played
once: each begins with the answers of the last one up to the last place where there was a next
answer, takes that, and 0 wherever it asks from there on. Nothing has to be copied or undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

R = TypeVar("R")


class Choices:
    """The answers of one play: those given, then 0 for each further question."""

    def __init__(self, given: Sequence[int] = ()) -> None:
        self.taken = list(given)
        self._of: list[int] = []  # how many there were to choose from

    def choose(self, n: int) -> int:
        at = len(self._of)
        if at == len(self.taken):
            self.taken.append(0)
        if not self.taken[at] < n:
            raise ValueError(f"choice {at} is one of {n}, not {self.taken[at]}: another play")
        self._of.append(n)
        return self.taken[at]

    def next(self) -> list[int] | None:
        """How the next play begins, None after the last."""
        for at in reversed(range(len(self._of))):
            if self.taken[at] + 1 < self._of[at]:
                return [*self.taken[:at], self.taken[at] + 1]
        return None


def every(play: Callable[[Choices], R]) -> Iterator[R]:
    """The results of `play`, for each way to choose in it."""
    given: list[int] | None = []
    while given is not None:
        choices = Choices(given)
        yield play(choices)
        given = choices.next()
