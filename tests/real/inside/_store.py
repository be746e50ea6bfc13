"""Writing to xenstore through libxenstore.

Without transactions, though libxl uses them: each costs two more requests, and with hundreds of
domains a request takes milliseconds. What a reader may see in between, it may also see between
two transactions.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress

from ._libxen import Libraries, failed

_NO_TRANSACTION = 0

Name = str | bytes


class StoreWriter:
    """A connection to xenstored, opened at the first use and again if xenstored was restarted."""

    def __init__(self, libraries: Libraries) -> None:
        self._ffi = libraries.ffi
        self._store = libraries.store
        self._handle: object = None

    def write(self, path: str, value: Name) -> None:
        """Write a node, and make those above it."""
        data = as_bytes(value)
        self._ask(
            f"xs_write({path})",
            lambda xs: self._store.xs_write(xs, _NO_TRANSACTION, path.encode(), data, len(data)),
        )

    def remove(self, path: str) -> None:
        """Remove a node and all below it; that it is not there is fine."""
        with suppress(FileNotFoundError):
            self._ask(
                f"xs_rm({path})", lambda xs: self._store.xs_rm(xs, _NO_TRANSACTION, path.encode())
            )

    def introduce(self, domid: int, frame: int, port: int) -> None:
        """Tell xenstored of a domain: its store page and event channel."""
        self._ask(
            f"xs_introduce_domain({domid})",
            lambda xs: self._store.xs_introduce_domain(xs, domid, frame, port),
        )

    def release(self, domid: int) -> None:
        """Make xenstored forget a domain that still exists."""
        self._ask(
            f"xs_release_domain({domid})", lambda xs: self._store.xs_release_domain(xs, domid)
        )

    def resume(self, domid: int) -> None:
        """Tell xenstored that a domain which stopped runs again."""
        self._ask(f"xs_resume_domain({domid})", lambda xs: self._store.xs_resume_domain(xs, domid))

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        if self._handle is not None:
            self._store.xs_close(self._handle)
            self._handle = None

    def _ask(self, call: str, request: Callable[[object], bool]) -> None:
        if request(self._open()):
            return
        error = failed(self._ffi, call)
        if error.errno in (errno.EPIPE, errno.EBADF, errno.ECONNRESET, errno.EIO):
            self.close()  # another xenstored listens by now, or opening fails with its own error
            if request(self._open()):
                return
            error = failed(self._ffi, call)
        raise error

    def _open(self) -> object:
        if self._handle is None:
            handle = self._store.xs_open(0)
            if handle == self._ffi.NULL:
                raise failed(self._ffi, "xs_open")
            self._handle = handle
        return self._handle


def as_bytes(name: Name) -> bytes:
    """A name as xenstore keeps it. Names that are not UTF-8 come as bytes or with surrogates."""
    return name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")
