"""The mailbox against the simplest thing that is right: a list; the listener comes at random."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import takewhile

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domindex.events import Event, Recovered, Resync
from domindex.listening.mailbox import Mailbox


def event(number: int) -> Event:
    return Recovered(float(number))


class MailboxMachine(RuleBasedStateMachine):
    """`model` has what is still to be taken: events, and a Resync; numbers between them stand for
    somebody who drains it, and are done once all before them was handled."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.RLock()
        self.model: list[Event | int] = []
        self.bounded = 0  # events in the model that count against the bound
        self.overflowed = False
        self.overflows = self.put_ever = self.marks = 0
        self.until: dict[int, int] = {}  # how much was put in when they came
        self.due_marks: list[int] = []

    @initialize(size=st.integers(1, 4), begins=st.integers(0, 6))
    def begin(self, size: int, begins: int) -> None:
        self.size = size
        self.box: Mailbox[Event] = Mailbox(self.lock, self.present, lambda: None, size=size)
        first = [event(-number) for number in range(1, begins + 1)]
        self.box.begin(first)
        self.model += first
        self.unbounded = begins
        self.settled = not begins  # the last that was taken was handled

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
            first = list(takewhile(lambda waiting: isinstance(waiting, int), rest))
            marks = [waiting for waiting in rest[len(first) :] if isinstance(waiting, int)]
            self.model[self.unbounded :] = [*first, Resync(()), *marks]
            self.bounded = 0
        else:
            self.model += events
            self.bounded += count

    @rule()
    def mark(self) -> None:
        """Somebody drains it."""
        self.marks += 1
        self.until[self.marks] = self.box._put
        if self.settled and all(isinstance(waiting, int) for waiting in self.model):
            self.due_marks.append(self.marks)
        else:
            self.model.append(self.marks)

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
            if self.unbounded and expected is not None:
                self.unbounded -= 1
            elif isinstance(expected, Resync):
                self.overflowed = False
            elif expected is not None:
                self.bounded -= 1
            assert self.box.take() == expected
            self.settled = expected is None

    @rule()
    def close_and_begin_anew(self) -> None:
        """Nothing more is told."""
        self.box.close()
        assert self.box.take() is None
        assert not self.box.drained(0)
        self.model.clear()
        self.until.clear()
        self.due_marks.clear()
        self.box = Mailbox(self.lock, self.present, lambda: None, size=self.size)
        self.bounded = self.unbounded = self.overflows = 0
        self.settled = True
        self.overflowed = False

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "box"):
            return
        for number, until in self.until.items():
            assert (self.box._handled >= until) == (number in self.due_marks)
        if not self.box.closed:
            assert self.box.overflows == self.overflows
            assert self.box.empty == all(isinstance(waiting, int) for waiting in self.model)


TestMailbox = MailboxMachine.TestCase
TestMailbox.settings = settings(stateful_step_count=30)
