"""From what was seen to what is true: rows and answers written by hand, one rule at a time."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domindex.core.listed import LastList
from domindex.core.lives import CLOCKS, name_path
from domindex.core.nodes import Node, NodeValue
from domindex.core.reconcile import SPECIAL
from domindex.core.scope import Scope
from domindex.domain import Life, OSType, ShutdownReason
from domindex.ports import Row, Watch
from tests.core.by_hand import Watcher, names, row

INTRODUCE = Watch(b"@introduceDomain", b"introduce")
RELEASE = Watch(b"@releaseDomain", b"release")


# -- births ----------------------------------------------------------------------------------


def test_a_new_life_is_watched_then_read_then_listed_again_then_held(watcher: Watcher) -> None:
    """P1: it comes into the table together with its name, once the list confirmed the read."""
    assert watcher.see(row(7)) == []
    unwatch, (watch,) = watcher.ask()
    assert unwatch == []
    assert watch.path == b"/local/domain/7/name"
    assert watcher.read(d7=b"web") == [7]
    assert watcher.take() == []  # read, not yet believed
    ((old, new),) = watcher.see(row(7))
    assert old is None
    assert new is not None
    assert (new.domid, new.name, new.uuid, new.type) == (7, "web", UUID(int=107), OSType.PVH)


def test_a_newborn_may_be_read_before_it_is_watched(watcher: Watcher) -> None:
    """P1, P2: it is held once the list confirmed the read; what the read missed is read again."""
    watcher.settle(row(3), d3=b"db")
    watcher.see(row(3), row(7))
    assert watcher.newborn() == [7]
    watcher.answer_newborn(b"draft")
    assert watcher.newborn() == []
    watcher.see(row(7), scope={7})
    assert names(watcher) == {3: "db", 7: "draft"}
    assert [watch.path for watch in watcher.ask()[1]] == [b"/local/domain/7/name"]
    assert watcher.read(d7=b"web") == [7]
    watcher.see(row(7), scope={7})
    assert names(watcher) == {3: "db", 7: "web"}


def test_a_newborn_that_was_read_and_replaced_is_newborn_again(watcher: Watcher) -> None:
    """P1: what was read may be of either life."""
    watcher.see(row(7, 1))
    watcher.answer_newborn(b"old")
    watcher.see(row(7, 2), scope={7})
    assert watcher.held == {}
    assert watcher.newborn() == [7]


def test_nobody_is_newborn_for_a_new_line(watcher: Watcher) -> None:
    """They are all known; what is to be set anew is their watches."""
    watcher.settle(row(7), d7=b"web")
    watcher.reconciler.new_line()
    assert watcher.newborn() == []
    assert len(watcher.ask()[1]) == 1


def test_a_life_without_a_name_is_held_once_that_is_known(watcher: Watcher) -> None:
    """XenD introduced first and named later: such a domain is there, and has no name."""
    watcher.settle(row(7))
    assert names(watcher) == {7: None}


def test_an_empty_name_is_not_a_missing_one(watcher: Watcher) -> None:
    """xenstore tells them apart, and so does the index."""
    watcher.settle(row(7), d7=b"")
    assert names(watcher) == {7: ""}


def test_a_name_that_is_on_the_way_holds_up_no_other_domain(watcher: Watcher) -> None:
    """P2: what has become certain of higher domids is published meanwhile, and nothing is lost."""
    watcher.settle(row(7), d7=b"web")
    watcher.see(row(3), row(7))
    stopped = row(7, shutdown=ShutdownReason.CRASH)
    assert [new and new.domid for _, new in watcher.see(row(3), stopped)] == [7]
    watcher.settle(row(3), stopped, d3=b"db", d7=b"web")
    assert names(watcher) == {3: "db", 7: "web"}


def test_a_name_read_and_then_the_life_gone_is_never_believed(watcher: Watcher) -> None:
    """P1: the list after the read lacks the life; nothing of it comes into the table."""
    watcher.see(row(7))
    watcher.ask()
    watcher.read(d7=b"web")
    assert watcher.see() == []
    assert watcher.take() == []


@pytest.mark.parametrize("unique_ids", [False, True])
def test_a_name_read_of_one_life_is_never_the_next_one_s(
    watcher: Watcher, unique_ids: bool
) -> None:
    """P1: the domid was reused between read and list; the new life is read anew."""
    watcher.see(row(7, 1), ids={7: 71} if unique_ids else None)
    watcher.ask()
    watcher.read(d7=b"old")
    assert watcher.see(row(7, 2), ids={7: 72} if unique_ids else None) == []
    watcher.ask()
    assert watcher.read(d7=b"new") == [7]
    watcher.see(row(7, 2), ids={7: 72} if unique_ids else None)
    assert names(watcher) == {7: "new"}


def test_a_dying_row_is_no_domain(watcher: Watcher) -> None:
    """A zombie is gone for the index, from the first list on and from any later one."""
    watcher.settle(row(1, dying=True), row(2), d2=b"db")
    assert names(watcher) == {2: "db"}
    ((old, new),) = watcher.see(row(2, dying=True))
    assert old is not None
    assert new is None


def test_dom0_is_a_domain_like_any_other(watcher: Watcher) -> None:
    """Its nil handle does not hinder."""
    nil = Row(0, bytes(16), OSType.PV, None, False, 0, None)
    watcher.settle(nil, d0=b"Domain-0")
    assert watcher.held[0].uuid == UUID(int=0)


# -- names -----------------------------------------------------------------------------------


def test_a_name_event_asks_for_the_name_again(watcher: Watcher) -> None:
    """A rename: the event, the read, the confirming look at that domain alone."""
    watcher.settle(row(7), row(8), d7=b"web", d8=b"db")
    assert watcher.fire(7) == Scope({7})
    assert watcher.read(d7=b"www") == [7]
    ((old, new),) = watcher.see(row(7), scope={7})
    assert old is not None
    assert new is not None
    assert (old.name, new.name) == ("web", "www")
    assert old.life == new.life
    assert names(watcher) == {7: "www", 8: "db"}


def test_a_read_sent_before_an_event_came_never_answers_it(watcher: Watcher) -> None:
    """Rule 2: the event arrives while the read is under way, so the name is asked again."""
    watcher.settle(row(7), d7=b"a")
    watcher.fire(7)
    (asked,) = watcher.reconciler.nodes.unread()  # the read is sent ...
    watcher.fire(7)  # ... the event comes ...
    watcher.reconciler.nodes.on_values([(asked, b"b")])  # ... and then the answer
    watcher.see(row(7), scope={7})
    assert watcher.read(d7=b"c") == [7]
    watcher.see(row(7), scope={7})
    assert names(watcher) == {7: "c"}


def test_a_name_that_was_written_again_as_it_was_changes_nothing(watcher: Watcher) -> None:
    """An event is a question, not a change."""
    watcher.settle(row(7), d7=b"web")
    watcher.fire(7)
    watcher.read(d7=b"web")
    assert watcher.see(row(7), scope={7}) == []


def test_a_name_that_goes_while_the_life_stays_is_none(watcher: Watcher) -> None:
    """A removed node is a change of name like any other."""
    watcher.settle(row(7), d7=b"web")
    watcher.fire(7)
    watcher.read()
    watcher.see(row(7), scope={7})
    assert names(watcher) == {7: None}


def test_bytes_that_are_not_utf_8_are_a_name(watcher: Watcher) -> None:
    """P12: xenstore holds bytes, and guests may write some of them."""
    watcher.settle(row(7), d7=b"\xff\n")
    assert names(watcher) == {7: "\udcff\n"}


def test_each_question_is_asked_once(watcher: Watcher) -> None:
    """P11: what was asked is not asked again until something happens."""
    watcher.see(row(7), row(8))
    assert len(watcher.ask()[1]) == 2
    assert watcher.ask() == ([], [])
    assert watcher.unread() == [7, 8]
    assert watcher.unread() == []


def test_doubt_asks_for_every_name_again(watcher: Watcher) -> None:
    """P2: an audit or refresh(names=True) finds what an event was lost for."""
    watcher.settle(row(7), row(8), d7=b"web", d8=b"db")
    watcher.reconciler.nodes.doubt()
    assert watcher.read(d7=b"web", d8=b"sql") == [7, 8]
    watcher.see(row(7), row(8))
    assert names(watcher) == {7: "web", 8: "sql"}


# -- deaths and reuse ------------------------------------------------------------------------


def test_a_life_that_ends_is_unwatched_by_the_token_it_was_watched_by(watcher: Watcher) -> None:
    """Nothing is left behind in xenstored."""
    watcher.settle(row(7), d7=b"web")
    before = watcher.watches[name_path(7)]
    watcher.see()
    assert watcher.ask() == ([before], [])
    assert watcher.held == {}


def test_a_life_that_ends_before_it_was_watched_is_not_unwatched(watcher: Watcher) -> None:
    """What was never set is not dropped."""
    watcher.see(row(7))
    watcher.see()
    assert watcher.ask() == ([], [])
    assert watcher.unread() == []


@pytest.mark.parametrize("unique_ids", [False, True])
def test_a_reused_domid_is_one_change_from_life_to_life(watcher: Watcher, unique_ids: bool) -> None:
    """P3: old and new come as one change, when the new name is certain and not before."""
    watcher.settle(row(7, 1), ids={7: 71} if unique_ids else None, d7=b"old")
    old = watcher.held[7]
    watcher.fire(7)  # toolstacks clear the node before they give the domid again
    later = {7: 72} if unique_ids else None
    assert watcher.see(row(7, 2), ids=later) == []
    assert watcher.held == {7: old}
    unwatch, watch = watcher.ask()
    assert [w.path for w in unwatch] == [w.path for w in watch] == [name_path(7)]
    assert unwatch[0].token != watch[0].token
    watcher.read(d7=b"new")
    ((before, after),) = watcher.see(row(7, 2), ids=later)
    assert before == old
    assert after is not None
    assert (after.name, after.uuid) == ("new", UUID(int=2))
    assert after.life != old.life
    assert after.first_seen > old.first_seen


def test_a_life_that_replaced_another_and_went_at_once_leaves_a_removal(watcher: Watcher) -> None:
    """Of three lives under one domid, one was held and none is: one removal."""
    watcher.settle(row(7, 1), d7=b"old")
    old = watcher.held[7]
    watcher.fire(7)
    watcher.see(row(7, 2))
    assert watcher.see() == [(old, None)]
    assert watcher.ask()[0] != []
    assert watcher.take() == []


def test_another_handle_once_the_watch_of_the_name_fired_is_another_life(watcher: Watcher) -> None:
    """P3: the node was cleared, and may be of the next life; its name may be the same."""
    watcher.settle(row(7, 1), d7=b"web")
    old = watcher.held[7]
    watcher.fire(7)
    watcher.settle(row(7, 2), d7=b"web")
    assert watcher.held[7].life != old.life


def test_another_handle_under_a_silent_watch_is_a_change_of_the_same_life(watcher: Watcher) -> None:
    """P3: it keeps its life and its name, which is not asked for again."""
    watcher.settle(row(7, 1), d7=b"web")
    old = watcher.held[7]
    ((before, after),) = watcher.see(row(7, 2))
    assert before == old
    assert after is not None
    assert (after.life, after.name, after.uuid) == (old.life, "web", UUID(int=2))
    assert watcher.ask() == ([], [])
    assert watcher.unread() == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (row(7, 1, cpu_time=CLOCKS + 5), row(7, 1, cpu_time=4)),
        (
            row(7, 1, type=OSType.PV, frame=0x1000),
            row(7, 1, type=OSType.PV, frame=0x2000, cpu_time=9),
        ),
        (row(7, 1, type=OSType.PVH), row(7, 1, type=OSType.HVM)),
    ],
    ids=["less cpu time than before", "another shared page", "another type"],
)
def test_without_unique_ids_another_life_is_known_by(
    watcher: Watcher, before: Row, after: Row
) -> None:
    """P3: each gives the reuse away, though the watch of the name is silent."""
    watcher.settle(before, d7=b"web")
    old = watcher.held[7]
    watcher.settle(after, d7=b"web")
    assert watcher.held[7].life != old.life


def test_without_unique_ids_nothing_different_is_the_same_life(watcher: Watcher) -> None:
    """Growing cpu time is no new life."""
    watcher.settle(row(7, 1, cpu_time=5), d7=b"web")
    old = watcher.held[7]
    for cpu_time in (5, 6):
        watcher.settle(row(7, 1, cpu_time=cpu_time), d7=b"web")
        assert watcher.held[7] is old


def test_cpu_time_may_step_back_by_what_the_clocks_differ(watcher: Watcher) -> None:
    """P3: Xen adds up what the clocks of several processors said."""
    watcher.settle(row(7, 1, cpu_time=CLOCKS), d7=b"web")
    old = watcher.held[7]
    watcher.settle(row(7, 1, cpu_time=0), d7=b"web")
    assert watcher.held[7] is old


def test_the_cpu_time_last_seen_counts_not_the_first(watcher: Watcher) -> None:
    """A life that had run for an hour and now has run for a second is another."""
    hour, second = 3600 * 10**9, 10**9
    watcher.settle(row(7, 1, cpu_time=5), d7=b"web")
    old = watcher.held[7]
    watcher.see(row(7, 1, cpu_time=hour))
    watcher.settle(row(7, 1, cpu_time=second), d7=b"web")
    assert watcher.held[7].life != old.life


def test_two_lives_never_begin_at_one_moment(watcher: Watcher) -> None:
    """The clock may stand still or be set back; the lives of one domid stay apart."""
    lives: set[Life] = set()
    for uuid, now in ((1, 100.0), (2, 100.0), (1, 99.0), (1, 99.0)):
        watcher.see(now=now)
        watcher.see(row(7, uuid), now=now)
        watcher.ask()
        watcher.read(d7=b"web")
        watcher.see(row(7, uuid), now=now)
        lives.add(watcher.held[7].life)
    assert len(lives) == 4


# -- unique ids ------------------------------------------------------------------------------


def test_with_unique_ids_the_id_alone_is_the_life(watcher: Watcher) -> None:
    """The same handle under another id is another life; another handle under the same id is
    a change of the same one (XAPI)."""
    watcher.settle(row(7, 1, cpu_time=5), ids={7: 71}, d7=b"web")
    first = watcher.held[7]
    assert first.life == Life(7, 71, None, None)
    ((_, changed),) = watcher.see(row(7, 2, cpu_time=5), ids={7: 71})
    assert changed is not None
    assert (changed.life, changed.uuid) == (first.life, UUID(int=2))
    watcher.settle(row(7, 2, cpu_time=5), ids={7: 72}, d7=b"web")
    assert watcher.held[7].life == Life(7, 72, None, None)


def test_a_row_whose_id_is_gone_is_gone(watcher: Watcher) -> None:
    """It died between the list and the question."""
    watcher.settle(row(7, 1), ids={7: 71}, d7=b"web")
    ((old, new),) = watcher.see(row(7, 1), ids={7: None})
    assert old is not None
    assert new is None
    assert watcher.see(row(8, 1), ids={8: None}) == []
    assert watcher.ask()[1] == []


def test_a_row_of_the_last_life_with_the_id_of_the_next_is_not_believed(watcher: Watcher) -> None:
    """P1: listed as one life, asked as the next: its handle waits for a list of its own, and
    its name for a read after that."""
    watcher.see(row(7, 1), ids={7: 72})
    watcher.ask()
    watcher.read(d7=b"old")
    assert watcher.see(row(7, 2), ids={7: 72}) == []
    assert watcher.read(d7=b"new") == [7]
    ((_, new),) = watcher.see(row(7, 2), ids={7: 72})
    assert new is not None
    assert (new.uuid, new.name) == (UUID(int=2), "new")


def test_ids_are_asked_of_what_is_new_different_or_was_read(watcher: Watcher) -> None:
    """P11: of a domain about which nothing happened the id is not asked again."""
    ids = {1: 1, 2: 2, 3: 3, 4: 4}
    watcher.settle(row(1), row(2), row(3), row(4), ids=ids, d1=b"a", d2=b"b", d3=b"c", d4=b"d")
    suspects = watcher.reconciler.suspects
    still = [row(1), row(2), row(3), row(4)]
    assert suspects(still, thorough=False) == []
    assert suspects(still, thorough=True) == [1, 2, 3, 4]
    watcher.fire(2)
    assert suspects(still, thorough=False) == [2]  # its name had an event
    watcher.read(d2=b"x")
    assert suspects(still, thorough=False) == [2]  # its name was read
    assert suspects([row(1), row(3, 9), row(5)], thorough=False) == [3, 5]
    assert suspects([row(1, dying=True), row(5, dying=True)], thorough=True) == []


# -- what a row may change ---------------------------------------------------------------------


def test_a_shutdown_is_a_change_of_the_same_life(watcher: Watcher) -> None:
    """The reason comes with the row; the name stays and is not read again."""
    watcher.settle(row(7), d7=b"web")
    ((old, new),) = watcher.see(row(7, shutdown=ShutdownReason.CRASH))
    assert old is not None
    assert new is not None
    assert (new.shutdown, new.name, new.life) == (ShutdownReason.CRASH, "web", old.life)
    assert watcher.read() == []


def test_a_type_that_changes_is_a_change_of_the_same_life(watcher: Watcher) -> None:
    """A domain under construction may not yet say what it is to be."""
    watcher.settle(row(7, type=OSType.UNKNOWN), d7=b"web")
    ((old, new),) = watcher.see(row(7, type=OSType.HVM))
    assert old is not None
    assert new is not None
    assert (new.type, new.life) == (OSType.HVM, old.life)


# -- scope -------------------------------------------------------------------------------------


def test_a_look_at_some_says_nothing_of_the_others(watcher: Watcher) -> None:
    """P4: only of the domids looked at can one be gone."""
    watcher.settle(row(1), row(2), row(3))
    assert watcher.see(row(2), scope={2}) == []
    assert set(watcher.held) == {1, 2, 3}
    ((old, new),) = watcher.see(scope={3, 9})
    assert old is not None
    assert (old.domid, new) == (3, None)
    assert set(watcher.held) == {1, 2}


def test_a_whole_list_says_who_is_gone(watcher: Watcher) -> None:
    """P4: what it lacks has gone."""
    watcher.settle(row(1), row(2), row(3))
    watcher.see(row(2))
    assert set(watcher.held) == {2}


# -- events ------------------------------------------------------------------------------------


def test_the_special_watches_are_the_two_xenstored_has() -> None:
    """docs/misc/xenstore.txt."""
    assert {watch.path for watch in SPECIAL} == {b"@introduceDomain", b"@releaseDomain"}
    assert len({watch.token for watch in SPECIAL}) == 2


@pytest.mark.parametrize("event", [INTRODUCE, RELEASE], ids=["introduce", "release"])
def test_a_special_event_without_a_domid_asks_for_the_whole_list(
    watcher: Watcher, event: Watch
) -> None:
    """Up to Xen 4.21 it says only that something happened."""
    assert watcher.reconciler.on_watch_events([event]) is Scope.ALL


def test_a_special_event_with_a_domid_asks_for_that_domain(watcher: Watcher) -> None:
    """With watch depth; one of both kinds joins with name events."""
    watcher.settle(row(7))
    events = [
        Watch(b"@introduceDomain/3", b"introduce"),
        Watch(b"@releaseDomain/4", b"release"),
        watcher.watches[name_path(7)],
    ]
    assert watcher.reconciler.on_watch_events(events) == Scope({3, 4, 7})
    assert watcher.reconciler.on_watch_events([*events, RELEASE]) is Scope.ALL


def test_with_a_whole_list_to_come_name_events_still_count(watcher: Watcher) -> None:
    """The list tells nothing of names."""
    watcher.settle(row(7))
    assert watcher.reconciler.on_watch_events([RELEASE, watcher.watches[name_path(7)]]) is Scope.ALL
    assert watcher.read(d7=b"web") == [7]


@pytest.mark.parametrize(
    "path",
    [
        *(b"@releaseDomain/", b"@releaseDomain/x", b"@releaseDomain/-1"),
        *(b"@releaseDomain/123456", b"@releaseDomain/7/8x", b"", b"/"),
    ],
    ids=repr,
)
def test_a_depth_that_makes_no_sense_asks_for_the_whole_list(watcher: Watcher, path: bytes) -> None:
    """P12: bytes from xenstore are untrusted; when in doubt, look at everything."""
    assert watcher.reconciler.on_watch_events([Watch(path, b"release")]) is Scope.ALL


@pytest.mark.parametrize("domid", [0x7FF0, 0x7FFF, 65535, 65536, 99999])
def test_a_domid_that_no_domain_can_have_is_not_looked_at(watcher: Watcher, domid: int) -> None:
    """P12: the hypervisor port refuses such a domid with an error that is none of the host's."""
    event = Watch(b"@releaseDomain/%d" % domid, b"release")
    assert watcher.reconciler.on_watch_events([event]) is Scope.ALL


def test_events_of_dead_lives_and_of_nobody_are_passed_over(watcher: Watcher) -> None:
    """UNWATCH leaves events queued: the token says whose they were."""
    watcher.settle(row(7, 1), d7=b"old")
    dead = watcher.watches[name_path(7)]
    watcher.fire(7)
    watcher.settle(row(7, 2), d7=b"new")
    assert watcher.reconciler.on_watch_events([dead]) == Scope()
    assert watcher.reconciler.on_watch_events([Watch(b"/local/domain/7/name", b"else")]) == Scope()
    assert watcher.unread() == []
    assert watcher.fire(7) == Scope({7})


def test_no_token_is_ever_given_twice(watcher: Watcher) -> None:
    """P1: a token names one life on one line."""
    given: list[bytes] = []
    for uuid in (1, 2, 1):
        watcher.see(row(7, uuid), row(8))
        given += [watch.token for watch in watcher.ask()[1]]
    watcher.reconciler.new_line()
    given += [watch.token for watch in watcher.ask()[1]]
    assert len(given) == len(set(given)) == 6


# -- lines -------------------------------------------------------------------------------------


def test_a_new_line_watches_and_reads_everything_again(watcher: Watcher) -> None:
    """P9: the watches went with the old line and events may have been missed."""
    watcher.settle(row(7), row(8), d7=b"web", d8=b"db")
    before = dict(watcher.watches)
    watcher.reconciler.new_line()
    unwatch, watch = watcher.ask()
    assert unwatch == []
    assert [w.path for w in watch] == [name_path(7), name_path(8)]
    assert watcher.reconciler.on_watch_events(before.values()) == Scope()
    assert watcher.read(d7=b"web", d8=b"sql") == [7, 8]
    watcher.see(row(7), row(8))
    assert names(watcher) == {7: "web", 8: "sql"}


def test_a_new_line_leaves_the_picture_as_it_was(watcher: Watcher) -> None:
    """P4: a lost line removes nobody and renames nobody."""
    watcher.settle(row(7), d7=b"web")
    watcher.reconciler.new_line()
    assert watcher.take() == []
    assert watcher.see(row(7)) == []
    assert names(watcher) == {7: "web"}


def test_an_answer_of_the_old_line_is_not_believed_on_the_new_one(watcher: Watcher) -> None:
    """Its watch may have been set too late, or the event for it lost: it is asked again."""
    watcher.settle(row(7), d7=b"web")
    watcher.fire(7)
    watcher.read(d7=b"stale")
    watcher.reconciler.new_line()
    assert watcher.see(row(7)) == []
    watcher.ask()
    assert watcher.read(d7=b"fresh") == [7]
    watcher.see(row(7))
    assert names(watcher) == {7: "fresh"}


def test_questions_the_old_line_never_answered_are_asked_on_the_new_one(watcher: Watcher) -> None:
    """The line went between asking and sending."""
    watcher.settle(row(7), d7=b"web")
    watcher.see(row(7), row(8))
    watcher.ask()
    watcher.unread()
    watcher.reconciler.new_line()
    assert [w.path for w in watcher.ask()[1]] == [name_path(7), name_path(8)]
    assert watcher.read(d7=b"web", d8=b"db") == [7, 8]
    watcher.see(row(7), row(8))
    assert names(watcher) == {7: "web", 8: "db"}


def test_what_ended_with_the_old_line_is_not_unwatched_on_the_new_one(watcher: Watcher) -> None:
    """The server dropped that watch by itself."""
    watcher.settle(row(7), row(8))
    watcher.see(row(8))
    watcher.reconciler.new_line()
    unwatch, watch = watcher.ask()
    assert unwatch == []
    assert [w.path for w in watch] == [name_path(8)]


def test_every_life_that_a_list_lacks_is_known_by_domid(watcher: Watcher) -> None:
    """The watcher looks for these before it believes a removal (P4)."""
    seven, eight, nine = row(7), row(8), row(9)
    watcher.see(seven, eight)
    unlisted = watcher.reconciler.unlisted
    assert unlisted([seven, eight]) == set()
    assert unlisted([row(7), row(8), nine]) == set()
    assert unlisted([eight]) == unlisted([eight, nine]) == unlisted([row(8)]) == {7}
    assert unlisted([]) == {7, 8}
    watcher.see(eight)
    assert unlisted([eight]) == unlisted([seven, eight]) == set()
    watcher.see(seven, scope={7})
    assert unlisted([eight]) == {7}


# -- rows that come again --------------------------------------------------------------------


def test_the_same_list_again_changes_nothing(watcher: Watcher) -> None:
    """The hypervisor port may give the very rows it gave before."""
    rows = row(0), row(7, type=OSType.PV, frame=5, cpu_time=9), row(8, dying=True)
    watcher.settle(*rows, d7=b"web")
    assert watcher.see(*rows) == []
    assert watcher.ask() == ([], [])
    assert names(watcher) == {0: None, 7: "web"}


def test_rows_that_come_again_among_others(watcher: Watcher) -> None:
    """P2: births, ends, a zombie, a crash, between rows that stay what they are."""
    one, two, three, four = (row(domid) for domid in (1, 2, 3, 4))
    watcher.settle(one, two, four)
    watcher.settle(one, two, three, four)
    ((old, new),) = watcher.see(one, three, four)
    assert (old and old.domid, new) == (2, None)
    crashed = row(4, shutdown=ShutdownReason.CRASH)
    ((old, new),) = watcher.see(one, three, crashed)
    assert (old and old.shutdown, new and new.shutdown) == (None, ShutdownReason.CRASH)
    ((old, new),) = watcher.see(one, row(3, dying=True), crashed)
    assert (old and old.domid, new) == (3, None)


AGE = 2 * CLOCKS
POOL = [
    row(domid, handle, cpu_time=cpu_time, dying=dying)
    for domid in range(4)
    for handle, cpu_time, dying in ((1, 0, False), (1, AGE, False), (2, 0, False), (1, 0, True))
]
POOLED = st.fixed_dictionaries(
    {}, optional={domid: st.sampled_from(POOL[4 * domid : 4 * domid + 4]) for domid in range(4)}
)


class Forgetful(LastList):
    """Takes up every row of each list, whatever the last one was."""

    def compared(self, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
        return [*self._rows], [*rows]


@given(
    st.lists(st.tuples(POOLED, st.none() | st.sets(st.integers(0, 3)), st.booleans())),
    st.sampled_from((1, 8)),
)
def test_rows_that_come_again_count_as_any_others(
    steps: list[tuple[dict[int, Row], set[int] | None, bool]], short: int
) -> None:
    """P2, P3: one is given the same objects over and over, the other equal ones, always new.

    short: so that few rows are compared in pieces too.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("domindex.core.listed._SHORT", short)
        _count_as_any_others(steps)


def _count_as_any_others(steps: list[tuple[dict[int, Row], set[int] | None, bool]]) -> None:
    again, anew = Watcher(), Watcher()
    anew.reconciler._last = Forgetful()
    for found, scope, reading in steps:
        rows = [found[domid] for domid in sorted(found) if scope is None or domid in scope]
        assert again.see(*rows, scope=scope) == anew.see(*(Row(*r) for r in rows), scope=scope)
        assert again.ask() == anew.ask()
        if reading:
            assert again.read(d1=b"web") == anew.read(d1=b"web")
        if scope is None:
            assert again.reconciler.unlisted(rows) == set()
    assert again.held == anew.held


def test_a_row_that_comes_again_is_no_proof_once_more_is_known(watcher: Watcher) -> None:
    """P3: cpu time had gone on in between, so that it runs backwards now: another life."""
    zero, seven = row(0), row(7)
    watcher.settle(zero, seven, d7=b"web")
    life = watcher.held[7].life
    assert watcher.see(row(7, cpu_time=AGE), scope={7}) == []
    watcher.settle(zero, seven, d7=b"web")
    assert watcher.held[7].life != life


def test_a_row_that_comes_again_after_its_life_ended_begins_another(watcher: Watcher) -> None:
    """P2, P3: a look at the domain alone had found it gone."""
    zero, seven = row(0), row(7)
    watcher.settle(zero, seven, d7=b"web")
    life = watcher.held[7].life
    ((_, new),) = watcher.see(scope={7})
    assert new is None
    watcher.settle(zero, seven, d7=b"db")
    assert watcher.held[7].name == "db"
    assert watcher.held[7].life != life


def test_a_row_that_comes_again_with_another_unique_id_is_another_life(watcher: Watcher) -> None:
    """P3: where the hypervisor names lives, the row does not count."""
    zero, seven = row(0), row(7)
    watcher.settle(zero, seven, ids={0: 1, 7: 71}, d0=b"Domain-0", d7=b"web")
    assert watcher.see(zero, seven) == []
    watcher.settle(zero, seven, ids={0: 1, 7: 72}, d0=b"Domain-0", d7=b"db")
    assert watcher.held[7].life.unique_id == 72
    ((_, new),) = watcher.see(zero, seven, ids={7: None})
    assert new is None
    assert watcher.reconciler.suspects([zero, seven], thorough=False) == [7]


def test_a_list_taken_in_by_half_is_made_good_on_the_next_line(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2, P9: a fault of ours in its midst; who was born before it and has gone is missed."""
    zero, seven = row(0), row(7)
    watcher.settle(zero, seven, d7=b"web")
    with monkeypatch.context() as patch:
        patch.delattr("domindex.core.nodes.Nodes.ended")
        with pytest.raises(AttributeError):
            watcher.see(zero, row(8))
    watcher.reconciler.new_line()
    assert watcher.reconciler.unlisted([zero]) == {8}


def test_the_very_list_that_comes_again_is_compared_anew(watcher: Watcher) -> None:
    """P2: a look at the domain alone had found it gone meanwhile."""
    rows = [row(0), row(7)]
    watcher.settle(*rows, d7=b"web")
    assert watcher.reconciler.unlisted(rows) == set()
    watcher.see(scope={7})
    watcher.reconciler.see(rows, now=9.0)
    assert watcher.reconciler.unlisted(rows[:1]) == {7}


def test_a_row_that_comes_again_when_its_life_had_gone_is_another_life(watcher: Watcher) -> None:
    """P2, P3: whose unique id nobody knew any more, between the list and the question for it."""
    zero, seven = row(0), row(7)
    watcher.settle(zero, seven, ids={0: 1, 7: 71}, d7=b"web")
    assert [new for _, new in watcher.see(zero, seven, ids={7: None})] == [None]
    watcher.settle(zero, seven, d7=b"db")
    assert watcher.held[7].name == "db"


def test_a_row_that_comes_again_confirms_what_was_read(watcher: Watcher) -> None:
    """P1: a rename while nothing else changes."""
    zero, seven = row(0), row(7)
    watcher.settle(zero, seven, d7=b"web")
    watcher.fire(7)
    watcher.read(d7=b"db")
    assert names(watcher)[7] == "web"
    watcher.see(zero, seven)
    assert names(watcher)[7] == "db"


def test_a_row_that_comes_again_confirms_what_was_read_of_other_nodes(watcher: Watcher) -> None:
    """P1: as for the name, in a list that differs in nothing."""
    zero, seven = row(0), row(7)
    watcher.settle(zero, seven, d7=b"web")
    reconciler, node = watcher.reconciler, Node(7, b"/local/domain/7/memory/target")
    assert reconciler.follow(watcher.held[7].life, node)
    watcher.ask()
    reconciler.nodes.on_values([(asked, b"1024") for asked in reconciler.nodes.unread()])
    assert reconciler.nodes.certain_values() == []
    watcher.see(zero, seven)
    assert reconciler.nodes.certain_values() == [NodeValue(node, b"1024", True)]


def test_a_node_that_is_not_read_yet_tells_nothing(watcher: Watcher) -> None:
    """P1: when its domain is confirmed for the sake of its name, or of another node."""
    watcher.settle(row(7), d7=b"web")
    reconciler = watcher.reconciler
    nodes = [Node(7, b"/local/domain/7/" + path) for path in (b"data", b"memory/target")]
    for node in nodes:
        reconciler.follow(watcher.held[7].life, node)
    watcher.ask()
    asked = reconciler.nodes.unread()
    assert [followed.path for followed in asked] == [node.path for node in nodes]
    watcher.fire(7)
    watcher.read(d7=b"web")
    reconciler.nodes.on_values([(asked[1], b"1024")])
    watcher.see(row(7))
    assert reconciler.nodes.certain_values() == [NodeValue(nodes[1], b"1024", True)]
