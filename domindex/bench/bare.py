"""The host asked with nothing around it: the floor of whatever has to ask it.

Sources: docs/misc/xenstore.txt and xen/include/public/io/xs_wire.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

_HEADER: Final = struct.Struct("=IIII")
_READ, _WATCH, _GET_DOMAIN_PATH, _WRITE, _RM, _EVENT, _ERROR = 2, 4, 10, 11, 13, 15, 16
_AT_ONCE: Final = 512
"""Requests sent before replies are taken in: their replies fit into a socket's memory."""
_TIME_LIMIT: Final = 120.0


class BareList:
    """The list hypercall for at most so many domains from a domid on, its answer left where it is.

    Opened and probed by the library; from there on only its prepared call is used.
    """

    def __init__(self, most: int = 1) -> None:
        from domindex.xen import _privcmd
        from domindex.xen.hypercall import PrivcmdHypervisor

        self._hypervisor = PrivcmdHypervisor()
        self._list = made = self._hypervisor._list(most)  # its memory lives as long as it does
        self._header, self._prepared = made.header, made.prepared
        self._fd = self._hypervisor._privcmd._fd
        self._ioctl, self._number = _privcmd.libc.ioctl, _privcmd.IOCTL_HYPERCALL
        if self(0) < 0 or self._header.num_domains < 1:
            raise OSError("a bare hypercall lists no domain")

    def __call__(self, domid: int) -> int:
        self._header.first_domain = domid
        return self._ioctl(self._fd, self._number, self._prepared)

    def close(self) -> None:
        self._hypervisor.close()


class Refused(OSError):
    """xenstored answered with an error."""


class BareLine:
    """Requests in, replies out, in order. Where the socket is, as libxenstore has it.

    Raises OSError if there is none, or if it is silent for long.
    """

    def __init__(self) -> None:
        directory = os.environ.get("XENSTORED_RUNDIR", "/var/run/xenstored")
        path = os.environ.get("XENSTORED_PATH", f"{directory}/socket")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(_TIME_LIMIT)
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise
        self._received = bytearray()

    def close(self) -> None:
        self._socket.close()

    def round_trip(self) -> None:
        """Ask for something that is not looked up in the store."""
        self._ask([(_GET_DOMAIN_PATH, b"0\0")])

    def read(self, paths: Sequence[bytes]) -> list[bytes]:
        """The nodes, pipelined; an error is one as well."""
        return self._ask((_READ, path + b"\0") for path in paths)

    def watch(self, paths: Sequence[bytes]) -> None:
        """Watch them, pipelined; until the line is closed."""
        self._ask((_WATCH, path + b"\0%d\0" % token) for token, path in enumerate(paths))

    def write(self, path: bytes, value: bytes) -> None:
        """Raises Refused."""
        self._must(_WRITE, path + b"\0" + value)

    def remove(self, path: bytes) -> None:
        """Raises Refused."""
        self._must(_RM, path + b"\0")

    def _must(self, operation: int, body: bytes) -> None:
        self._send(_HEADER.pack(operation, 1, 0, len(body)) + body)
        kind, said = self._reply()
        if kind == _ERROR:
            raise Refused(said.rstrip(b"\0").decode("ascii", "replace"))

    def _ask(self, requests: Iterable[tuple[int, bytes]]) -> list[bytes]:
        replies: list[bytes] = []
        waiting = iter(requests)
        while some := list(islice(waiting, _AT_ONCE)):
            self._send(
                b"".join(
                    _HEADER.pack(operation, 1, 0, len(body)) + body for operation, body in some
                )
            )
            replies += [self._reply()[1] for _ in some]
        return replies

    def _send(self, data: bytes) -> None:
        self._socket.sendall(data, socket.MSG_NOSIGNAL)  # no SIGPIPE: it would end the program

    def _reply(self) -> tuple[int, bytes]:
        while True:
            kind, _, _, length = _HEADER.unpack(self._exactly(_HEADER.size))
            body = self._exactly(length)
            if kind != _EVENT:
                return kind, body

    def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionResetError("xenstored has closed the line")
            self._received += data
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken
