"""Lives that ended lately: the latest first, for a time, up to a number."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from uuid import UUID

import pytest

from domindex.core.ended import KEPT, KEPT_FOR, EndedLives, LastNames
from domindex.domain import Domain
from domindex.events import Added, Changed, Removed
from tests.core.lives import life


class Clock:
    """The time that the past goes by."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 5000.0
        monkeypatch.setattr("domindex.core.ended.time", SimpleNamespace(monotonic=lambda: self.now))


def anybody(_: Domain) -> bool:
    return True


def test_only_ends_are_remembered_the_latest_first() -> None:
    """As they were told."""
    past = EndedLives()
    one, two = Removed(life(1, "a")), Removed(life(2, "b"))
    past.add([Added(life(3)), one])
    past.add([two])
    assert past.find(anybody) == (two, one)
    assert past.find(lambda domain: domain.name == "a") == (one,)
    assert past.find(lambda domain: domain.name == "c") == ()


def test_a_life_is_found_under_every_uuid_that_it_had() -> None:
    """C: xenopsd changes the handle before a domain ends; a late log line has the old one."""
    past = EndedLives()
    first = life(1, "web", uuid=7)
    second, third = (replace(first, uuid=UUID(int=number)) for number in (8, 9))
    past.add([Changed(first, second, ("uuid",)), Changed(second, third, ("uuid",))])
    past.add([Removed(third), Removed(life(2, uuid=7))])
    found = [past.find(anybody, uuid=UUID(int=number)) for number in (7, 8, 9, 10)]
    assert [[event.domain.domid for event in ended] for ended in found] == [[2, 1], [1], [1], []]
    assert not past._uuids


# -- last names ------------------------------------------------------------------------------


def test_the_last_name_is_told_with_the_end() -> None:
    """libxl takes the name away first. One that got another, or never had one, is as it was."""
    names = LastNames()
    web, nameless, www = life(1, "web"), life(1, None), life(1, "www")
    names.change(web, nameless)
    assert names.change(nameless, nameless) == nameless
    assert names.change(nameless, None) == web
    names.change(web, nameless)
    names.change(nameless, www)
    assert names.change(www, None) == www
    assert names.change(nameless, None) == nameless
    assert not names._names


def test_a_name_is_that_of_its_life_alone() -> None:
    """P1: what takes the domid over without a name does not inherit one."""
    names = LastNames()
    web, nameless, other = life(1, "web"), life(1, None), life(1, None, number=1)
    names.change(web, nameless)
    assert names.change(nameless, other) == web
    assert names.change(other, None) == other


def test_each_life_of_a_domid_has_its_own_end() -> None:
    """P3: whose it was is told by the life."""
    past = EndedLives()
    first, second = Removed(life(1, "a", number=1)), Removed(life(1, "a", number=2))
    past.add([first, second])
    assert past.end_of(first.domain.life) is first
    assert past.end_of(second.domain.life) is second
    assert past.end_of(life(1, number=3).life) is None


def test_no_more_are_kept_than_promised() -> None:
    """The oldest go."""
    past = EndedLives()
    past.add(Removed(life(1, number=number)) for number in range(KEPT + 5))
    found = past.find(anybody)
    assert len(found) == KEPT
    assert [found[0].domain.first_seen, found[-1].domain.first_seen] == [KEPT + 4, 5]


def test_none_is_kept_longer_than_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not others end meanwhile; then it needs no room either."""
    clock, past = Clock(monkeypatch), EndedLives()
    old, young = Removed(life(1)), Removed(life(2))
    past.add([old])
    clock.now += KEPT_FOR
    assert past.find(anybody) == (old,)
    clock.now += 0.1
    assert past.find(anybody) == ()
    past.add([young])
    assert past.find(anybody) == (young,)
    assert len(past._ended) == 1
