"""The snapshot: a mapping that never changes, and what lies between two of them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domindex.core.snapshot import Snapshot
from domindex.core.table import Change, DomainTable
from domindex.domain import NIL_UUID, Domain, ShutdownReason
from domindex.events import (
    Added,
    DuplicateName,
    DuplicateUuid,
    Ready,
    Removed,
    Renamed,
    ShutDown,
    Synced,
)
from domindex.listening.wanted import Wanted
from tests.core.lives import life


def snapshot(*domains: Domain, generation: int = 1) -> Snapshot:
    return Snapshot({domain.domid: domain for domain in domains}, generation)


WEB, DB, NAMELESS = life(1, "web"), life(2, "db"), life(3)


def test_it_is_a_mapping_by_domid() -> None:
    """All that a mapping can, in domid order."""
    taken = snapshot(WEB, DB, NAMELESS, generation=7)
    assert isinstance(taken, Mapping)
    assert list(taken) == list(taken.keys()) == [1, 2, 3]
    assert list(taken.values()) == [WEB, DB, NAMELESS]
    assert (taken[2], len(taken), 1 in taken, 9 in taken) == (DB, 3, True, False)
    assert (taken.get(3), taken.get(9)) == (NAMELESS, None)
    assert (taken.generation, repr(taken)) == (7, "<Snapshot of 3 domains, generation 7>")
    with pytest.raises(KeyError):
        taken[9]


def test_the_other_keys_have_whom_they_alone_belong_to() -> None:
    """As the views of the index: neither shared keys, nor no name, nor the nil uuid."""
    twin, nil, empty = life(4, "web"), life(5, "nil", uuid=0), life(6, "")
    kin = life(7, "kin", uuid=DB.uuid.int)
    taken = snapshot(WEB, DB, NAMELESS, twin, nil, empty, kin)
    assert dict(taken.names) == {"db": DB, "nil": nil, "": empty, "kin": kin}
    assert dict(taken.uuids) == {d.uuid: d for d in (WEB, NAMELESS, twin, empty)}
    assert NIL_UUID not in taken.uuids


def test_three_holders_of_a_key_are_none_in_it_either() -> None:
    """Not an even number of them only."""
    assert "x" not in snapshot(life(1, "x"), life(2, "x"), life(3, "x")).names


@pytest.mark.parametrize(
    "change",
    [
        lambda taken: taken.__setitem__(1, DB),
        lambda taken: taken.__delitem__(1),
        lambda taken: taken.names.__setitem__("web", DB),
        lambda taken: taken.uuids.clear(),
        lambda taken: setattr(taken, "generation", 9),
        lambda taken: setattr(taken, "names", {}),
        lambda taken: setattr(taken, "other", 1),
    ],
)
def test_it_cannot_be_changed(change: Any) -> None:
    """It is handed from one thread to another."""
    with pytest.raises((AttributeError, TypeError)):
        change(snapshot(WEB))


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))]
)
def test_it_can_be_copied_and_kept(copied: Any) -> None:
    """Also once its other keys were asked for."""
    taken = snapshot(WEB, DB, generation=7)
    assert taken.names
    assert taken.uuids
    again = copied(taken)
    assert again == taken
    assert (again.generation, again.names["web"]) == (7, WEB)


def test_two_are_equal_if_they_hold_the_same() -> None:
    """Whatever their generations."""
    assert snapshot(WEB, generation=1) == snapshot(WEB, generation=2)
    assert snapshot(WEB) != snapshot(DB)


def test_nothing_lies_between_equals() -> None:
    """Nor between one and itself."""
    taken = snapshot(WEB, DB)
    assert taken.diff(taken) == taken.diff(snapshot(WEB, DB, generation=9)) == ()


def test_a_difference_is_told_as_events() -> None:
    """Ends first; of the newer generation."""
    stopped = replace(DB, name="d", shutdown=ShutdownReason.CRASH)
    told = snapshot(life(0), stopped, generation=5).diff(snapshot(WEB, DB))
    renamed = replace(DB, name="d")
    assert told == (
        Removed(WEB),
        Added(life(0)),
        Renamed(DB, renamed),
        ShutDown(stopped, ShutdownReason.CRASH),
    )
    assert {event.generation for event in told} == {5}


def test_a_reused_domid_is_an_end_and_a_beginning() -> None:
    """P3."""
    new = life(1, "web", uuid=WEB.uuid.int, number=1)
    assert snapshot(new).diff(snapshot(WEB)) == (Removed(WEB), Added(new), Ready(new))


states = st.dictionaries(
    st.integers(0, 4),
    st.tuples(
        st.sampled_from([None, "", "a", "b"]),
        st.integers(0, 2),
        st.integers(0, 1),
        st.sampled_from([None, ShutdownReason.POWEROFF, ShutdownReason.CRASH]),
    ),
)


@given(states, states)
def test_a_difference_is_what_a_listener_heard(
    before: dict[int, Any], after: dict[int, Any]
) -> None:
    """P8: the very events of the change, in their order, but for the duplicates."""

    def made(state: dict[int, Any]) -> dict[int, Domain]:
        return {
            domid: life(domid, name, uuid=uuid, number=number, shutdown=shutdown)
            for domid, (name, uuid, number, shutdown) in sorted(state.items())
        }

    def absent(key: object) -> Domain:
        raise KeyError(key)

    old, new = made(before), made(after)
    table = DomainTable(lambda _, key: absent(key))
    table.apply([(None, domain) for domain in old.values()])
    changes: list[Change] = [(old.get(d), new.get(d)) for d in sorted(old.keys() | new.keys())]
    listener = Wanted(None, None)
    listener(Synced(generation=table.generation))
    heard = [
        event
        for event in table.apply(changes)
        if listener(event) and not isinstance(event, (DuplicateName, DuplicateUuid))
    ]
    assert list(Snapshot(new, 2).diff(Snapshot(old, 1))) == heard
