"""What can be wrong with an answer of xenstored: rules for `FakeXenstored.rule`."""

from __future__ import annotations

from .fake_xenstored import Answer, FakeXenstored, Request, Rule, packet


def refuse(name: bytes) -> Rule:
    """Refuse it with this error, and do nothing."""
    return lambda request, _: [request.error(name)]


def say(*packets: bytes) -> Rule:
    """Send these bytes instead of the answer."""
    return lambda *_: packets


def silent(*_: object) -> list[bytes]:
    """Say nothing."""
    return []


def before(*packets: bytes) -> Rule:
    """Send these first, then the right answer."""
    return lambda _, answer: [*packets, *answer()]


def after(*packets: bytes) -> Rule:
    """Send the right answer, then these."""
    return lambda _, answer: [*answer(), *packets]


def twice(_: Request, answer: Answer) -> list[bytes]:
    """Send the right answer twice."""
    return [*(packets := answer()), *packets]


def of_type(op: int) -> Rule:
    """Say it is an answer to another kind of request."""
    return lambda request, _: [packet(op, b"OK\0", request.id)]


def with_id(number: int) -> Rule:
    """Say it is the answer to another request."""
    return lambda request, _: [packet(request.op, b"OK\0", number)]


def value(payload: bytes) -> Rule:
    """Answer with this payload."""
    return lambda request, _: [request.reply(payload)]


def half(count: int, *, close: bool = False) -> Rule:
    """Send the first `count` bytes of the answer; then nothing more, or close the line."""

    def rule(request: Request, answer: Answer) -> list[bytes]:
        request.client.answers = False
        request.client.closing = close
        return [b"".join(answer())[:count]]

    return rule


class Hold:
    """Keep the answers back until the test lets them go.

    held: the packets of each request that waits, oldest first.
    """

    def __init__(self, xenstored: FakeXenstored) -> None:
        self._xenstored = xenstored
        self.held: list[tuple[Request, list[bytes]]] = []
        self.seen = 0

    def __call__(self, request: Request, answer: Answer) -> list[bytes]:
        self.seen += 1
        self.held.append((request, answer()))
        return []

    def let_go(self, count: int | None = None, *, newest_first: bool = False) -> None:
        """Send the answers to the `count` oldest (None: all) of those that wait."""
        with self._xenstored.changed:
            ready, self.held = self.held[:count], self.held[len(self.held[:count]) :]
            for request, packets in reversed(ready) if newest_first else ready:
                request.client.send(*packets)
            self._xenstored.each()
