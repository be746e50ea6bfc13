"""Handles that change: what is a change of one life, and which name goes with which uuid."""

from __future__ import annotations

from uuid import UUID

import pytest

from domindex.core.lives import name_path
from domindex.core.scope import Scope
from domindex.domain import NIL_UUID, Domain
from domindex.ports import Row, Watch
from tests.core.by_hand import Watcher, row

RELEASE = Watch(b"@releaseDomain", b"release")
RELEASE_7 = Watch(b"@releaseDomain/7", b"release")
RELEASE_8 = Watch(b"@releaseDomain/8", b"release")


@pytest.fixture(params=[True, False], ids=["ids", "no ids"])
def ids(request: pytest.FixtureRequest) -> dict[int, int | None] | None:
    """Of the one life that goes on, where Xen has unique ids and where it has not."""
    return {7: 71} if request.param else None


def pairs(watcher: Watcher) -> set[tuple[int, str | None]]:
    return {(domain.uuid.int, domain.name) for domain in watcher.held.values()}


# -- rule 4 ----------------------------------------------------------------------------------


def test_a_name_heard_before_the_handle_changed_is_read_again(watcher: Watcher) -> None:
    """P1, rule 4: rename, then another handle, between the read and the list."""
    ids = {7: 71}
    watcher.settle(row(7, 1), ids=ids, d7=b"a")
    old = watcher.held[7]
    watcher.fire(7)
    watcher.read(d7=b"b")
    assert watcher.see(row(7, 2), ids=ids) == []  # b may have gone again before the handle came
    assert watcher.held[7] is old
    assert watcher.read(d7=b"c") == [7]
    ((_, new),) = watcher.see(row(7, 2), ids=ids)
    assert new is not None
    assert (new.life, new.uuid.int, new.name) == (old.life, 2, "c")


def test_a_name_that_is_to_be_read_goes_with_no_new_handle(watcher: Watcher) -> None:
    """P1, rule 4: rename, then another handle, between the event and the list."""
    ids = {7: 71}
    watcher.settle(row(7, 1), ids=ids, d7=b"a")
    watcher.fire(7)
    assert watcher.see(row(7, 2), ids=ids) == []
    assert pairs(watcher) == {(1, "a")}
    watcher.read(d7=b"b")
    watcher.see(row(7, 2), ids=ids)
    assert pairs(watcher) == {(2, "b")}


def test_a_handle_that_changes_twice_is_told_with_the_name_read_last(watcher: Watcher) -> None:
    """P1, rule 4: until a name was read under the handle that is listed, the old record stays."""
    ids = {7: 71}
    watcher.settle(row(7, 1), ids=ids, d7=b"a")
    watcher.fire(7)
    for uuid, name in ((2, b"b"), (3, b"c"), (4, b"d")):
        assert watcher.see(row(7, uuid), ids=ids) == []
        assert watcher.read(d7=name) == [7]
    assert watcher.see(row(7, 5), ids=ids) == []
    assert pairs(watcher) == {(1, "a")}
    assert watcher.read(d7=b"e") == [7]
    watcher.see(row(7, 5), ids=ids)
    assert pairs(watcher) == {(5, "e")}


def test_a_name_read_in_doubt_is_read_again_under_a_new_handle(
    watcher: Watcher, ids: dict[int, int | None] | None
) -> None:
    """P1, rule 4: as an audit reads all names; the same life either way, as nothing fired."""
    watcher.settle(row(7, 1), ids=ids, d7=b"a")
    old = watcher.held[7]
    watcher.reconciler.nodes.doubt()
    watcher.read(d7=b"a")
    assert watcher.see(row(7, 2), ids=ids) == []
    assert watcher.read(d7=b"a") == [7]
    watcher.see(row(7, 2), ids=ids)
    assert pairs(watcher) == {(2, "a")}
    assert watcher.held[7].life == old.life


def test_a_name_that_nobody_doubts_goes_with_the_new_handle_at_once(
    watcher: Watcher, ids: dict[int, int | None] | None
) -> None:
    """P2, P11: its watch is silent, so both stand together."""
    watcher.settle(row(7, 1), ids=ids, d7=b"a")
    watcher.see(row(7, 2), ids=ids)
    assert pairs(watcher) == {(2, "a")}
    assert watcher.unread() == []


def test_a_newborn_that_was_read_before_its_handle_was_set_is_newborn_again(
    watcher: Watcher,
) -> None:
    """P1, rule 4: before it is watched; it is told of once, with its uuid and its name."""
    nil = row(7)._replace(handle=NIL_UUID.bytes)
    watcher.see(nil)
    watcher.answer_newborn(b"draft")
    assert watcher.see(row(7, 1), scope={7}) == []
    assert watcher.newborn() == [7]
    watcher.answer_newborn(b"web")
    ((old, _),) = watcher.see(row(7, 1), scope={7})
    assert old is None
    assert pairs(watcher) == {(1, "web")}
    assert watcher.held[7].first_seen == 1.0  # one life from its first row on


# -- which life ------------------------------------------------------------------------------


def test_a_handle_of_zeros_that_is_filled_in_is_the_same_life(watcher: Watcher) -> None:
    """P3: a guest that Xen started gets its uuid and its name once the toolstack is there."""
    nil = row(7)._replace(handle=NIL_UUID.bytes)
    watcher.settle(nil)
    old = watcher.held[7]
    ((_, new),) = watcher.see(row(7, 1))
    assert new is not None
    assert (new.life, new.uuid.int) == (old.life, 1)


def test_domain_0_goes_on_whatever_happens_to_it(watcher: Watcher) -> None:
    """P3: xenopsd gives it a uuid, and the node of its name is written anew."""
    watcher.settle(row(0, 1, cpu_time=10**12), d0=b"Domain-0")
    old = watcher.held[0]
    watcher.fire(0)
    watcher.reconciler.on_watch_events([RELEASE])
    watcher.settle(row(0, 2), d0=b"host")
    assert watcher.held[0].life == old.life
    assert pairs(watcher) == {(2, "host")}


@pytest.mark.parametrize("name", [None, b"db"])
def test_a_name_that_is_another_without_an_event_proves_that_one_was_lost(
    watcher: Watcher, name: bytes | None
) -> None:
    """P3: so the watch was not silent, and another handle is another life."""
    watcher.settle(row(7, 1), d7=b"web")
    old = watcher.held[7]
    watcher.reconciler.nodes.doubt()
    watcher.read(d7=name)
    watcher.see(row(7, 2))
    watcher.ask()
    watcher.read(d7=name)
    watcher.see(row(7, 2))
    assert watcher.held[7].life != old.life


def test_the_watch_is_not_silent_until_the_name_is_confirmed(watcher: Watcher) -> None:
    """P3: read is not enough; then it is silent again, until it fires."""
    watcher.settle(row(7, 1), d7=b"web")
    old = watcher.held[7]
    watcher.fire(7)
    watcher.read(d7=b"web")
    watcher.settle(row(7, 2), d7=b"web")
    new = watcher.held[7]
    assert new.life != old.life
    watcher.see(row(7, 3))
    assert watcher.held[7].life == new.life


def test_an_event_that_came_after_the_read_breaks_the_silence_still(watcher: Watcher) -> None:
    """P3, rule 2: the read that was confirmed did not answer that event."""
    watcher.settle(row(7, 1), d7=b"web")
    old = watcher.held[7]
    watcher.fire(7)
    watcher.read(d7=b"web")
    watcher.fire(7)
    watcher.see(row(7, 1))
    watcher.settle(row(7, 2), d7=b"web")
    assert watcher.held[7].life != old.life


def test_on_a_new_line_nothing_is_silent_before_it_was_read(watcher: Watcher) -> None:
    """P3: events may have been missed between the lines; that it ran on does not help."""
    watcher.settle(row(7, 1, cpu_time=5), d7=b"web")
    old = watcher.held[7]
    watcher.reconciler.new_line()
    watcher.settle(row(7, 2, cpu_time=6), d7=b"web")
    assert watcher.held[7].life != old.life


def test_on_a_new_line_nobody_knows_who_was_born_meanwhile(watcher: Watcher) -> None:
    """P3: a handle of zeros may be that of another life, which was given one."""
    watcher.settle(row(7)._replace(handle=NIL_UUID.bytes))
    old = watcher.held[7]
    watcher.reconciler.new_line()
    watcher.settle(row(7, 1))
    assert watcher.held[7].life != old.life


def test_a_life_without_a_name_has_no_watch_whose_silence_counts(watcher: Watcher) -> None:
    """P3: there was no node to clear, so nothing fires when the domid is given again."""
    watcher.settle(row(7, 1))
    old = watcher.held[7]
    watcher.settle(row(7, 2))
    assert watcher.held[7].life != old.life


# -- births and ends meanwhile -----------------------------------------------------------------


def look(watcher: Watcher, seven: Row, *, scope: bool) -> Domain:
    """Domain 7 after a look at it, which may be of all domains."""
    rows = [seven] if scope else [seven, row(8)]
    watcher.see(*rows, scope={7} if scope else None)
    watcher.ask()
    watcher.read(d7=b"web")
    watcher.see(*rows, scope={7} if scope else None)
    return watcher.held[7]


@pytest.fixture
def calm(watcher: Watcher) -> Domain:
    """Domain 7, which has never run, and its watch is silent; and domain 8 beside it."""
    watcher.settle(row(7, 1), row(8), d7=b"web", d8=b"db")
    return watcher.held[7]


@pytest.mark.parametrize("scope", [True, False])
@pytest.mark.parametrize(
    ("event", "same"), [(RELEASE, False), (RELEASE_7, False), (RELEASE_8, True)]
)
def test_an_end_that_may_be_its_own_makes_another_handle_another_life(
    watcher: Watcher, calm: Domain, event: Watch, same: bool, scope: bool
) -> None:
    """P3: for toolstacks that never clear nodes; it never ran, so nothing else vouches for it."""
    watcher.reconciler.on_watch_events([event])
    assert (look(watcher, row(7, 2), scope=scope).life == calm.life) is same


@pytest.mark.parametrize("event", [RELEASE, RELEASE_7])
def test_an_end_is_forgotten_with_the_next_look(
    watcher: Watcher, calm: Domain, event: Watch
) -> None:
    """P3: that look saw what it was about."""
    watcher.reconciler.on_watch_events([event])
    assert look(watcher, row(7, 1), scope=False) is calm
    assert look(watcher, row(7, 2), scope=False).life == calm.life


@pytest.mark.parametrize("event", [RELEASE, RELEASE_7])
def test_an_end_is_not_forgotten_with_a_look_at_others(
    watcher: Watcher, calm: Domain, event: Watch
) -> None:
    """P3: it may have been about this one."""
    watcher.reconciler.on_watch_events([event])
    watcher.see(row(8), scope={8})
    assert look(watcher, row(7, 2), scope=True).life != calm.life


@pytest.mark.parametrize("scope", [True, False])
@pytest.mark.parametrize("event", [RELEASE, RELEASE_7])
def test_an_event_after_the_list_counts_for_the_next_look(
    watcher: Watcher, calm: Domain, event: Watch, scope: bool
) -> None:
    """P3: what it tells of may have come after the list that is taken in now."""
    assert watcher.reconciler.on_watch_events([event], after_list=True) == (
        Scope.ALL if event is RELEASE else Scope({7})
    )
    watcher.see(row(7, 1), *([] if scope else [row(8)]), scope={7} if scope else None)
    assert look(watcher, row(7, 2), scope=scope).life != calm.life


@pytest.mark.parametrize("event", [RELEASE, RELEASE_7])
def test_an_event_after_the_list_counts_for_that_list_too(
    watcher: Watcher, calm: Domain, event: Watch
) -> None:
    """P3: or before it."""
    watcher.reconciler.on_watch_events([event], after_list=True)
    assert look(watcher, row(7, 2), scope=False).life != calm.life


@pytest.mark.parametrize("event", [RELEASE, RELEASE_7])
def test_an_event_after_the_list_counts_for_no_look_but_the_next(
    watcher: Watcher, calm: Domain, event: Watch
) -> None:
    """P3: two lists later it is seen, as any other."""
    watcher.reconciler.on_watch_events([event], after_list=True)
    for _ in range(2):
        watcher.see(row(7, 1), row(8))
    assert look(watcher, row(7, 2), scope=False).life == calm.life


def test_the_name_s_own_event_after_the_list_is_not_lost(watcher: Watcher, calm: Domain) -> None:
    """P2, P3: it breaks the silence for this list, and asks for the name."""
    watcher.reconciler.on_watch_events([watcher.watches[name_path(7)]], after_list=True)
    assert look(watcher, row(7, 2), scope=False).life != calm.life
    assert pairs(watcher) == {(2, "web"), (108, "db")}


# -- the question that the watcher asks first ----------------------------------------------------


@pytest.mark.parametrize("scope", [Scope({7}), Scope.ALL])
def test_a_followed_life_with_another_handle_asks_for_all_events_first(
    watcher: Watcher, calm: Domain, scope: Scope
) -> None:
    """P3: they decide, and nothing else does; P11: nobody else costs a round trip."""
    shows = watcher.reconciler.shows_new_handle
    eight = [row(8)] if scope is Scope.ALL else []
    assert shows([row(7, 2), *eight], scope)
    assert not shows([row(7, 1, cpu_time=5), *eight], scope)
    assert not shows([row(7, 2, dying=True), *eight], scope)
    assert not shows([row(7, 1), *eight, row(9)], scope)
    assert calm == watcher.held[7]


def test_a_uuid_is_kept_as_the_life_was_first_seen(watcher: Watcher, calm: Domain) -> None:
    """P3: records of one life are of one life, whatever handles it had."""
    for uuid in (2, 3):
        watcher.see(row(7, uuid), row(8))
        assert watcher.held[7].life == calm.life
        assert watcher.held[7].life.uuid == UUID(int=1)
        assert watcher.held[7].uuid == UUID(int=uuid)
