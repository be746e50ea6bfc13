"""The stream of a watch, and the thread that waits on it.

gRPC gives the answers of a stream by an iterator that cannot be told how long to wait. So a thread
of its own takes them, and hands them over one by one. It also opens the line, which takes time.

Read after members.py; next feed.py.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from typing import Final, NamedTuple

from domindex import forking
from domindex.fleet import layout
from domindex.fleet.errors import LineLost
from domindex.fleet.etcd import wire
from domindex.fleet.etcd.members import Members
from domindex.fleet.etcd.wire import Line, Message, Stream

_WAITING: Final = 64
"""Answers that wait here for a slow reader. Then it is etcd that waits with the rest."""


class Received(NamedTuple):
    """An answer, and when it came."""

    at: float
    answer: Message


class WatchStream:
    """A watch of everything below the root, from one position on.

    What it has, it has under the lock of `changed`, which is notified of each change.

    Attributes:
        line: To the member that was chosen; None until one answered.
        error: What ended the stream; None while it goes on.
        mute: Since when it owes an answer; None if it owes none.
    """

    def __init__(self, members: Members, position: int, changed: threading.Condition) -> None:
        self.line: Line | None = None
        self.error: Exception | None = None
        self.mute: float | None = None
        self._members = members
        self._position = position
        self._changed = changed
        self._requests: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._inbox: deque[Received] = deque()
        self._stream: Stream | None = None
        self._is_over = False
        self._blame = False
        self._is_inherited = False
        forking.register(self._forked)
        self._thread = threading.Thread(target=self._run, name="domindex-feed", daemon=True)
        self._thread.start()

    def take(self) -> Received | None:
        """The next answer, if there is one. With the lock held."""
        if not self._inbox:
            return None
        self._changed.notify_all()  # there is room
        return self._inbox.popleft()

    def ask_progress(self, now: float) -> None:
        """Have etcd say how far it is. With the lock held."""
        if self.mute is None:
            self.mute = now
        self._requests.put(wire.ask_progress())

    def end(self, *, blame: bool = False) -> None:
        """Take nothing more. Does not wait: the thread closes the line.

        With the lock held nobody may close it: gRPC waits for its own thread then, which may be
        waiting for the lock, to tell us an answer.

        Args:
            blame: The member failed; others are to be asked before it.
        """
        self._is_over = True
        self._blame = self._blame or blame
        with self._changed:
            stream = self._stream
            self._changed.notify_all()
        if stream is not None and not self._is_inherited:
            stream.cancel()

    def join(self) -> None:
        """Wait for the thread, after `end`. At the longest, while a line is being opened."""
        if threading.current_thread() is not self._thread:
            self._thread.join(self._members.timeout)

    def _run(self) -> None:
        try:
            line = self._members.open(self._members.timeout)
        except Exception as failed:  # whatever it is, `Feed.next` is to raise it
            self._failed(failed)
            return
        error: Exception
        try:
            error = self._receive(line)
        except wire.Broken as broken:
            error = wire.meaning(broken, line.endpoint)
        except Exception as unexpected:
            error = unexpected
        self._failed(error)
        self._requests.put(None)  # so ends the thread of gRPC that sends
        line.close()
        if self._blame:
            self._members.blame(line.endpoint)

    def _receive(self, line: Line) -> Exception:
        with self._changed:
            self.line, self.mute = line, time.monotonic()
            stream = self._stream = line.watch(iter(self._requests.get, None))
            self._changed.notify_all()
        if self._is_over:
            stream.cancel()
        # From the position itself, whose events are dropped: a watch that begins in the future is
        # told no progress.
        self._requests.put(wire.watch(layout.ROOT, self._position))
        for answer in stream:
            self._keep(answer)
        return LineLost(f"etcd at {line.endpoint} ended the watch")

    def _failed(self, error: Exception) -> None:
        with self._changed:
            self.error = error
            self._changed.notify_all()

    def _keep(self, answer: Message) -> None:
        with self._changed:
            self.mute = None
            self._inbox.append(Received(time.monotonic(), answer))
            self._changed.notify_all()
            while len(self._inbox) >= _WAITING and not self._is_over:
                self._changed.wait()

    def _forked(self) -> None:
        self._is_inherited = self._is_over = True
