"""The host asked with nothing around it: the least that an answer can cost.

Read after ways.py; next floors.py.

Sources: docs/misc/xenstore.txt, xen/include/public/sysctl.h and .../io/xs_wire.h.
"""

from __future__ import annotations

import os
import platform
import socket
import struct
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final, cast

_SYSCTL, _GETDOMAININFOLIST = 35, 6
_ENTRIES: Final = 144
"""Where the entries begin, behind the struct of the call."""

_HEADER: Final = struct.Struct("=IIII")
_READ, _WATCH, _GET_DOMAIN_PATH, _WRITE, _RM, _EVENT, _ERROR = 2, 4, 10, 11, 13, 15, 16
_AT_ONCE: Final = 512
"""Requests that are sent before replies are read: their replies fit into a socket's buffer."""
_TIME_LIMIT: Final = 120.0


class BareList:
    """The list hypercall for at most `most` domains from a domid on; its answer is not read.

    It is one ioctl on a prepared call, on a descriptor of its own. The package only gives the
    memory that Xen can reach, and the versions.

    Raises:
        NotControlDomain, AccessDenied, HypercallFailed: as when a hypervisor is opened.
        OSError: Xen takes none of the versions.
    """

    def __init__(self, most: int = 1) -> None:
        # Imported here: a simulated host needs no cffi.
        from domindex.xen._privcmd import IOCTL_HYPERCALL, PRIVCMD, Privcmd, ffi, libc
        from domindex.xen.layouts import RELEASES

        self._privcmd = privcmd = Privcmd()
        machine = platform.machine()
        known = [layout for release in RELEASES if (layout := release.layout(machine))]
        room = most * max(layout.size for layout in known)
        self._memory = memory = privcmd.memory(_ENTRIES + room)  # the casts do not keep it
        self._header = cast(Any, ffi.cast("struct sysctl_list *", memory.at))
        self._header.cmd = _GETDOMAININFOLIST
        self._header.max_domains = most
        self._header.buffer = memory.address + _ENTRIES
        self._prepared = privcmd.prepare(_SYSCTL, memory.address)
        device = next(path for path in PRIVCMD if os.path.exists(path))
        self._fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        self._ioctl, self._number = libc.ioctl, IOCTL_HYPERCALL
        for release in RELEASES:
            self._header.interface_version = release.sysctl
            if privcmd.call(self._prepared) >= 0 and self._header.num_domains:
                return
        self.close()
        raise OSError("a bare hypercall lists no domain")

    def __call__(self, domid: int) -> int:
        self._header.first_domain = domid
        return self._ioctl(self._fd, self._number, self._prepared)

    def close(self) -> None:
        os.close(self._fd)
        self._privcmd.close()


class Refused(OSError):
    """xenstored answered with an error."""


class BareLine:
    """A connection to xenstored: requests and their replies in order, events skipped.

    The path of the socket is found as libxenstore finds it.

    Raises:
        OSError: there is no socket, or no reply within two minutes.
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
        """One request whose answer xenstored has without looking into the store."""
        self._ask([(_GET_DOMAIN_PATH, b"0\0")])

    def read(self, paths: Sequence[bytes]) -> list[bytes]:
        """The values of these nodes, pipelined. The word of an error is a value too."""
        return self._ask((_READ, path + b"\0") for path in paths)

    def watch(self, paths: Sequence[bytes]) -> None:
        """Watch these nodes, pipelined, until the line is closed."""
        self._ask((_WATCH, path + b"\0%d\0" % token) for token, path in enumerate(paths))

    def write(self, path: bytes, value: bytes) -> None:
        """Write a node. Raises Refused."""
        self._must(_WRITE, path + b"\0" + value)

    def remove(self, path: bytes) -> None:
        """Remove a node and all below it. Raises Refused."""
        self._must(_RM, path + b"\0")

    def _must(self, operation: int, body: bytes) -> None:
        self._send(_HEADER.pack(operation, 1, 0, len(body)) + body)
        kind, answer = self._reply()
        if kind == _ERROR:
            raise Refused(answer.rstrip(b"\0").decode("ascii", "replace"))

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
                raise ConnectionResetError("xenstored has closed the connection")
            self._received += data
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken
