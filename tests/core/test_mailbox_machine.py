"""The mailbox against the simplest thing that is right: a list; the listener comes at random."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domindex.events import Event, Recovered, Resync
from domindex.listening.mailbox import Mailbox


def event(number: int) -> Event:
    return Recovered(float(number))


class MailboxMachine(RuleBasedStateMachine):
    """`model` has what is still to be taken: events, the marks between them, and a Resync."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.RLock()
        self.model: list[Event | int] = []
        self.bounded = 0  # events in the model that count against the bound
        self.overflowed = False
        self.overflows = self.put_ever = self.marks = 0
        self.reached: list[int] = []
        self.due_marks: list[int] = []

    @initialize(size=st.integers(1, 4), begins=st.integers(0, 6))
    def begin(self, size: int, begins: int) -> None:
        self.size = size
        self.box = Mailbox(self.lock, self.present, lambda: None, size=size)
        first = [event(-number) for number in range(1, begins + 1)]
        self.box.begin(first)
        self.model += first
        self.unbounded = begins

    def present(self) -> Sequence[Event]:
        return [Resync(())]

    @rule(count=st.integers(0, 5))
    def put(self, count: int) -> None:
        """The index has something to tell."""
        events = [event(self.put_ever + number) for number in range(count)]
        self.put_ever += count
        with self.lock:
            self.box.put(events)
        if not events or self.overflowed:
            return
        if self.bounded + count > self.size:
            self.overflowed = True
            self.overflows += 1
            rest = self.model[self.unbounded :]
            marks: list[Event | int] = [waiting for waiting in rest if isinstance(waiting, int)]
            self.model[self.unbounded :] = [Resync(()), *marks]
            self.bounded = 0
        else:
            self.model += events
            self.bounded += count

    @rule()
    def mark(self) -> None:
        """Somebody drains it."""
        self.marks += 1
        number = self.marks
        self.model.append(number)
        self.box.mark(self._reach(number))

    def _reach(self, number: int) -> Callable[[], object]:
        return lambda: self.reached.append(number)

    @rule(count=st.integers(1, 6))
    def take(self, count: int) -> None:
        """The listener comes."""
        for _ in range(count):
            expected = None
            while self.model and expected is None:
                waiting = self.model.pop(0)
                if isinstance(waiting, int):
                    self.due_marks.append(waiting)
                else:
                    expected = waiting
            if self.unbounded:
                self.unbounded -= 1
            elif isinstance(expected, Resync):
                self.overflowed = False
            elif expected is not None:
                self.bounded -= 1
            assert self.box.take() == expected

    @rule()
    def close_and_begin_anew(self) -> None:
        """Whoever waits for a mark is let go, in order; nothing more is told."""
        self.box.close()
        self.due_marks += [waiting for waiting in self.model if isinstance(waiting, int)]
        assert self.box.take() is None
        self.model.clear()
        self.agrees()
        self.box = Mailbox(self.lock, self.present, lambda: None, size=self.size)
        self.bounded = self.unbounded = self.overflows = 0
        self.overflowed = False

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "box"):
            return
        assert self.reached == self.due_marks
        if not self.box.closed:
            assert self.box.overflows == self.overflows
            assert self.box.empty == (not self.model)


TestMailbox = MailboxMachine.TestCase
TestMailbox.settings = settings(stateful_step_count=30)
