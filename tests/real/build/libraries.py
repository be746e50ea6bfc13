"""Which shared libraries a program needs, read from its ELF headers.

Package dependencies would tell too, but with names that change from suite to suite and with
many libraries that only other programs of the package use.

Source: the System V ABI, chapters "Program Loading and Dynamic Linking"; 64 bit, little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

_LOAD, _DYNAMIC = 1, 2  # program header types
_NEEDED, _STRING_TABLE = 1, 5  # dynamic entry tags


def needed(data: bytes) -> list[str]:
    """The names in the NEEDED entries of an ELF file; empty for any other file."""
    if data[:6] != b"\x7fELF\x02\x01":
        return []
    (table,) = struct.unpack_from("<Q", data, 0x20)
    size, count = struct.unpack_from("<HH", data, 0x36)
    loads: list[tuple[int, int, int]] = []  # address, length in the file, offset in the file
    dynamic = (0, 0)
    for header in range(table, table + size * count, size):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", data, header)
        if kind == _LOAD:
            loads.append((address, length, offset))
        elif kind == _DYNAMIC:
            dynamic = (offset, length)
    entries = list(struct.iter_unpack("<QQ", data[dynamic[0] : sum(dynamic)]))
    strings = next((value for tag, value in entries if tag == _STRING_TABLE), 0)
    base = next((o + strings - a for a, n, o in loads if a <= strings < a + n), 0)
    starts = [base + value for tag, value in entries if tag == _NEEDED]
    return [data[start : data.index(b"\0", start)].decode() for start in starts]


def closure(programs: Iterable[Path], search: Sequence[Path]) -> dict[str, Path]:
    """Every library that `programs` need, and those need in turn: name to file.

    search: directories, first match wins. Raises FileNotFoundError for one that is in none.
    """
    found: dict[str, Path] = {}
    waiting = list(programs)
    while waiting:
        program = waiting.pop()
        for name in needed(program.read_bytes()):
            if name not in found:
                path = next((d / name for d in search if (d / name).exists()), None)
                if path is None:
                    raise FileNotFoundError(f"{program} needs {name}, which no package has")
                found[name] = path
                waiting.append(path)
    return found
