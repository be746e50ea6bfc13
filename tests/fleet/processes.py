"""Publishers and readers in a process of their own, which can be frozen, killed and asked.

    python -m tests.fleet.processes publish URL TTL HOST...
    python -m tests.fleet.processes read URL PATIENCE

The child reads one word a line and answers with one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import domindex.fleet
from domindex.errors import DomindexError, TimedOut
from domindex.fleet import picture
from domindex.testing import SimulatedHost

from .stage import Believer

ROOT = Path(__file__).parents[2]

Words = Mapping[str, Callable[[], object]]


class Child:
    """One such process.

    Attributes:
        process: For its id.
    """

    def __init__(self, *arguments: str, module: str = "tests.fleet.processes") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._frozen = False

    def ask(self, word: str) -> Any:
        """What it answers. The test's own time limit is that of an answer."""
        self.send(word)
        return self.answer()

    def send(self, word: str) -> None:
        """Ask, and do not wait: it may be frozen."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """The next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended: {self.process.poll()}"
        return json.loads(line)

    def freeze(self) -> None:
        """Nothing in it runs, and its connections stay."""
        os.kill(self.process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def thaw(self) -> None:
        """After `freeze`."""
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Its leases run out."""
        self.process.kill()

    def close(self) -> None:
        """End it, however it is."""
        self.process.kill()
        self.process.wait(20)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def child(*arguments: str, module: str = "tests.fleet.processes") -> Iterator[Child]:
    """One that has begun, killed at the end."""
    running = Child(*arguments, module=module)
    try:
        assert running.answer() == "ready"
        yield running
    finally:
        running.close()


def serve(words: Words) -> None:
    """Answer until nobody asks any more."""
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        try:
            answer = words[line.strip()]()
        except DomindexError as error:
            answer = type(error).__name__
        print(json.dumps(answer), flush=True)


def jump() -> None:
    """From now on the wall clock is years off, each time by others.

    But for gRPC, which makes a moment of each time limit, and tells it to a part of its own that
    asks the system for the time. A clock that really jumps is the same for both.
    """
    real = SimpleNamespace(**vars(time))
    by = random.Random(1)
    for name, module in list(sys.modules.items()):
        if name.startswith("grpc") and getattr(module, "time", None) is time:
            vars(module)["time"] = real
    time.time = lambda: real.time() + by.uniform(-1e9, 1e9)


def _publish(url: str, ttl: str, *hosts: str) -> None:
    with ExitStack() as stack:
        simulated = stack.enter_context(SimulatedHost())
        simulated.create("web")
        index = stack.enter_context(simulated.connect())
        publishers = [
            domindex.fleet.publish(
                index, url, host=host, machine=f"m-{host}", lock=False, ttl=float(ttl)
            )
            for host in hosts
        ]

        def create() -> int:
            simulated.create(f"vm-{len(index.domids)}")
            return index.refresh()

        serve(
            {
                "problems": lambda: [type(one.problem).__name__ for one in publishers],
                "create": create,
                "flush": lambda: [one.flush(20) for one in publishers],
                "jump": jump,
            }
        )


def _read(url: str, patience: str) -> None:
    picture.PATIENCE = float(patience)  # type: ignore[misc]  # Final, but for this process
    with domindex.fleet.connect(url) as fleet, fleet.events(queue=100_000) as events:

        def look() -> list[object]:
            # In this order: what is live now is no older than that.
            live, age = fleet.live, fleet.age
            return [live, age, sorted(found.domain.name or "" for found in fleet)]

        believer = Believer()

        def heard() -> dict[str, int]:
            kinds: Counter[str] = Counter()
            while True:
                try:
                    event = events.get(0)
                except TimedOut:
                    return kinds
                believer(event)  # which fails at nonsense
                inner = event.event if isinstance(event, domindex.fleet.HostEvent) else event
                kinds[type(inner).__name__] += 1

        serve(
            {
                "refresh": lambda: fleet.refresh(30),
                "states": lambda: {name: view.state for name, view in fleet.hosts.items()},
                "look": look,
                "jump": jump,
                "heard": heard,
                "believes": lambda: (
                    {
                        (host, one)
                        for host, held in believer.domains.items()
                        for one in held.values()
                    }
                    == {(found.host, found.domain) for found in fleet}
                ),
                "stats": lambda: [fleet.stats.loads, fleet.stats.resumed, fleet.stats.drift],
            }
        )


if __name__ == "__main__":
    mains: dict[str, Callable[..., None]] = {"publish": _publish, "read": _read}
    mains[sys.argv[1]](*sys.argv[2:])
