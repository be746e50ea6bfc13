"""Packets of the xenstore protocol, as they lie in a stream. No I/O.

Source: xen/include/public/io/xs_wire.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

_HEADER: Final = struct.Struct("=IIII")  # type, request id, transaction id, length of the payload
_LONGEST: Final = 1 << 20
"""A longer reply is garbage. oxenstored and old xenstored do send more than 4,096 bytes."""


class TooLong(Exception):
    """What comes is no packet; the message says of how many bytes it would be."""


def packet(operation: int, request: int, payload: bytes) -> bytes:
    """One, outside a transaction."""
    return _HEADER.pack(operation, request, 0, len(payload)) + payload


def cut(received: bytearray) -> Iterator[tuple[int, int, bytes]]:
    """Type, request id and payload of each that has come whole, and is taken away in the end.

    Raises TooLong.
    """
    at = 0
    while len(received) - at >= _HEADER.size:
        operation, request, _, length = _HEADER.unpack_from(received, at)
        if length > _LONGEST:
            raise TooLong(f"a packet of {length} bytes")
        end = at + _HEADER.size + length
        if len(received) < end:
            break
        yield operation, request, bytes(received[at + _HEADER.size : end])
        at = end
    del received[:at]
