"""What a listener asked for: which events are told to it, and what of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from domindex.domain import Domain, ShutdownReason
from domindex.events import (
    Added,
    Changed,
    DuplicateName,
    Event,
    Lost,
    Ready,
    Rebooted,
    Removed,
    Renamed,
    Resync,
    ShutDown,
    Synced,
)
from domindex.listening.wanted import Wanted
from tests.core.lives import life

WEB, DB = life(1, "web"), life(2, "db")


def is_web(domain: Domain) -> bool:
    assert domain.name is not None
    return domain.name.startswith("w")


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        (Added(WEB), True),
        (Added(DB), False),
        (Renamed(DB, WEB), True),
        (Renamed(WEB, DB), True),
        (Ready(WEB), True),
        (Ready(DB), False),
        (Changed(DB, DB, ("type",)), False),
        (Rebooted(WEB, DB), True),
        (DuplicateName("x", (DB, WEB)), True),
        (DuplicateName("x", (DB, DB)), False),
        (Lost(OSError()), True),
        (Synced(), True),
    ],
    ids=str,
)
def test_where_goes_by_any_of_an_event_s_domains(told: Event, wanted: bool) -> None:
    """One is enough; an event about none is everybody's."""
    assert Wanted(None, is_web)(told) == (told if wanted else None)


def test_kinds_are_chosen_and_a_resync_always_is() -> None:
    """Else whoever asked for some kinds alone would never learn that it missed any."""
    wanted = Wanted((Added,), None)
    assert wanted(Added(WEB)) == Added(WEB)
    assert wanted(Removed(WEB)) is None
    assert wanted(Resync((WEB,))) == Resync((WEB,))


@pytest.mark.parametrize("begin", [Synced(generation=5), Resync((), generation=5)], ids=str)
def test_ready_again_is_for_whoever_began_meanwhile(begin: Event) -> None:
    """P8: a listener that began before the life ceased to be ready has had its Ready."""
    for ceased in (4, 5, 6):
        for wanted in (Wanted(None, None), Wanted((Ready,), is_web)):
            again = Ready(WEB, ceased=ceased, before=WEB)
            wanted(begin)
            assert wanted(again) == (None if ceased == 6 else Ready(WEB))


def test_ready_comes_to_a_filter_when_it_holds_for_the_first_time() -> None:
    """P8: once a life; by the last ready record it is seen whether the listener knows of it."""
    for replay in (True, False):
        wanted = Wanted((Ready,), is_web)
        if replay:
            assert wanted(Ready(WEB)) == Ready(WEB)
            assert wanted(Ready(DB)) is None
        wanted(Synced(generation=5))
        other = replace(DB, name="web")
        assert wanted(Ready(other, ceased=6, before=DB)) == Ready(other)
        assert wanted(Ready(DB, ceased=7, before=other)) is None
        assert wanted(Ready(other, ceased=8, before=DB)) is None
        # Without replay it was left out; after a change that shows this, it stays known.
        away = replace(WEB, name="away")
        assert wanted(Ready(away, ceased=6, before=WEB)) is None
        assert wanted(Ready(WEB, ceased=7, before=away)) is None
        assert wanted(Resync((WEB, DB), generation=9)) == Resync((WEB,))
        assert wanted(Ready(other, ceased=10, before=DB)) == Ready(other)
        assert wanted(Ready(WEB, ceased=9, before=WEB)) == Ready(WEB)


def test_a_filter_that_fails_on_the_record_before_hears_of_the_new_one() -> None:
    """As one that looks its domains up in a table, where the old name is not found."""
    wanted = Wanted((Ready,), lambda domain: {"web": True}[domain.name or ""])
    wanted(Synced(generation=5))
    assert wanted(Ready(WEB, ceased=6, before=DB)) == Ready(WEB)
    with pytest.raises(KeyError):
        wanted(Ready(life(3, "mail")))


def test_of_a_resync_the_wanted_domains_are_told() -> None:
    """With its generation and time."""
    told = Wanted(None, is_web)(Resync((WEB, DB), generation=7, time=8.0))
    assert isinstance(told, Resync)
    assert (told.domains, told.generation, told.time) == ((WEB,), 7, 8.0)


def test_a_resync_is_told_even_if_where_fails_on_a_domain() -> None:
    """One bad record among many must not leave the listener with a picture that is wrong."""
    nameless = life(3)
    told = Wanted(None, is_web)(Resync((nameless, WEB)))
    assert told == Resync((WEB,))
    with pytest.raises(AssertionError):
        Wanted(None, is_web)(Added(nameless))


# -- the end of what was let in ----------------------------------------------------------------

OTHER = replace(WEB, name="other")


@pytest.mark.parametrize(
    "end",
    [
        Removed(OTHER),
        ShutDown(OTHER, ShutdownReason.CRASH),
        Rebooted(OTHER, DB),
    ],
    ids=lambda event: type(event).__name__,
)
def test_a_filter_sees_the_end_of_whatever_it_let_in(end: Event) -> None:
    """P8: whatever it is called by then; of what was never let in nothing is told."""
    wanted = Wanted(None, is_web)
    assert wanted(end) is None
    assert wanted(Added(WEB)) is not None
    assert wanted(Changed(OTHER, OTHER, ("uuid",))) is None
    assert wanted(end) == end
    assert wanted(Removed(DB)) == (Removed(DB) if isinstance(end, Rebooted) else None)


def test_a_life_is_let_in_by_any_event_that_is_told() -> None:
    """P8: a rename to and one from the name that is looked for, too."""
    for event in (Renamed(OTHER, WEB), Renamed(WEB, OTHER), DuplicateName("w", (WEB, OTHER))):
        wanted = Wanted((type(event), Removed), is_web)
        assert wanted(event) == event
        assert wanted(Removed(OTHER)) == Removed(OTHER)
        assert wanted(Removed(OTHER)) is None


def test_a_resync_begins_anew() -> None:
    """P8: what it does not tell of is gone for the listener; what it tells of has an end."""
    wanted = Wanted(None, is_web)
    wanted(Added(WEB))
    assert wanted(Resync((OTHER,))) == Resync(())
    assert wanted(Removed(OTHER)) is None
    assert wanted(Resync((WEB, DB))) == Resync((WEB,))
    assert wanted(Removed(OTHER)) == Removed(OTHER)


def test_nothing_is_remembered_of_what_has_ended() -> None:
    """P11: also where ends are not wanted, nor who took the place of another."""
    wanted = Wanted((Added,), is_web)
    wanted(Added(WEB))
    assert wanted(Removed(OTHER)) is None
    assert not wanted._let_in
    wanted = Wanted(None, is_web)
    wanted(Added(WEB))
    wanted(Rebooted(OTHER, DB))
    wanted(Removed(DB))
    assert not wanted._let_in
    for kinds in (None, (Ready,)):
        for ended in (Removed(OTHER), Rebooted(OTHER, DB)):
            for ready in (Ready(WEB), Ready(OTHER, ceased=1, before=WEB)):
                wanted = Wanted(kinds, is_web)
                wanted(ready)
                assert wanted._were_ready == {WEB.life}
                wanted(ended)
                assert not wanted._were_ready
