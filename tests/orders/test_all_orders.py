"""Every script of the toolstack, in every order in which the watcher can meet it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from tests.orders.choices import Choices, every
from tests.orders.mutants import MUTANTS, Mutant
from tests.orders.play import Play
from tests.orders.scripts import SCRIPTS

DEEPER = os.environ.get("DOMINDEX_INTERRUPTIONS")  # "inf" for every order
SHORT = 4
"""Steps of a script up to which two interruptions are tried in the daily run."""
pytestmark = pytest.mark.timeout(0 if DEEPER else 60)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Lines are lost by the thousand here."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def first_fault(script: str, kind: str, interruptions: float) -> str | None:
    """Of all orders the first that breaks a promise, and how."""

    def play(choices: Choices) -> str | None:
        return Play(SCRIPTS[script], kind, choices, interruptions).fault()

    return next((fault for fault in every(play) if fault is not None), None)


@pytest.mark.parametrize(
    ("script", "kind"), [(name, kind) for name, script in SCRIPTS.items() for kind in script.kinds]
)
def test_in_every_order(script: str, kind: str) -> None:
    """P1, P2, P3, P4, P6: kept at each step, whatever the toolstack does between two calls."""
    interruptions = float(DEEPER or (2 if len(SCRIPTS[script].steps) <= SHORT else 1))
    fault = first_fault(script, kind, interruptions)
    assert fault is None, f"\n{fault}\nagain: python -m tests.orders {script!r} {kind!r} ORDER"


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_what_breaks_a_rule_is_noticed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule left out breaks a promise in some order, with a single interruption."""
    monkeypatch.setattr(mutant.of, mutant.name, mutant.instead)
    assert first_fault(mutant.script, mutant.kind, interruptions=1) is not None


def test_every_way_to_choose_is_played_once() -> None:
    """Also where one choice decides which there are after it."""

    def play(choices: Choices) -> str:
        first = choices.choose(3)
        return f"{first}" + "".join(f"{choices.choose(2)}" for _ in range(first))

    assert list(every(play)) == ["0", "10", "11", "200", "201", "210", "211"]


def test_a_play_can_be_played_again() -> None:
    """The same choices give the same calls; those of another play are refused."""

    def play(given: list[int]) -> tuple[list[str], list[int]]:
        played = Play(SCRIPTS["reused by libxl"], "ids", Choices(given))
        played.run()
        return [str(line[0]) for line in played.trace], played.choices.taken

    calls, taken = play([0, 2, 0, 1])
    assert play(taken) == (calls, taken)
    with pytest.raises(ValueError, match="another play"):
        play([9])
