"""The work that is counted. Runs under callgrind: python -m tests.measure.cost.works GROUP.

Prints one line for each piece of work, in order. `mark` is a function of the C library that
nothing else here calls; callgrind is told to write down what it has counted whenever it comes.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from typing import TypeAlias

from tests.measure.cost.canned import Canned

mark = os.getppid
MARK = "getppid"
FLOOR = "get(name)"

Work: TypeAlias = tuple[str, Callable[[int], object], int, int]
"""What it is, a function that does it so many times, how often before it counts, how often then."""

_WARM, _HITS = 100, 1000
_FEW = 4
"""From 3.11 on Python fits its code to what it meets in the first dozens of runs: so all that is
counted has run before, the passes in those that make the host known."""

_DOMAINS = 1000


def hits() -> Iterator[Work]:
    """Each as a line of code in a loop, the loop included."""
    host = Canned(_DOMAINS)
    host.sync()
    index, names = host.index, host.index.names
    scope = {
        "get": names.copy().get,
        "index": index,
        "name": f"vm-{_DOMAINS // 2}",
        "uuid": host.uuid,
        "domid": _DOMAINS // 2,
    }
    for code in (
        FLOOR,
        "index.by_name(name)",
        "index.names[name]",
        "index.by_uuid(uuid)",
        "index.by_id(domid)",
    ):
        yield code, _loop(code, scope), _WARM, _HITS


def _loop(code: str, scope: dict[str, object]) -> Callable[[int], object]:
    defined = f"def run(n, {', '.join(f'{key}={key}' for key in scope)}):\n"
    made = dict(scope)
    exec(f"{defined} for _ in range(n):\n  {code}", made)
    run: Callable[[int], object] = made["run"]  # type: ignore[assignment]
    return run


def syncs() -> Iterator[Work]:
    """All of a host at once."""
    Canned(100).sync()
    for domains in (10, 100, 1000):
        yield f"first sync of {domains:,} domains", _times(Canned(domains).sync), 0, 1


def shutdowns() -> Iterator[Work]:
    """An event that names nobody, one list, and one domain that has changed in it."""
    _one_shuts_down(Canned(10))[1](20)
    for domains in (10, 100, 1000, 10_000):
        yield _one_shuts_down(Canned(domains))


def raw_shutdowns() -> Iterator[Work]:
    """The same, with the list from the bytes that a hypercall leaves."""
    _one_shuts_down(Canned(10, raw=True))[1](20)
    for domains in (10, 100, 1000):
        yield _one_shuts_down(Canned(domains, raw=True), ", from the bytes of the list")


def _one_shuts_down(host: Canned, listed: str = "") -> Work:
    host.sync()

    def work() -> None:
        host.shut_down(host.domains // 2)
        host.look()

    return f"one of {host.domains:,} domains shuts down{listed}", _times(work), _FEW, 4


def births() -> Iterator[Work]:
    """Two events, and all that follows: lists, a watch, a read, and the watch dropped."""
    _born_and_gone(Canned(10))[1](20)
    for domains in (10, 1000):
        yield _born_and_gone(Canned(domains))


def _born_and_gone(host: Canned) -> Work:
    host.sync()

    def work() -> None:
        for change in (host.bear, host.end):
            change()
            host.look()

    return f"a birth and its end beside {host.domains:,} domains", _times(work), _FEW, 4


def _times(work: Callable[[], object]) -> Callable[[int], object]:
    def run(times: int) -> None:
        for _ in range(times):
            work()

    return run


GROUPS = {"1": (hits, syncs, raw_shutdowns, births), "2": (shutdowns,)}
"""Each in a process of its own: they take equally long."""


def main() -> None:
    gc.disable()
    mark()
    mark()  # between these two: what a mark costs itself
    for group in GROUPS[sys.argv[1]]:
        for what, run, before, times in group():
            run(before)
            mark()
            run(times)
            mark()
            print(times, what, flush=True)


if __name__ == "__main__":
    main()
