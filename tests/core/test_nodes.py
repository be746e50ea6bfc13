"""Nodes that are followed beside the names: which of them are read, and for how long."""

from __future__ import annotations

import pytest

from domindex.core.nodes import Node, NodeValue
from tests.core.by_hand import Watcher, row

DATA = Node(7, b"/local/domain/7/data")
TARGET = Node(7, b"/local/domain/7/memory/target")


@pytest.fixture
def watcher(watcher: Watcher) -> Watcher:
    """Two nodes of domain 7 are followed, and their values are known."""
    watcher.settle(row(7), d7=b"web")
    for node in (DATA, TARGET):
        assert watcher.reconciler.follow(watcher.held[7].life, node)
    assert [watch.path for watch in watcher.ask()[1]] == [DATA.path, TARGET.path]
    assert read(watcher) == [DATA, TARGET]
    watcher.see(row(7))
    assert watcher.reconciler.nodes.certain_values() == [
        NodeValue(DATA, b"1", True),
        NodeValue(TARGET, b"1", True),
    ]
    return watcher


def read(watcher: Watcher) -> list[Node]:
    """Answer all that is unread; what that was, names too."""
    nodes = watcher.reconciler.nodes
    unread = nodes.unread()
    nodes.on_values([(followed, b"1") for followed in unread])
    return [Node(followed.domid, followed.path) for followed in unread]


def test_of_two_nodes_one_may_be_dropped(watcher: Watcher) -> None:
    """P11: its watch goes, and the other is followed as before."""
    data, target = (watcher.watches[node.path] for node in (DATA, TARGET))
    watcher.reconciler.nodes.drop(DATA)
    assert watcher.ask() == ([data], [])
    assert not watcher.reconciler.on_watch_events([data])
    assert watcher.reconciler.on_watch_events([target]).domids == {7}
    assert read(watcher) == [TARGET]


def test_a_doubt_is_about_every_node(watcher: Watcher) -> None:
    """P2: as an event may have been lost for any of them, an audit reads them all."""
    watcher.reconciler.nodes.doubt()
    assert read(watcher) == [Node(7, b"/local/domain/7/name"), DATA, TARGET]


def test_only_an_event_makes_the_same_value_new(watcher: Watcher) -> None:
    """P8: not a doubt, but a new line, on which events may have been missed."""
    nodes = watcher.reconciler.nodes

    def fired() -> list[bool]:
        watcher.ask()
        read(watcher)
        watcher.see(row(7))
        return [value.fired for value in nodes.certain_values()]

    nodes.doubt()
    assert fired() == [False, False]
    watcher.reconciler.on_watch_events([watcher.watches[TARGET.path]])
    assert fired() == [True]
    watcher.reconciler.new_line()
    assert fired() == [True, True]


def test_an_event_amid_the_read_is_another(watcher: Watcher) -> None:
    """P8: whether or not the answer is of after it, there is a value after each event."""
    nodes, target = watcher.reconciler.nodes, watcher.watches[TARGET.path]
    watcher.reconciler.on_watch_events([target])
    for _ in range(2):
        read(watcher)
        watcher.reconciler.on_watch_events([target])
        watcher.see(row(7))
        assert nodes.certain_values() == [NodeValue(TARGET, b"1", True)]


def test_the_end_of_a_life_ends_all_its_nodes(watcher: Watcher) -> None:
    """P3, P11: neither watched nor read, and nothing of them is published."""
    name, *others = watcher.watches.values()
    watcher.fire(7)
    read(watcher)
    watcher.see()
    assert watcher.ask() == ([name, *others], [])
    assert read(watcher) == []
    assert watcher.reconciler.nodes.certain_values() == []


def test_what_has_an_event_first_is_read_first(watcher: Watcher) -> None:
    """P2: a node that is written without end does not hold up the others."""
    for node in (TARGET, DATA, TARGET):
        watcher.reconciler.on_watch_events([watcher.watches[node.path]])
    assert read(watcher) == [TARGET, DATA]


def test_an_event_after_the_read_was_sent_asks_again(watcher: Watcher) -> None:
    """Rule 2: of other nodes too."""
    target = watcher.watches[TARGET.path]
    watcher.reconciler.on_watch_events([target])
    nodes = watcher.reconciler.nodes
    (sent,) = nodes.unread()
    watcher.reconciler.on_watch_events([target])
    nodes.on_values([(sent, b"2")])
    assert read(watcher) == [TARGET]
