"""A watch of the whole fleet on etcd, and how it is known to work.

Answers come from `stream.py`; all else happens in `next`. Every `BEAT` seconds, and when
asked, a *probe* sends two requests on one line: a quorum read, and a request for progress on the
watch's own stream. Progress is told when the stream has said that it is as far as the read found
the store to be. A stream that says nothing although it was asked, or a read without an answer, is a
lost line: gRPC's own keep-alive notices a stopped server after 45 seconds.

Read after stream.py; next claim.py.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from typing import Final

from domindex import forking
from domindex.errors import Closed
from domindex.fleet import layout
from domindex.fleet.clock import reader_clock
from domindex.fleet.errors import EngineDenied, LineLost, TooOld, UnfitEngine
from domindex.fleet.etcd import wire
from domindex.fleet.etcd.members import Members
from domindex.fleet.etcd.stream import Received, WatchStream
from domindex.fleet.etcd.wire import Message
from domindex.fleet.ports import SILENCE, Batch, Change, Progress
from domindex.limits import as_seconds

BEAT: Final = 2.0
"""Seconds between two probes."""
PATIENCE: Final = SILENCE - BEAT
"""Seconds that a probe is waited for."""
_AGAIN: Final = 0.05
"""Seconds after which progress is asked for again: a watch that is catching up does not answer."""


class EtcdFeed:
    """As `ports.Feed`."""

    def __init__(self, members: Members, position: int, epoch: str | None) -> None:
        self._members = members
        self._from = position
        self._position = position  # all up to here was told
        self._last = position  # of the batch told last: etcd sends those before again
        self._epoch = epoch
        self._ready: deque[Batch | Progress] = deque()  # here its age is when it was asked for
        self._error: Exception | None = None
        self._over = ""  # why it is closed
        self._created = False  # etcd has set the watch, though it may still refuse it
        self._told = False  # progress, ever
        # The probe under way: when it began, what the read found, how far the stream has come.
        self._began: float | None = None
        self._began_at = 0.0  # the same by `reader_clock`
        self._found: int | None = None
        self._reached = -1
        self._asked = 0.0  # when progress was last asked for
        self._next_beat = 0.0
        self._wanted = False  # another probe is to follow the one under way
        self._changed = threading.Condition(forking.rlock())
        forking.register(self._forked)
        self._stream = WatchStream(members, position, self._changed)
        # A feed that nobody has any more ends its stream, which has a thread.
        weakref.finalize(self, self._stream.end).atexit = False

    def next(self, timeout: float | None = None) -> Batch | Progress | None:
        """As `Feed.next`."""
        deadline = time.monotonic() + as_seconds(timeout)
        with self._changed:
            while True:
                self._take_in()
                if self._over:
                    raise Closed(self._over)
                if self._ready:
                    return _told(self._ready.popleft())
                wake = self._beat(now := time.monotonic())
                if self._error is not None:
                    raise self._error
                if self._ready:
                    continue
                if now >= deadline:
                    return None
                self._changed.wait(max(0.0, min(deadline, wake) - now))

    def ask(self) -> None:
        """As `Feed.ask`."""
        with self._changed:
            if self._began is not None:
                self._wanted = True  # what it reads may be from before the call
            elif self._created and not self._ended():
                self._probe(time.monotonic())
            self._changed.notify_all()

    def close(self) -> None:
        """As `Feed.close`."""
        with self._changed:
            self._over = self._over or "the feed was closed"
            self._changed.notify_all()
        self._stream.end()
        self._stream.join()

    def _fail(self, error: Exception) -> None:
        if self._ended():
            return
        self._error = error
        self._changed.notify_all()
        self._stream.end(blame=isinstance(error, (LineLost, UnfitEngine)))

    def _ended(self) -> bool:
        return bool(self._over) or self._error is not None

    # What an answer says.

    def _take_in(self) -> None:
        while not self._ready and not self._ended() and (received := self._stream.take()):
            self._take(received)
        if not self._ready and self._stream.error is not None:
            self._fail(self._stream.error)

    def _take(self, received: Received) -> None:
        answer = received.answer
        if answer.canceled:
            self._fail(self._reason(answer))
            return
        if answer.created:
            self._created = True
            return
        for batch in _batches(answer):
            if batch.position > self._last:
                self._last = batch.position
                self._position = max(self._position, batch.position)
                self._ready.append(batch)
        if not answer.events:
            self._position = max(self._position, answer.header.revision)
            self._told = True
        if self._began is not None and received.at >= self._began:
            self._reached = self._position  # what came before is no sign that the stream works now
        self._compare()

    def _reason(self, answer: Message) -> Exception:
        if answer.compact_revision:
            return TooOld(
                f"etcd was compacted at {answer.compact_revision}, and tells nothing since "
                f"{self._position}"
            )
        if "ermission" in answer.cancel_reason:
            return EngineDenied(f"etcd refuses the watch: {answer.cancel_reason}")
        return LineLost(f"etcd ended the watch: {answer.cancel_reason or 'without a reason'}")

    def _check_epoch(self, held: Message | None) -> None:
        epoch = None if held is None else wire.text(held.value)
        # The first publisher of all made it, unless it should have been loaded already.
        if self._epoch is None and (held is None or held.create_revision > self._from):
            self._epoch = epoch
        elif epoch != self._epoch:
            self._fail(TooOld("the store is another one: it has another epoch"))

    # The probe.

    def _beat(self, now: float) -> float:
        """Do what is due; when something is due next."""
        mute = self._stream.mute
        patience = PATIENCE if self._created else SILENCE
        limit = float("inf") if mute is None else mute + patience
        if not self._created:
            if now >= limit:
                self._fail(LineLost("etcd does not answer to a watch"))
            return limit
        if self._began is None:
            if not self._wanted and now < self._next_beat:
                return self._next_beat
            self._probe(now)
            return now + _AGAIN
        if now >= limit:
            self._fail(self._silent())
        elif now >= self._asked + _AGAIN:
            self._ask_progress(now)
        return min(limit, self._asked + _AGAIN)

    def _silent(self) -> Exception:
        at = self._stream.line and self._stream.line.endpoint
        if self._found is not None and not self._told:
            return UnfitEngine(
                f"etcd at {at} answers, but its watch never tells progress: is it etcd's gRPC "
                "proxy? Name the members themselves"
            )
        return LineLost(f"etcd at {at} did not answer a probe within {PATIENCE} s")

    def _probe(self, now: float) -> None:
        assert self._stream.line is not None
        self._wanted = False
        self._began, self._found, self._reached = now, None, -1
        self._began_at = reader_clock()
        floor = self._position  # batches may come before the answer
        self._ask_progress(now)

        def answered(answer: Message | Exception) -> None:
            with self._changed:
                if self._began == now and not self._ended():
                    self._read(answer, floor)
                    self._changed.notify_all()

        self._stream.line.start(wire.range_of(layout.EPOCH), PATIENCE, answered)

    def _ask_progress(self, now: float) -> None:
        self._asked = now
        self._stream.ask_progress(now)

    def _read(self, answer: Message | Exception, floor: int) -> None:
        if isinstance(answer, Exception):
            self._fail(answer)
            return
        header = answer.header
        self._check_epoch(answer.kvs[0] if answer.kvs else None)
        is_same = self._members.goes_on(header.cluster_id, header.raft_term)
        if header.revision < floor or not is_same:
            self._fail(TooOld("the store was wiped, or restored from a copy"))
        self._found = header.revision
        self._compare()

    def _compare(self) -> None:
        """Tell progress, if the stream is as far as the store was when the probe began."""
        if self._began is None or self._found is None or self._ended():
            return
        if self._reached >= self._found:
            self._ready.append(Progress(self._position, self._began_at))
            self._began = None
            self._next_beat = time.monotonic() + BEAT

    def _forked(self) -> None:
        self._over = "the feed was opened by the parent of this forked process"


def _told(one: Batch | Progress) -> Batch | Progress:
    """It may have waited for a slow reader, or for a process that stood still."""
    if isinstance(one, Progress):
        return Progress(one.position, reader_clock() - one.age)
    return one


def _batches(answer: Message) -> list[Batch]:
    """The events of one answer by revision. etcd puts all of one revision into one answer."""
    batches: list[Batch] = []
    for event in answer.events:
        if not batches or batches[-1].position != event.kv.mod_revision:
            batches.append(Batch(event.kv.mod_revision, []))
        value = None if wire.is_delete(event) else event.kv.value
        changes = batches[-1].changes
        assert isinstance(changes, list)
        changes.append(Change(wire.text(event.kv.key), value))
    return batches
