"""The table: keys that several share, views that are hidden, names from one to another."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from domindex.core.key import KeyIndex
from domindex.core.table import Change, DomainTable
from domindex.domain import Domain
from domindex.events import DomainEvent, DuplicateName, DuplicateUuid
from tests.core.lives import life
from tests.core.test_table import Absent, table_of


def duplicates(table: DomainTable, *changes: Change) -> list[DomainEvent]:
    """What is told of shared keys when these changes are taken in."""
    told = table.apply(changes)
    return [event for event in told if isinstance(event, (DuplicateName, DuplicateUuid))]


A, B, C = life(1, "web", uuid=7), life(2, "web", uuid=8), life(3, "db", uuid=7)


# -- duplicates ------------------------------------------------------------------------------


def test_a_key_that_gains_a_second_holder_is_told() -> None:
    """P5: with all that have it, lowest domid first, after the events of the change itself."""
    table = table_of(B)
    told = table.apply([(None, A)])
    assert told[-1] == DuplicateName("web", (A, B))
    assert [event.generation for event in told] == [2, 2, 2]
    assert duplicates(table, (None, C)) == [DuplicateUuid(C.uuid, (A, C))]


def test_two_that_come_at_once_with_one_key_are_told() -> None:
    """Once, with both."""
    assert duplicates(table_of(), (None, A), (None, B)) == [DuplicateName("web", (A, B))]


def test_a_third_holder_is_told_again() -> None:
    """With all three."""
    third = life(9, "web")
    assert duplicates(table_of(A, B), (None, third)) == [DuplicateName("web", (A, B, third))]


def test_a_rename_may_make_a_duplicate() -> None:
    """Told with the record as it is then."""
    renamed = replace(C, name="web")
    assert duplicates(table_of(B, C), (C, renamed)) == [DuplicateName("web", (B, renamed))]


@pytest.mark.parametrize(
    "changes",
    [
        [(A, None)],
        [(A, replace(A, name="x"))],
        [(A, replace(A, uuid=life(5).uuid))],
        [(A, None), (B, None)],
    ],
    ids=["ends", "renamed", "another uuid", "both end"],
)
def test_a_key_that_gains_no_holder_is_not_told(changes: list[Change]) -> None:
    """What changes of its holders, and that it loses some, is told as that."""
    assert duplicates(table_of(A, B), *changes) == []


def test_names_that_are_swapped_are_shared_at_no_moment() -> None:
    """Nor told to be."""
    changes = (B, replace(B, name="db")), (C, replace(C, name="web"))
    assert duplicates(table_of(B, C), *changes) == []


def test_another_life_on_the_domid_of_a_holder_is_a_holder_gained() -> None:
    """P3: it is another domain, though of the same number and name."""
    new = replace(life(1, "web", uuid=7, number=1))
    assert duplicates(table_of(A, B), (A, new)) == [DuplicateName("web", (new, B))]


def test_one_holder_that_makes_room_for_another_is_told() -> None:
    """There are as many as before, but one of them is new."""
    new = life(9, "web")
    assert duplicates(table_of(A, B), (A, None), (None, new)) == [DuplicateName("web", (B, new))]


def test_neither_no_name_nor_the_nil_uuid_is_shared() -> None:
    """They belong to nobody; the empty name is a name."""
    pair = life(1, uuid=0), life(2, uuid=0)
    assert duplicates(table_of(), *((None, domain) for domain in pair)) == []
    empty = life(3, ""), life(4, "")
    assert duplicates(table_of(), *((None, domain) for domain in empty)) == [
        DuplicateName("", empty)
    ]


def test_what_is_shared_now_is_told_to_whoever_asks() -> None:
    """As a late listener does: names, then uuids."""
    told = table_of(A, B, C).duplicates(generation=4, time=5.0)
    assert told == [DuplicateName("web", (A, B)), DuplicateUuid(A.uuid, (A, C))]
    assert [(event.generation, event.time) for event in told] == [(4, 5.0)] * 2
    assert table_of(B, C).duplicates(generation=4, time=5.0) == []


# -- hidden views ----------------------------------------------------------------------------


def views(table: DomainTable) -> list[dict[object, Domain]]:
    return [dict(keyed.view.items()) for keyed in (table.names, table.uuids, table.domids)]


def test_hidden_views_hold_nothing_and_the_table_goes_on() -> None:
    """Every change comes in meanwhile, and is there when they are shown again."""
    table = table_of(A, C)
    table.hide()
    assert views(table) == [{}, {}, {}]
    with pytest.raises(Absent):
        table.names.view["db"]
    assert list(table) == [A, C]
    table.apply([(C, None), (None, B)])
    assert views(table) == [{}, {}, {}]
    assert table.names.holders("web") == {1: A, 2: B}
    table.check()
    table.hide(names=False, others=False)
    assert views(table) == [{}, {A.uuid: A, B.uuid: B}, {1: A, 2: B}]
    table.check()
    assert table.apply([(B, None)])
    assert table.names.view["web"] is A
    table.check()


def test_hiding_and_showing_twice_is_once() -> None:
    """A line may be lost again before it is back."""
    table = table_of(A)
    table.hide(names=False, others=False)
    table.hide()
    table.hide()
    table.hide(names=False, others=False)
    table.hide(names=False, others=False)
    assert table.names.view["web"] is A
    table.check()


def test_a_table_cleared_while_hidden_is_empty() -> None:
    """As when the index is closed then."""
    table = table_of(A, B)
    table.hide()
    table.clear()
    assert (len(table), views(table)) == (0, [{}, {}, {}])
    table.apply([(None, C)])
    assert table.names.view["db"] is C
    table.check()


def test_a_reader_finds_what_it_asks_for_whatever_is_hidden_and_shown() -> None:
    """P1: from the view without a lock, else from what is held behind it, under the lock of the
    writer; never a wrong one, never none."""
    lock = threading.Lock()

    def closer(index: KeyIndex[Any, Domain], key: Any) -> Domain:
        with lock:
            found: Domain = index.unique[key]
            return found

    table = DomainTable(closer)
    table.apply([(None, A)])
    wrong: list[object] = []
    over = threading.Event()

    def read() -> None:
        try:
            while not over.is_set():
                found = table.names.view["web"]
                listed = list(table.names.view)
                if found.domid != 1 or listed not in ([], ["web"]):
                    wrong.append((found, listed))
        except BaseException as error:
            wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(2000):
        with lock:
            table.hide()
        with lock:
            table.hide(names=False, others=False)
    over.set()
    for reader in readers:
        reader.join()
    assert wrong == []


# -- names from one to another ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "end", "found"),
    [
        (None, None, [4, 1, 7, 2, 3, 5]),
        ("a", "b", [1, 7, 2]),
        ("ab", None, [2, 3, 5]),
        (None, "a", [4]),
        ("a", "a", []),
        ("b", "a", []),
        ("", "", []),
        ("\udcff", None, []),
        ("b", "\U0010ffff", [3, 5]),
    ],
)
def test_a_range_has_its_first_and_not_its_end(
    first: str | None, end: str | None, found: list[int]
) -> None:
    """In name order, then by domid; nobody without a name."""
    named = {1: "a", 7: "a", 2: "ab", 3: "b", 4: "", 5: "b\udcff", 6: None}
    table = table_of(*(life(domid, name) for domid, name in named.items()))
    assert [domain.domid for domain in table.between(first, end)] == found
