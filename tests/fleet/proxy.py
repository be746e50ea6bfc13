"""A TCP proxy in front of a server, which swallows, stalls or cuts on request."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from types import TracebackType

UP, DOWN = "to the server", "to the client"


class Proxy:
    """Forwards one port of the loopback to another, in a thread of its own.

    Attributes:
        swallowed: Directions whose bytes vanish: UP, DOWN.
        stalled: Directions whose bytes wait, here and then in the sender.
        passed: Bytes so far, by direction.
    """

    def __init__(self, port: int) -> None:
        self.swallowed: set[str] = set()
        self.stalled: set[str] = set()
        self.passed = {UP: 0, DOWN: 0}
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._other: dict[socket.socket, tuple[socket.socket, str]] = {}
        self._dead: set[socket.socket] = set()
        self._refusing = False
        self._cut, self._was_cut = threading.Event(), threading.Event()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join(10)

    @property
    def url(self) -> str:
        """For `open_engine`."""
        return f"etcd://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End every connection before this returns. New ones are taken."""
        self._was_cut.clear()
        self._cut.set()
        assert self._was_cut.wait(10)

    def deaden(self) -> None:
        """Pass nothing more on any connection that there is now. New ones are passed on."""
        self._dead |= self._other.keys()

    def refuse(self, refusing: bool = True) -> None:
        """End new connections at once."""
        self._refusing = refusing

    def _run(self) -> None:
        while not self._end.is_set():
            for key, _ in self._selector.select(0.01):
                assert isinstance(key.fileobj, socket.socket)
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._forward(key.fileobj)
            if self._cut.is_set():
                self._cut.clear()
                self._drop_all()
                self._was_cut.set()
        self._drop_all()
        self._selector.close()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            if self._refusing:
                client.close()
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to), 5)
            except OSError:
                client.close()
                return
            self._other[client] = server, UP
            self._other[server] = client, DOWN
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, one: socket.socket) -> None:
        other, direction = self._other.get(one, (None, ""))
        if other is None or direction in self.stalled:
            return
        try:
            data = one.recv(65536)
            if data and direction not in self.swallowed and one not in self._dead:
                other.settimeout(5)
                other.sendall(data)
                self.passed[direction] += len(data)
        except OSError:
            data = b""
        if not data:
            self._drop(one)

    def _drop(self, one: socket.socket) -> None:
        other, _ = self._other.pop(one, (None, ""))
        for each in (one, other):
            if each is not None:
                self._other.pop(each, None)
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(each)
                each.close()

    def _drop_all(self) -> None:
        while self._other:
            self._drop(next(iter(self._other)))
