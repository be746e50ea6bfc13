"""A flattened device tree, read and written: what a machine tells its kernel of itself.

Source: Devicetree Specification 0.4, chapter 5 (Flattened Devicetree Format).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

_MAGIC, _VERSION, _COMPATIBLE_WITH = 0xD00DFEED, 17, 16
_BEGIN, _END, _PROPERTY, _LAST = 1, 2, 3, 9
_HEADER = ">10I"


@dataclass
class Node:
    """A node with its properties, and the nodes below it by their names."""

    properties: dict[str, bytes] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)

    def cells(self, name: str, *values: int) -> None:
        """Set a property of 32-bit numbers."""
        self.properties[name] = struct.pack(f">{len(values)}I", *values)

    def text(self, name: str, *values: str) -> None:
        """Set a property of one string, or more."""
        self.properties[name] = b"".join(value.encode() + b"\0" for value in values)


def read(tree: bytes) -> Node:
    """The root of a flattened tree. Reserved memory outside of it is left out."""
    magic, _, at, strings, *_ = struct.unpack_from(_HEADER, tree)
    assert magic == _MAGIC

    def number() -> int:
        nonlocal at
        (value,) = struct.unpack_from(">I", tree, at)
        at += 4
        return int(value)

    def string(start: int) -> str:
        return tree[start : tree.index(b"\0", start)].decode()

    top = Node()
    path = [top]
    while (token := number()) != _LAST:
        if token == _BEGIN:
            name = string(at)
            at = _aligned(at + len(name) + 1)
            path.append(path[-1].nodes.setdefault(name, Node()))
        elif token == _PROPERTY:
            length, name_at = number(), number()
            path[-1].properties[string(strings + name_at)] = tree[at : at + length]
            at = _aligned(at + length)
        elif token == _END:
            path.pop()
    return top.nodes[""]


def write(root: Node) -> bytes:
    """A flattened tree of what is below `root`."""
    names: dict[str, int] = {}
    strings = bytearray()

    def name_at(name: str) -> int:
        if name not in names:
            names[name] = len(strings)
            strings.extend(name.encode() + b"\0")
        return names[name]

    def flat(name: str, node: Node) -> bytes:
        parts = [struct.pack(">I", _BEGIN), _padded(name.encode() + b"\0")]
        for key, value in node.properties.items():
            parts += [struct.pack(">3I", _PROPERTY, len(value), name_at(key)), _padded(value)]
        parts += [flat(key, below) for key, below in node.nodes.items()]
        return b"".join(parts) + struct.pack(">I", _END)

    body = flat("", root) + struct.pack(">I", _LAST)
    reserved = bytes(16)  # the end of an empty list
    header = struct.calcsize(_HEADER)
    body_at = header + len(reserved)
    strings_at = body_at + len(body)
    total = strings_at + len(strings)
    return (
        struct.pack(
            _HEADER,
            *(_MAGIC, total, body_at, strings_at, header, _VERSION, _COMPATIBLE_WITH, 0),
            *(len(strings), len(body)),
        )
        + reserved
        + body
        + strings
    )


def _aligned(at: int) -> int:
    return -(-at // 4) * 4


def _padded(data: bytes) -> bytes:
    return data.ljust(_aligned(len(data)), b"\0")
