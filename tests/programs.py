"""Runs an example as a program of its own, here and in dom0, and reads along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


class Program:
    """One that runs while the block is entered. `said` has its lines, errors among them.

    It waits for what the program says and not for time: the time limit is that of the test.
    """

    def __init__(self, name: str, *arguments: str) -> None:
        self.said: list[str] = []
        # A job in the background ignores Ctrl-C, and its children would as well.
        ours = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", EXAMPLES / name, *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        finally:
            signal.signal(signal.SIGINT, ours)
        assert self._process.stdout is not None
        self._lines = self._process.stdout

    def until(self, *words: str) -> str:
        """The next line that has all of these, once it is said."""
        for line in self._lines:
            self.said.append(line.rstrip("\n"))
            if all(word in line for word in words):
                return self.said[-1]
        raise AssertionError(f"it never said {words}, but:\n{self.text}")

    @property
    def text(self) -> str:
        """All that it said until now."""
        return "\n".join(self.said)

    def interrupt(self) -> int:
        """Press Ctrl-C; its exit status."""
        self.signal(signal.SIGINT)
        return self.end()

    def signal(self, number: signal.Signals) -> None:
        """Send it this one."""
        self._process.send_signal(number)

    def end(self) -> int:
        """Its exit status, once it has ended by itself."""
        self.said += self._lines.read().splitlines()
        return self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            print(self.text)  # for the report of the failed test
        self._process.kill()
        self._process.wait()
        self._lines.close()
