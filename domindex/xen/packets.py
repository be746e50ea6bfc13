"""Packets of the xenstore protocol: what is sent, and what is cut out of a stream. No I/O.

Read after _pyxs.py; next watches.py.

A packet is a header of four 32-bit numbers (operation, request id, transaction id, length of the
payload) and the payload. A reply carries the id and the operation of its request, or the operation
ERROR and the name of an errno. An event of a watch carries the id 0.

Source: xen/include/public/io/xs_wire.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from domindex.domain import printable
from domindex.errors import StoreError
from domindex.keys import decode_name
from domindex.xen._pyxs import Op, number_of

_HEADER: Final = struct.Struct("=IIII")
_LONGEST: Final = 1 << 20
"""Bytes of a payload. The protocol allows 4,096, but oxenstored and old C xenstored send longer
replies. A length above this one is garbage, and memory must not be set aside for it."""
_LONGEST_ERROR: Final = 40
"""Bytes of the name of an error that are shown to people."""

_NAMES: Final[dict[int, str]] = {number: name for name, number in Op._asdict().items()}
_WITH_PATH: Final = (Op.READ, Op.WATCH, Op.UNWATCH)


class Garbage(Exception):
    """The bytes are not of this protocol; the message says what came."""


class Request:
    """One request, and what xenstored answered once it has.

    operation, payload: as they are sent; each word of the payload ends with a NUL.
    reply: the payload of the reply. error: the errno that came instead, by name, such as ENOENT.
    """

    __slots__ = ("error", "operation", "payload", "reply")

    def __init__(self, operation: int, *words: bytes) -> None:
        self.operation: int = operation
        self.payload: bytes = b"\0".join((*words, b""))
        self.reply: bytes = b""
        self.error: bytes | None = None

    def packet(self, request_id: int) -> bytes:
        """The bytes to send. No transaction is ever used, so its id is 0."""
        return _HEADER.pack(self.operation, request_id, 0, len(self.payload)) + self.payload

    @property
    def name(self) -> str:
        """The operation, for people."""
        return _NAMES[self.operation]

    @property
    def path(self) -> str | None:
        """The path that it is about, fit to be printed; None if it is not about one."""
        if self.operation not in _WITH_PATH:
            return None
        return printable(decode_name(self.payload.partition(b"\0")[0]))

    def __str__(self) -> str:
        path = self.path
        return self.name if path is None else f"{self.name} of {path}"

    def refusal(self) -> StoreError | None:
        """The error for the caller; None if xenstored did not refuse."""
        if self.error is None:
            return None
        shown = printable(self.error[:_LONGEST_ERROR].decode("ascii", "replace"))
        return StoreError(
            f"xenstored refuses {self}: {shown}",
            number_of(self.error),
            operation=self.name,
            path=self.path,
        )


def cut(received: bytearray) -> Iterator[tuple[int, int, bytes]]:
    """Operation, request id and payload of each complete packet at the start of `received`.

    They are removed from `received` when the iteration ends. Raises Garbage.
    """
    at = 0
    while len(received) - at >= _HEADER.size:
        operation, request_id, _, length = _HEADER.unpack_from(received, at)
        if length > _LONGEST:
            raise Garbage(f"a packet of {length} bytes")
        end = at + _HEADER.size + length
        if len(received) < end:
            break
        yield operation, request_id, bytes(received[at + _HEADER.size : end])
        at = end
    # Once for all of them: each removal moves all bytes that follow.
    del received[:at]
