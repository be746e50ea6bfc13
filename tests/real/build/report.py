"""What comes out of dom0's second serial port: the command's lines, and a few of our own.

`init.py` says what our own lines look like.
"""

from __future__ import annotations

import base64
import io
import tarfile
import time
from collections.abc import Callable

from .init import MARK


class Report:
    """Sorts bytes into lines of the command, which go to `on_line`, and what dom0 says itself."""

    def __init__(self, word: str, on_line: Callable[[str], None]) -> None:
        self._mark = f"{MARK} {word} ".encode()
        self._on_line = on_line
        self._rest = b""
        self._out: list[bytes] | None = None
        self._blank = False
        self.ready_at: float | None = None
        self.exit_at: float | None = None
        self.status: int | None = None
        self.complete = False

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.rstrip(b"\r"))

    def finish(self) -> None:
        """The host is silent for good: what stands in an unfinished line is all of it."""
        if self._rest and self._out is None:
            self._line(self._rest)
        self._rest = b""

    def files(self) -> dict[str, bytes]:
        """What the command left in /out; nothing if not all of it arrived."""
        if self._out is None or not self.complete:
            return {}
        packed = base64.b64decode(b"".join(self._out))
        found: dict[str, bytes] = {}
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None:
                    found[member.name.removeprefix("./")] = file.read()
        return found

    def _line(self, line: bytes) -> None:
        if line.startswith(self._mark):
            self._own(line.removeprefix(self._mark).split())
        elif self._out is not None:
            self._out.append(line)
        elif self.ready_at is not None:
            # dom0 puts a line end before its own line, in case the command's last had none:
            # an empty line is held back until something follows it.
            if self._blank:
                self._on_line("")
            self._blank = not line
            if line:
                self._on_line(line.decode("utf-8", "replace"))

    def _own(self, words: list[bytes]) -> None:
        match words:
            case [b"ready"]:
                self.ready_at = time.monotonic()
            case [b"exit", status]:
                self.exit_at = time.monotonic()
                self.status = int(status)
            case [b"out"]:
                self._out = []
            case [b"end"]:
                self.complete = True
