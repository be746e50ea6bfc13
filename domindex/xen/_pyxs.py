"""What is used of pyxs: connections, operation numbers and the names of errors.

The only file that imports pyxs. A connection is opened here, with a time limit; what goes over it
is the subject of line.py. Its client is not used: when xenstored ends, its calls never return.

Read first of the files about xenstore; next packets.py.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import warnings
from typing import Any, Protocol

from domindex import forking
from domindex.errors import AccessDenied, InvalidKey, StoreLost

with warnings.catch_warnings():
    # In a control domain pyxs, when imported, leaves a file to the garbage collector to close.
    warnings.simplefilter("ignore", ResourceWarning)
    from pyxs._internal import Op as Op
    from pyxs.connection import UnixSocketConnection, XenBusConnection
    from pyxs.exceptions import ConnectionError as PyxsConnectionError
    from pyxs.helpers import error as pyxs_error


class Connection(Protocol):
    """What is used of a connection.

    write: sends as many bytes as the connection takes now, and returns their number.
    """

    path: str

    def close(self) -> None: ...
    def fileno(self) -> int: ...
    def write(self, data: bytes | bytearray, /) -> int: ...


class _TimedSocket:
    """A transport for pyxs that connects within a time limit.

    That of pyxs has none, and xenstored has a backlog of one connection, so connecting may wait.
    """

    def __init__(self, path: str, timeout: float) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        forking.register(self.close)  # before connecting: another thread may fork meanwhile
        whole = int(timeout)
        limit = struct.pack("ll", whole, int((timeout - whole) * 1e6) or 1)
        try:
            self.sock.settimeout(None)  # whatever socket.setdefaulttimeout was given
            # With a send timeout, connecting to a full backlog waits so long for a place. A socket
            # that does not block, as settimeout() makes it, would fail at once with EAGAIN.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self.sock.connect(path)
        except BaseException:
            self.sock.close()
            raise

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()


class _TimedUnixSocketConnection(UnixSocketConnection):  # type: ignore[misc]  # pyxs is untyped
    timeout = 5.0

    def create_transport(self) -> Any:
        return _TimedSocket(self.path, self.timeout)

    def write(self, data: bytes | bytearray, /) -> int:
        # Without the flag, a write after the end of xenstored raises SIGPIPE. Python ignores that
        # signal, but a program may have restored its default action, which ends the process.
        return int(self.transport.sock.send(data, socket.MSG_NOSIGNAL))


class _BusConnection(XenBusConnection):  # type: ignore[misc]
    def connect(self) -> None:
        super().connect()
        forking.register(self.hang_up)

    def write(self, data: bytes | bytearray, /) -> int:
        return os.write(self.fileno(), data)

    def hang_up(self) -> None:
        hang_up(self)


def hang_up(connection: Connection) -> None:
    """Close a connection, whatever state it is in. May be called twice."""
    with contextlib.suppress(OSError, PyxsConnectionError):
        connection.close()


def number_of(error: bytes) -> int | None:
    """The errno of this name; None for a name that is not known, as EQUOTA of oxenstored."""
    return (pyxs_error(error).args[0] or None) if error.isascii() else None


def connect(transport: str | None, path: str | None, timeout: float) -> tuple[Connection, bool]:
    """Open a connection; nothing is asked yet.

    As with libxenstore, the default is the socket, and the xenbus where there is no socket or no
    xenstored serves it. The device of the xenbus may be there without a xenstored behind it.

    Args:
        transport: "socket", "xenbus", or None for the default.
        path: Of the socket or the device. If it is given and `transport` is not, only this path is
            tried, and its kind decides.
        timeout: Seconds to wait for a place in the backlog of the socket.

    Returns:
        The connection, and whether it is the xenbus.

    Raises:
        StoreLost: xenstored cannot be reached.
        AccessDenied: This process may not open it.
        InvalidKey: There is no such transport.
    """
    if transport not in (None, "socket", "xenbus"):
        raise InvalidKey(f"transport is 'socket', 'xenbus' or None, not {transport!r}")
    line: Any = _TimedUnixSocketConnection(path)
    line.timeout = timeout
    if transport != "socket" and _is_character_device(line.path):
        # XENSTORED_PATH may name the device, as it does for libxenstore.
        return _connected(_BusConnection(line.path)), True
    if transport == "xenbus":
        return _connected(_BusConnection(path)), True
    usual, hint = _BusConnection(), ""
    if transport is None and not os.path.exists(usual.path):
        hint = f", and there is no {usual.path} to reach it through"
    elif transport is None and path:
        hint = f", while there is {usual.path}, for which transport='xenbus' asks"
    try:
        return _connected(line, hint), False
    except StoreLost as error:
        if transport or hint or error.errno not in _UNSERVED:
            raise
    return _connected(usual), True


_UNSERVED = (errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED, errno.ENOTSOCK, errno.EPROTOTYPE)
"""Errors that mean: no xenstored is at that path. Others, such as a full backlog, mean it is."""


def socket_path() -> str:
    """Where the socket is expected."""
    return str(UnixSocketConnection().path)


def _connected(line: Any, hint: str = "") -> Connection:
    try:
        line.connect()
    except (OSError, PyxsConnectionError) as error:
        raise _unreachable(line.path, error, hint) from None
    connection: Connection = line
    return connection


def _is_character_device(path: str) -> bool:
    return stat.S_ISCHR(_mode(path))


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except (OSError, ValueError):
        return 0


def _unreachable(path: str, error: Exception, hint: str) -> StoreLost | AccessDenied:
    number = error.errno if isinstance(error, OSError) else None
    if number is None:  # pyxs raises an error of its own, whose sentence ends with (number, text)
        number = next((code for code in errno.errorcode if f"({code}," in str(error)), None)
    if number in (errno.EACCES, errno.EPERM):
        return AccessDenied(f"xenstore at {path} may not be opened; run as root", number)
    why = ""
    if number == errno.ECONNREFUSED:  # what a plain file gives, too
        why = (
            " (no process serves that socket)"
            if stat.S_ISSOCK(_mode(path))
            else " (it is no socket)"
        )
    return StoreLost(
        f"xenstore at {path} cannot be reached{why}{hint}; is xenstored running?", number
    )
