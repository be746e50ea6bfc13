"""Whose unique id is asked, on a Xen that has them: whoever may be another life unnoticed."""

from __future__ import annotations

import pytest

from domindex.core.nodes import Node, NodeValue
from domindex.domain import OSType, ShutdownReason
from domindex.ports import Row, Watch
from tests.core.by_hand import Watcher, row

NODE = Node(7, b"/local/domain/7/memory/target")


@pytest.fixture
def watcher(watcher: Watcher) -> Watcher:
    """Two named domains at rest."""
    watcher.settle(row(7, 1), row(8, 2), ids={7: 71, 8: 81}, d7=b"web", d8=b"db")
    return watcher


def suspects(watcher: Watcher, *rows: Row) -> list[int]:
    return watcher.reconciler.suspects(rows, thorough=False)


def follow(watcher: Watcher) -> Watch:
    """The watch of a node of domain 7, whose first value has been told."""
    watcher.reconciler.follow(watcher.held[7].life, NODE)
    (watch,) = watcher.ask()[1]
    hear(watcher, b"1")
    watcher.see(row(7, 1), row(8, 2), ids={7: 71})
    assert watcher.reconciler.nodes.certain_values() == [NodeValue(NODE, b"1", True)]
    return watch


def hear(watcher: Watcher, value: bytes) -> None:
    """The followed node is read."""
    unread = watcher.reconciler.nodes.unread()
    watcher.reconciler.nodes.on_values([(node, value) for node in unread])


def test_a_followed_node_that_was_heard_makes_its_domain_a_suspect(watcher: Watcher) -> None:
    """P1: die, be made again with the same uuid, write: the value is the next life's."""
    watch = follow(watcher)
    assert suspects(watcher, row(7, 1), row(8, 2)) == []
    watcher.reconciler.on_watch_events([watch])
    hear(watcher, b"2")
    assert suspects(watcher, row(7, 1), row(8, 2)) == [7]
    watcher.see(row(7, 1), row(8, 2), ids={7: 72})
    assert watcher.reconciler.nodes.certain_values() == []


def test_what_was_heard_of_a_node_is_confirmed_once(watcher: Watcher) -> None:
    """P11: then its domain is no suspect any more."""
    follow(watcher)
    assert suspects(watcher, row(7, 1), row(8, 2)) == []


def test_a_shutdown_alone_makes_its_domain_a_suspect(watcher: Watcher) -> None:
    """P3: die, be made again with the same uuid, shut down: it was the next life that did."""
    stopped = row(7, 1, shutdown=ShutdownReason.POWEROFF)
    assert suspects(watcher, stopped, row(8, 2)) == [7]
    watcher.see(stopped, row(8, 2))
    assert suspects(watcher, stopped, row(8, 2)) == []
    assert suspects(watcher, row(7, 1), row(8, 2)) == [7]  # it was resumed


def test_a_life_without_a_name_is_always_a_suspect(watcher: Watcher) -> None:
    """P2: no watch of a name tells that it was replaced by its like, and the row is the same."""
    nine = row(9)
    watcher.settle(row(7, 1), row(8, 2), nine, ids={9: 91}, d7=b"web", d8=b"db")
    for _ in range(2):
        assert suspects(watcher, row(7, 1), row(8, 2), nine) == [9]
        watcher.see(row(7, 1), row(8, 2), nine, ids={9: 91})
    watcher.fire(9)
    watcher.read(d9=b"new")
    watcher.see(row(7, 1), row(8, 2), nine, ids={9: 91})
    assert suspects(watcher, row(7, 1), row(8, 2), nine) == []


def test_an_event_that_names_a_domid_makes_it_a_suspect(watcher: Watcher) -> None:
    """P3: an end or a birth, whatever the row says."""
    watcher.reconciler.on_watch_events([Watch(b"@releaseDomain/8", b"release")])
    assert suspects(watcher, row(7, 1), row(8, 2)) == [8]
    watcher.see(row(7, 1), scope={7})  # a look at another one
    assert suspects(watcher, row(7, 1), row(8, 2)) == [8]
    watcher.see(row(8, 2), scope={8}, ids={8: 81})
    assert suspects(watcher, row(7, 1), row(8, 2)) == []


@pytest.mark.parametrize(
    "changed",
    [
        row(7, 3),
        row(7, 1, type=OSType.HVM),
        row(7, 1, frame=0x1000),
    ],
    ids=["handle", "type", "frame"],
)
def test_each_difference_in_a_row_makes_it_a_suspect(watcher: Watcher, changed: Row) -> None:
    """P3: whichever of them another life may show alone."""
    assert suspects(watcher, changed, row(8, 2)) == [7]


def test_cpu_time_makes_a_suspect_only_where_it_fell(watcher: Watcher) -> None:
    """P3, P11: every life that runs has more of it at each look."""
    hour = 3600 * 10**9
    watcher.see(row(7, 1, cpu_time=hour), row(8, 2))
    assert suspects(watcher, row(7, 1, cpu_time=hour + 1), row(8, 2)) == []
    assert suspects(watcher, row(7, 1, cpu_time=1), row(8, 2)) == [7]
