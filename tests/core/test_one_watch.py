"""One watch with depth for the names of all domains: what its events are taken for."""

from __future__ import annotations

from uuid import UUID

import pytest

from domindex.core.reconcile import NAMES
from domindex.core.scope import Scope
from domindex.ports import Watch
from tests.core.by_hand import Watcher, names, row


@pytest.fixture
def watcher(watcher: Watcher) -> Watcher:
    """On a line where NAMES is set; web and db are there, and at rest."""
    watcher.reconciler.new_line()
    watcher.reconciler.nodes.one_watch(NAMES.token)
    watcher.settle(row(7, 1), row(8, 2), d7=b"web", d8=b"db")
    return watcher


def fire(watcher: Watcher, *paths: bytes) -> Scope:
    return watcher.reconciler.on_watch_events([Watch(path, NAMES.token) for path in paths])


def test_nothing_is_watched_or_unwatched_for_one_domain(watcher: Watcher) -> None:
    """P11: not at a birth, an end, or a reused domid; and names are read for all that."""
    assert watcher.watches == {}
    watcher.see(row(7, 1), row(9))
    assert watcher.ask() == ([], [])
    assert watcher.newborn() == []  # no watch to set, so nothing to be quicker than
    assert watcher.read(d9=b"new") == [9]
    watcher.see(row(7, 1), row(9))
    assert names(watcher) == {7: "web", 9: "new"}
    assert fire(watcher, b"/local/domain/7") == Scope({7})
    watcher.see(row(7, 3), row(9))
    assert watcher.read(d7=b"next") == [7]
    watcher.see(row(7, 3), row(9))
    assert names(watcher) == {7: "next", 9: "new"}
    watcher.see()
    assert watcher.ask() == ([], [])


def test_a_line_that_knows_no_depth_watches_each_again(watcher: Watcher) -> None:
    """P9: after this line may come one to an older xenstored."""
    watcher.reconciler.new_line()
    assert [watch.path for watch in watcher.ask()[1]] == [
        b"/local/domain/7/name",
        b"/local/domain/8/name",
    ]
    watcher.see(row(7, 1), row(8, 2), row(9))
    assert [watch.path for watch in watcher.ask()[1]] == [b"/local/domain/9/name"]
    watcher.reconciler.new_line()
    watcher.reconciler.nodes.one_watch(NAMES.token)
    assert watcher.ask() == ([], [])
    assert watcher.unread() == [7, 8, 9]


@pytest.mark.parametrize("path", [b"/local/domain/7/name", b"/local/domain/7"])
def test_a_name_or_all_of_a_domain_asks_for_that_name(watcher: Watcher, path: bytes) -> None:
    """P2: a rename; or a toolstack that makes or clears the domain's nodes."""
    assert fire(watcher, path) == Scope({7})
    assert watcher.unread() == [7]


@pytest.mark.parametrize("path", [b"/local/domain/7/name", b"/local/domain/7"])
def test_after_such_an_event_another_handle_is_another_life(watcher: Watcher, path: bytes) -> None:
    """P3: as when a watch of its own had fired."""
    old = watcher.held[7]
    fire(watcher, path)
    watcher.settle(row(7, 3), row(8, 2), d7=b"web")
    assert watcher.held[7].life != old.life


def test_vm_asks_for_a_look_and_not_for_the_name(watcher: Watcher) -> None:
    """P2, P3: it is written when the handle has changed; the name's silence is not broken."""
    old = watcher.held[7]
    assert fire(watcher, b"/local/domain/7/vm") == Scope({7})
    assert watcher.unread() == []
    ((_, new),) = watcher.see(row(7, 3), scope={7})
    assert new is not None
    assert (new.life, new.name, new.uuid) == (old.life, "web", UUID(int=3))


@pytest.mark.parametrize(
    "path",
    [
        *(b"/local/domain/7/device", b"/local/domain/7/memory", b"/local/domain/7/names"),
        *(b"/local/domain/7/device/name", b"/local/domain/7/vm/name"),
        *(b"/local/domain/x", b"/local/domain/x/name", b"/local/domain/-1/name"),
        *(b"/local/domain/7\xff/name", b"/local/domain/123456/name"),
        *(b"/local/domain/32752/name", b"/local/domain/99999", b"7/name/x", b"/vm/7"),
    ],
    ids=repr,
)
def test_what_else_fires_is_passed_over(watcher: Watcher, path: bytes) -> None:
    """P11, P12: other nodes of a domain, and what no domain can be."""
    assert fire(watcher, path) == Scope()
    assert watcher.unread() == []


@pytest.mark.parametrize("path", [b"/local/domain/9/name", b"/local/domain/9"])
def test_a_domain_that_is_not_known_is_looked_at(watcher: Watcher, path: bytes) -> None:
    """P2: it may be one that was never introduced; there is no life yet whose name to read."""
    assert fire(watcher, path) == Scope({9})
    assert watcher.unread() == []
    watcher.see(row(9), scope={9})
    assert watcher.read(d9=b"new") == [9]
    watcher.see(row(9), scope={9})
    assert names(watcher)[9] == "new"


def test_the_watched_path_itself_is_about_all_names(watcher: Watcher) -> None:
    """P2, P3: all of it was removed, or more has changed than could be told."""
    lives = {domain.life for domain in watcher.held.values()}
    assert fire(watcher, b"/local/domain") is Scope.ALL
    watcher.settle(row(7, 3), row(8, 4), d7=b"web", d8=b"db")
    assert not lives & {domain.life for domain in watcher.held.values()}


def test_events_of_several_domains_are_one_look(watcher: Watcher) -> None:
    """P11: and one that is about all of them asks for the whole list, in any order."""
    birth = Watch(b"@introduceDomain/9", b"introduce")
    events = [Watch(b"/local/domain/%d/name" % domid, NAMES.token) for domid in (7, 8)]
    assert watcher.reconciler.on_watch_events([*events, birth]) == Scope({7, 8, 9})
    assert watcher.reconciler.on_watch_events([NAMES, *events]) is Scope.ALL
    assert watcher.reconciler.on_watch_events([*events, NAMES]) is Scope.ALL
