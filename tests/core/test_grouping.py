"""Domains by what a function of the caller's says: asked once, and never trusted to work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domindex.core.grouping import Grouping
from domindex.domain import Domain
from tests.core.lives import life


def owner(domain: Domain) -> str | None:
    """The first letter of the name."""
    return domain.name[0] if domain.name else None


def test_those_present_are_there_at_once_and_those_that_come_join_them() -> None:
    """Lowest domid first, whenever they came."""
    db1, db9, web = life(1, "db1"), life(9, "db9"), life(2, "web")
    grouping = Grouping(owner, [db9, web])
    assert grouping.get("d") == (db9,)
    grouping.apply((), [db1])
    assert (grouping.get("d"), grouping.get("w"), grouping.get("x")) == ((db1, db9), (web,), ())


def test_a_change_moves_a_domain_from_one_key_to_the_other() -> None:
    """And an empty group is not kept, which would be a slow leak."""
    db = life(1, "db")
    web = replace(db, name="web")
    grouping = Grouping(owner, [db])
    grouping.apply([db], [web])
    assert (grouping.get("d"), grouping.get("w")) == ((), (web,))
    assert list(grouping._groups) == ["w"]
    grouping.apply([web], ())
    assert not grouping._groups
    assert not grouping._where


def test_none_is_nowhere() -> None:
    """Coming and going."""
    nameless = life(1)
    grouping = Grouping(owner, [nameless])
    assert grouping.get(None) == ()
    grouping.apply([nameless], ())
    assert grouping.get(None) == ()


def test_the_function_is_asked_once_for_each_record() -> None:
    """What it says later does not count: the record leaves from where it was put."""
    answers = iter(["a", "b"])
    web, db = life(1, "web"), life(2, "db")
    grouping = Grouping(lambda _: next(answers), [web])
    grouping.apply((), [db])
    grouping.apply([web], ())
    assert (grouping.get("a"), grouping.get("b")) == ((), (db,))


class Moody:
    """A key that is another one each time it is looked at."""

    def __init__(self) -> None:
        self.mood = 0

    def __hash__(self) -> int:
        self.mood += 1
        return self.mood


class Stubborn:
    """A key that cannot be compared."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, _: object) -> bool:
        raise ZeroDivisionError("on purpose")


def leave(_: Domain) -> Hashable:
    raise SystemExit(1)


@pytest.mark.parametrize(
    "key_of",
    [lambda _: 1 // 0, lambda _: [], lambda _: Stubborn(), leave],
    ids=["raises", "no key", "cannot be compared", "exits"],
)
def test_a_function_that_fails_harms_nobody(
    key_of: Callable[[Domain], Hashable], caplog: pytest.LogCaptureFixture
) -> None:
    """It runs in the one thread that keeps the index true: that must neither end, nor stop half
    way. The failure is logged."""
    both = [life(1, "web"), life(2, "db")]
    with caplog.at_level(logging.ERROR, "domindex"):
        grouping = Grouping(key_of if key_of is not leave else owner, both)
        grouping._key_of = key_of
        grouping.apply(both, both)
    assert "the key function of an index failed on domain 2" in caplog.text


def test_what_is_to_end_the_program_does_in_the_caller_s_thread() -> None:
    """P9: Ctrl-C may come while the function is asked for the first time."""
    with pytest.raises(SystemExit):
        Grouping(leave, [life(1, "web")])


def test_a_key_that_changes_harms_nobody() -> None:
    """Its domain leaves the group that it was put in."""
    key, web = Moody(), life(1, "web")
    grouping = Grouping(lambda _: key, [web])
    (group,) = grouping._groups.values()
    grouping.apply([web], ())
    assert not group


def test_after_clear_nobody_is_there() -> None:
    """And those who come then are."""
    web = life(1, "web")
    grouping = Grouping(owner, [web])
    grouping.clear()
    assert grouping.get("w") == ()
    grouping.apply((), [web])
    assert grouping.get("w") == (web,)


@given(st.lists(st.dictionaries(st.integers(0, 4), st.sampled_from([None, "", "a", "b", "ab"]))))
def test_it_equals_a_look_at_every_domain(states: list[dict[int, Any]]) -> None:
    """Whatever came, went and was renamed, some of it at once."""
    grouping = Grouping(owner, ())
    held: dict[int, Domain] = {}
    for state in states:
        after = {domid: life(domid, name) for domid, name in state.items()}
        same = {domid for domid in held if held[domid] == after.get(domid)}
        grouping.apply(
            [domain for domid, domain in held.items() if domid not in same],
            [domain for domid, domain in after.items() if domid not in same],
        )
        held = after
        for key in ("a", "b", "x"):
            assert grouping.get(key) == tuple(
                held[domid] for domid in sorted(held) if owner(held[domid]) == key
            )
