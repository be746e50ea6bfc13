"""What is taken of pyxs: connections, operation numbers and the names of errors.

The only file that imports it. A connection is opened here, with a time limit; what goes over it
is xenstore.py's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import warnings
from collections.abc import Iterator
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
    """What we use of a pyxs connection, and `write`: as much as goes, without a signal."""

    path: str

    def close(self) -> None: ...
    def fileno(self) -> int: ...
    def write(self, data: bytes | bytearray, /) -> int: ...


class _TimedSocket:
    """pyxs's transport connects without a time limit; xenstored's backlog is one."""

    def __init__(self, path: str, timeout: float) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        forking.register(self.close)  # now: a child may be forked while this connects
        whole = int(timeout)
        limit = struct.pack("ll", whole, int((timeout - whole) * 1e6) or 1)
        try:
            self.sock.settimeout(None)  # whatever socket.setdefaulttimeout was given
            # With this a blocking connect to a full backlog fails after a time; a
            # non-blocking one fails at once.
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
        # Else SIGPIPE, where it has its default action, ends the program with xenstored.
        return int(self.transport.sock.send(data, socket.MSG_NOSIGNAL))


class _BusConnection(XenBusConnection):  # type: ignore[misc]
    def connect(self) -> None:
        super().connect()
        forking.register(self.hang_up)

    def write(self, data: bytes | bytearray, /) -> int:
        return os.write(self.fileno(), data)

    def hang_up(self) -> None:
        hang_up(self)


@contextlib.contextmanager
def opened(path: str, timeout: float) -> Iterator[Connection]:
    """A connection by socket for the length of a block."""
    connection, _ = connect("socket", path, timeout)
    try:
        yield connection
    finally:
        hang_up(connection)


def hang_up(connection: Connection) -> None:
    """Close it, whatever state it is in."""
    with contextlib.suppress(OSError, PyxsConnectionError):
        connection.close()


def number_of(error: bytes) -> int | None:
    """The errno of an error that xenstored names. Unknown names (oxenstored's EQUOTA) have none."""
    return (pyxs_error(error).args[0] or None) if error.isascii() else None


def connect(transport: str | None, path: str | None, timeout: float) -> tuple[Connection, bool]:
    """An open connection, and whether it is the xenbus. Raises StoreLost, AccessDenied.

    Without `transport` it is the socket, or the xenbus where the socket is not there or nobody
    serves it, as with libxenstore; a `path` that was given says which one it is. Nothing is
    asked yet: the xenbus may be there, and nobody answer through it.
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
    if number is None:  # pyxs wraps what the system said: the sentence ends with (number, text)
        number = next((code for code in errno.errorcode if f"({code}," in str(error)), None)
    if number in (errno.EACCES, errno.EPERM):
        return AccessDenied(f"xenstore at {path} may not be opened; run as root", number)
    why = ""
    if number == errno.ECONNREFUSED:  # what a plain file gives, too
        why = " (nobody serves that socket)" if stat.S_ISSOCK(_mode(path)) else " (it is no socket)"
    return StoreLost(
        f"xenstore at {path} cannot be reached{why}{hint}; is xenstored running?", number
    )
