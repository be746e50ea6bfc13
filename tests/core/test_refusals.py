"""What xenstored refuses about one node concerns that node alone."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from domindex.core.lives import name_path
from domindex.core.nodes import Node, Nodes, NodeValue
from domindex.core.scope import Scope
from domindex.errors import StoreError
from domindex.ports import Watch
from tests.core.by_hand import Watcher, names, row

CORRUPT = StoreError("READ was refused", errno.EIO)
FULL = StoreError("WATCH was refused", errno.E2BIG)
TARGET = Node(7, b"/local/domain/7/memory/target")


# -- a read ------------------------------------------------------------------------------------


def test_a_known_life_whose_name_may_not_be_read_keeps_the_last_one(watcher: Watcher) -> None:
    """P9, P5: it is held and marked; others are read as ever."""
    watcher.settle(row(7), row(8), d7=b"web", d8=b"db")
    watcher.fire(7, 8)
    watcher.read(d7=CORRUPT, d8=b"sql")
    watcher.see(row(7), row(8))
    assert names(watcher) == {7: "web", 8: "sql"}
    assert watcher.reconciler.unreadable == {7: CORRUPT}


def test_a_new_life_whose_name_may_not_be_read_has_none(watcher: Watcher) -> None:
    """P9, P5: it is there, though nobody can say what it is called."""
    watcher.settle(row(7), d7=CORRUPT)
    assert names(watcher) == {7: None}
    assert watcher.reconciler.unreadable == {7: CORRUPT}


def test_a_refusal_is_believed_only_of_a_life_that_is_still_listed(watcher: Watcher) -> None:
    """P1: what was refused may have been the next life's."""
    watcher.see(row(7))
    watcher.ask()
    watcher.read(d7=CORRUPT)
    assert watcher.reconciler.unreadable == {}
    watcher.see()
    assert watcher.reconciler.unreadable == {}


@pytest.mark.parametrize("answer", [b"www", None])
def test_a_name_that_is_read_again_is_readable(watcher: Watcher, answer: bytes | None) -> None:
    """P5: also where there is no such node, as that is an answer."""
    watcher.settle(row(7), d7=b"web")
    watcher.fire(7)
    watcher.read(d7=CORRUPT)
    watcher.see(row(7))
    watcher.reconciler.nodes.doubt()
    assert watcher.read(d7=answer) == [7]
    watcher.see(row(7))
    assert names(watcher) == {7: None if answer is None else "www"}
    assert watcher.reconciler.unreadable == {}


def test_the_end_of_a_life_ends_what_was_refused_of_it(watcher: Watcher) -> None:
    """P5: a miss can be proven again; the next life on the domid begins without."""
    watcher.settle(row(7), d7=CORRUPT)
    watcher.see()
    assert watcher.reconciler.unreadable == {}


def test_a_name_that_may_not_be_read_is_no_sign_of_another_life(watcher: Watcher) -> None:
    """P3: its watch is silent, so a changed handle is told of the same life."""
    watcher.settle(row(7, 1), d7=b"web")
    old = watcher.held[7]
    watcher.reconciler.nodes.doubt()
    watcher.read(d7=CORRUPT)
    watcher.see(row(7, 2))
    assert watcher.read(d7=CORRUPT) == [7]
    watcher.see(row(7, 2))
    assert (watcher.held[7].life, watcher.held[7].name) == (old.life, "web")
    assert watcher.held[7].uuid != old.uuid


def unwatchable_domids(watcher: Watcher) -> dict[int, StoreError]:
    """The domids of what may not be watched, and why."""
    unwatchable = watcher.reconciler.nodes.unwatchable
    return {followed.domid: error for followed, error in unwatchable.items()}


# -- a watch -----------------------------------------------------------------------------------


def unwatchable(watcher: Watcher) -> Watch:
    """Domain 7, named web, at rest, with the watch of its name refused: that watch."""
    watcher.see(row(7, 1), row(8))
    (refused, _) = watcher.ask()[1]
    assert refused.path == name_path(7)
    watcher.reconciler.nodes.refused(refused, FULL)
    watcher.read(d7=b"web", d8=b"db")
    watcher.see(row(7, 1), row(8))
    assert names(watcher) == {7: "web", 8: "db"}
    return refused


def test_a_name_that_may_not_be_watched_is_read_at_each_probe(watcher: Watcher) -> None:
    """P9, P2: it alone, and no watch is set or dropped for it."""
    refused = unwatchable(watcher)
    assert unwatchable_domids(watcher) == {7: FULL}
    assert watcher.reconciler.on_watch_events([refused]) == Scope()
    for name in ("www", "wiki"):
        assert watcher.unread() == []
        watcher.reconciler.doubt_unwatched()
        assert watcher.read(d7=name.encode()) == [7]
        watcher.see(row(7, 1), row(8))
        assert names(watcher) == {7: name, 8: "db"}
    assert watcher.ask() == ([], [])
    watcher.see(row(8))
    assert watcher.ask() == ([], [])
    assert unwatchable_domids(watcher) == {}


def test_a_name_that_may_not_be_watched_is_asked_for_again_with_all_names(
    watcher: Watcher,
) -> None:
    """P9: at an audit; once it is set, it is a watch as any other, and no probe reads it."""
    refused = unwatchable(watcher)
    watcher.reconciler.nodes.doubt()
    ((again,), unwatch) = reversed(watcher.ask())
    assert unwatch == []
    assert (again.path, again.token != refused.token) == (name_path(7), True)
    assert unwatchable_domids(watcher) == {}
    assert watcher.read(d7=b"web", d8=b"db") == [7, 8]
    watcher.see(row(7, 1), row(8))
    watcher.reconciler.doubt_unwatched()
    assert watcher.unread() == []
    assert watcher.fire(7) == Scope({7})
    watcher.see(row(8))
    assert watcher.ask() == ([again], [])


def test_a_watch_refused_twice_is_still_read_at_each_probe(watcher: Watcher) -> None:
    """P9: nothing gets better by being asked."""
    unwatchable(watcher)
    watcher.reconciler.nodes.doubt()
    (again,) = watcher.ask()[1]
    watcher.reconciler.nodes.refused(again, FULL)
    watcher.read(d7=b"web", d8=b"db")
    watcher.see(row(7, 1), row(8))
    watcher.reconciler.doubt_unwatched()
    assert watcher.unread() == [7]


def test_a_watch_that_is_not_set_is_not_silent(watcher: Watcher) -> None:
    """P3: another handle is another life then, until the watch is set and the name read again."""
    unwatchable(watcher)
    old = watcher.held[7]
    watcher.settle(row(7, 2), row(8), d7=b"web", d8=b"db")
    new = watcher.held[7]
    assert new.life != old.life
    watcher.settle(row(7, 3), row(8))
    assert watcher.held[7].life == new.life


def test_a_new_line_asks_for_a_refused_watch_once(watcher: Watcher) -> None:
    """P9: as for all others."""
    unwatchable(watcher)
    watcher.reconciler.new_line()
    assert unwatchable_domids(watcher) == {}
    assert [watch.path for watch in watcher.ask()[1]] == [name_path(7), name_path(8)]


# -- another node ------------------------------------------------------------------------------


def follow(watcher: Watcher) -> Watch:
    """The watch that is to be set for TARGET, of domain 7."""
    watcher.settle(row(7), d7=b"web")
    assert watcher.reconciler.follow(watcher.held[7].life, TARGET)
    (watch,) = watcher.ask()[1]
    return watch


def hear(watcher: Watcher, value: bytes | StoreError) -> list[Node]:
    """Answer what is unread, and have it confirmed."""
    unread = watcher.reconciler.nodes.unread()
    watcher.reconciler.nodes.on_values([(node, value) for node in unread])
    watcher.see(row(7))
    return [Node(followed.domid, followed.path) for followed in unread]


def test_a_node_that_may_not_be_read_is_told_as_that(watcher: Watcher) -> None:
    """P9: to its watcher, in its turn; the name and the next value come as ever."""
    watch = follow(watcher)
    assert hear(watcher, CORRUPT) == [TARGET]
    assert watcher.reconciler.nodes.certain_values() == [NodeValue(TARGET, CORRUPT, True)]
    assert watcher.reconciler.unreadable == {}
    assert watcher.reconciler.on_watch_events([watch]) == Scope({7})
    hear(watcher, b"1024")
    assert watcher.reconciler.nodes.certain_values() == [NodeValue(TARGET, b"1024", True)]


def test_a_node_that_may_not_be_watched_is_read_at_each_probe(watcher: Watcher) -> None:
    """P9, P2: without a watch, until its watcher has enough of it."""
    watch = follow(watcher)
    watcher.reconciler.nodes.refused(watch, FULL)
    assert unwatchable_domids(watcher) == {7: FULL}
    assert hear(watcher, b"1024") == [TARGET]
    assert watcher.reconciler.on_watch_events([watch]) == Scope()
    assert not watcher.reconciler.nodes.dirty
    watcher.reconciler.doubt_unwatched()
    assert watcher.ask() == ([], [])
    assert hear(watcher, b"2048") == [TARGET]
    values = [value for _, value, _ in watcher.reconciler.nodes.certain_values()]
    assert values == [b"1024", b"2048"]
    watcher.reconciler.nodes.drop(TARGET)
    assert watcher.ask() == ([], [])
    watcher.reconciler.doubt_unwatched()
    assert watcher.reconciler.nodes.unread() == []


@pytest.mark.parametrize("anew", [Nodes.doubt, Nodes.new_line])
def test_a_node_that_may_not_be_watched_is_asked_for_again_with_all(
    watcher: Watcher, anew: Callable[[Nodes], None]
) -> None:
    """P9: at an audit and on a new line; once its watch is set, no probe reads it."""
    refused = follow(watcher)
    watcher.reconciler.nodes.refused(refused, FULL)
    hear(watcher, b"1024")
    anew(watcher.reconciler.nodes)
    (again,) = [watch for watch in watcher.ask()[1] if watch.path == TARGET.path]
    assert again.token != refused.token
    assert TARGET in hear(watcher, b"2048")
    watcher.reconciler.doubt_unwatched()
    assert watcher.reconciler.nodes.unread() == []
    assert watcher.reconciler.on_watch_events([again]) == Scope({7})
    watcher.reconciler.nodes.drop(TARGET)
    assert watcher.ask()[0] == [again]
