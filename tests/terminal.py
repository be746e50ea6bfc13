"""Runs `domindex` as a user does: in a real terminal, and with its output in a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Sequence
from typing import NamedTuple, Self

PROGRAM = (sys.executable, "-W", "error", "-m", "domindex")


class Ran(NamedTuple):
    """How it ended and what it printed; in a terminal `err` is in `out`."""

    status: int
    out: bytes
    err: bytes = b""


class InTerminal:
    """A program whose input and output are a terminal of its own, which Ctrl-C reaches.

    It runs while the block is entered, and not longer.
    """

    def __init__(self, *argv: str, program: Sequence[str] = PROGRAM) -> None:
        self._master, slave = pty.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[1] &= ~termios.OPOST  # bytes come as they were written, "\n" among them
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # else it is inherited
        try:
            self._process = subprocess.Popen(
                [*program, *argv],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=environment(),
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            )
        finally:
            signal.signal(signal.SIGINT, ours)
            os.close(slave)
        self.out = b""

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def until(self, text: bytes) -> None:
        """Wait until it has printed that."""
        while text not in self.out:
            assert self._read(), f"it never printed {text!r}, but {self.out!r}"

    def press(self, key: bytes) -> None:
        """A key, such as b"\\x03" for Ctrl-C."""
        os.write(self._master, key)

    def end(self) -> Ran:
        """Wait for its end."""
        while self._read():
            pass
        return Ran(self._process.wait(), self.out)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def _read(self) -> bool:
        try:
            read = os.read(self._master, 1 << 16)
        except OSError:  # EIO: the program, which had the other end, has ended
            return False
        self.out += read
        return bool(read)


def in_pipe(*argv: str, program: Sequence[str] = PROGRAM) -> Ran:
    """Run it with its output in a pipe, to its end."""
    done = subprocess.run(
        [*program, *argv], capture_output=True, env=environment(), timeout=60, check=False
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def in_both(*argv: str, program: Sequence[str] = PROGRAM) -> tuple[Ran, Ran]:
    """Run it twice at the same time: in a terminal, and in a pipe."""
    with InTerminal(*argv, program=program) as terminal:
        piped = in_pipe(*argv, program=program)
        return terminal.end(), piped


def environment() -> dict[str, str]:
    """As of a plain terminal with 80 columns, whatever this one is."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "COLUMNS": "80",
        "PYTHON_COLORS": "0",
    }
