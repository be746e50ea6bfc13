"""The device tree that an Arm host is booted with can be read and written without loss."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.real.build.devicetree import Node, read, write

names = st.text("abc,#@-0123456789", min_size=1, max_size=9)
leaves = st.builds(Node, st.dictionaries(names, st.binary(max_size=9)), st.just({}))
nodes = st.recursive(
    leaves,
    lambda below: st.builds(
        Node, st.dictionaries(names, st.binary(max_size=9)), st.dictionaries(names, below)
    ),
    max_leaves=8,
)


@given(nodes)
def test_what_is_written_is_read(root: Node) -> None:
    """Properties of any length and nodes at any depth come back, in their order."""
    again = read(write(root))
    assert again == root
    assert list(again.nodes) == list(root.nodes)
    assert list(again.properties) == list(root.properties)


def test_numbers_and_texts() -> None:
    """They are kept as the specification says: big-endian, and ended by a NUL each."""
    node = Node()
    node.cells("reg", 0, 0x49000000)
    node.text("compatible", "multiboot,kernel", "multiboot,module")
    assert node.properties == {
        "reg": bytes.fromhex("00000000 49000000"),
        "compatible": b"multiboot,kernel\0multiboot,module\0",
    }
