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

from domindex.errors import AccessDenied, InvalidKey, StoreLost

with warnings.catch_warnings():
    # In a control domain pyxs, when imported, leaves a file to the garbage collector to close.
    warnings.simplefilter("ignore", ResourceWarning)
    from pyxs._internal import Op as Op
    from pyxs.connection import UnixSocketConnection, XenBusConnection
    from pyxs.exceptions import ConnectionError as PyxsConnectionError
    from pyxs.helpers import error as pyxs_error


class Connection(Protocol):
    """What we use of a pyxs connection."""

    path: str

    def close(self) -> None: ...
    def fileno(self) -> int: ...


class _TimedSocket:
    """pyxs's transport connects without a time limit; xenstored's backlog is one."""

    def __init__(self, path: str, timeout: float) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        whole = int(timeout)
        limit = struct.pack("ll", whole, int((timeout - whole) * 1e6) or 1)
        try:
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
    """An open connection, and whether it is the xenbus. Raises StoreLost, AccessDenied."""
    if transport not in (None, "socket", "xenbus"):
        raise InvalidKey(f"transport is 'socket', 'xenbus' or None, not {transport!r}")
    line: Any = _TimedUnixSocketConnection(path)
    line.timeout = timeout
    bus: Any = XenBusConnection(path)
    is_bus = transport == "xenbus" or (transport is None and _is_device(line.path, bus.path))
    if is_bus:
        # XENSTORED_PATH may name the device, as it does for libxenstore.
        line = XenBusConnection(line.path) if _is_character_device(line.path) else bus
    try:
        line.connect()
    except (OSError, PyxsConnectionError) as error:
        raise _unreachable(line.path, error) from None
    return line, is_bus


def _is_device(socket_path: str, bus_path: str) -> bool:
    if os.path.exists(socket_path):
        return _is_character_device(socket_path)
    return os.path.exists(bus_path)


def _is_character_device(path: str) -> bool:
    try:
        return stat.S_ISCHR(os.stat(path).st_mode)
    except OSError:
        return False


def _unreachable(path: str, error: Exception) -> StoreLost | AccessDenied:
    number = error.errno if isinstance(error, OSError) else None
    if number is None:  # pyxs wraps what the system said: the sentence ends with (number, text)
        number = next((code for code in errno.errorcode if f"({code}," in str(error)), None)
    if number in (errno.EACCES, errno.EPERM):
        return AccessDenied(f"xenstore at {path} may not be opened; run as root", number)
    return StoreLost(f"xenstore at {path} cannot be reached; is xenstored running?", number)
