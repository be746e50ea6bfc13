"""Reading much at once: short-lived connections beside the line that has the watches.

Both xenstoreds answer one request of each connection in a round of their main loop, and a round
visits every connection, those of all guests included: 300 reads on sixteen connections cost a
fraction of the rounds that they cost on one. It is sound for names whose watch was acknowledged
before: what changes after that is told on the line.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from domindex.domain import printable
from domindex.errors import StoreLost
from domindex.keys import decode_name
from domindex.xen import polling
from domindex.xen._pyxs import Op
from domindex.xen.packets import TooLong, cut, packet

_CHUNK = 1 << 16
_PAUSE = 0.005
"""Seconds for which the server is left to its work between two looks at what it has answered."""

Reply = tuple[int, bytes]
"""Type and payload."""


class Connection(Protocol):
    """What is used of a connection here."""

    def fileno(self) -> int: ...
    def write(self, data: bytes, /) -> int: ...


def read_all(
    connections: Sequence[Connection],
    paths: Sequence[bytes],
    timeout: float,
    wake: int,
    pause: Callable[[float], None],
) -> list[Reply]:
    """Read each path over one of the connections; the replies in order of paths.

    timeout: seconds within which some reply must come after the one before.
    pause: waits so many seconds; may raise to give up. wake: a descriptor that is readable when
        it would.

    Raises StoreLost if a connection breaks, is silent, or carries anything else.
    """
    replies: list[Reply | None] = [None] * len(paths)
    try:
        _read(connections, paths, replies, timeout, wake, pause)
    except _Broken as broken:
        why, number = broken.args
        missing = paths[replies.index(None)] if None in replies else paths[-1]
        path = printable(decode_name(missing))
        raise StoreLost(
            f"xenstored {why}, asked for READ of {path}", number, operation="READ", path=path
        ) from None
    return [reply for reply in replies if reply is not None]


class _Broken(Exception):
    """Why no more can be read, and the errno, if there is one."""


def _read(
    connections: Sequence[Connection],
    paths: Sequence[bytes],
    replies: list[Reply | None],
    timeout: float,
    wake: int,
    pause: Callable[[float], None],
) -> None:
    packets = [packet(Op.READ, number, path + b"\0") for number, path in enumerate(paths, 1)]
    readers = {
        connection.fileno(): _Reader(connection, b"".join(packets[number :: len(connections)]))
        for number, connection in enumerate(connections)
    }
    poll = polling.new_poll()
    for fd in readers:
        os.set_blocking(fd, False)
        poll.register(fd, polling.IN | polling.OUT)
    poll.register(wake, polling.IN)
    missing = len(paths)
    deadline = time.monotonic() + timeout
    while missing:
        left = deadline - time.monotonic()
        if left <= 0:
            raise _Broken(f"is silent for {timeout} s", None)
        for fd, event in poll.poll(left * 1000 + 1):
            if fd == wake:
                pause(0)
                continue
            reader = readers[fd]
            if event & polling.OUT and reader.send():
                poll.modify(fd, polling.IN)
            for place, reply in reader.receive():
                if not 0 <= place < len(replies) or replies[place] is not None:
                    raise _Broken("answers a read that nobody sent", None)
                replies[place] = reply
                missing -= 1
                deadline = time.monotonic() + timeout
        if missing:
            pause(_PAUSE)


class _Reader:
    """One connection, and what is on its way there and back."""

    def __init__(self, connection: Connection, unsent: bytes) -> None:
        self._connection = connection
        self._fd = connection.fileno()
        self._unsent = unsent
        self._received = bytearray()

    def send(self) -> bool:
        """As much as goes now; whether that was all."""
        try:
            self._unsent = self._unsent[self._connection.write(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError as error:
            raise _Broken("takes nothing more of a connection", error.errno) from None
        return not self._unsent

    def receive(self) -> list[tuple[int, Reply]]:
        """What has come whole, each with its place."""
        try:
            chunk = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return []
        except OSError as error:
            raise _Broken("cannot be read from", error.errno) from None
        if not chunk:
            raise _Broken("closed a connection", None)
        self._received += chunk
        try:
            return [(request - 1, (kind, body)) for kind, request, body in cut(self._received)]
        except TooLong as error:
            raise _Broken(f"sends {error}", None) from None
