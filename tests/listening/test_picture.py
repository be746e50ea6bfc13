"""What is known and whether it is up to date: what a picture tells of its state. Without a host."""

from __future__ import annotations

import math

import pytest

from domindex.errors import HostError, NoSuchDomain
from domindex.events import Event, Lost, Recovered
from domindex.listening.hub import MailboxOptions
from domindex.picture import Down, Live, Picture


def opened() -> tuple[Picture, list[type[Event]]]:
    """A picture, and what it tells a listener from now on."""
    picture = Picture(patience=math.inf)
    mailbox = picture.hub.open(lambda: None, MailboxOptions(replay=False))
    told: list[type[Event]] = []

    def take() -> None:
        while (event := mailbox.take()) is not None:
            told.append(type(event))

    take()  # Synced, and Lost as the host was not seen yet
    told.clear()
    picture.changed.on_change(take)
    return picture, told


def test_without_look_ups_what_it_does_not_hold_is_absent() -> None:
    """P5: a view never answers with nothing."""
    with pytest.raises(NoSuchDomain):
        Picture(patience=math.inf).table.names.view["web"]


def test_it_says_once_that_it_is_live() -> None:
    """P9: Recovered belongs to a Lost. Another line that takes the place of one is none."""
    picture, told = opened()
    picture.up()
    assert told == [Recovered]
    picture.up()
    assert told == [Recovered]
    assert picture.state == Live()


def test_it_says_once_that_it_is_down_and_keeps_the_last_cause() -> None:
    """P9: however many attempts fail meanwhile; the time counts from the first."""
    picture, told = opened()
    picture.up()
    picture.down(HostError("first"))
    since = picture.state.since if isinstance(picture.state, Down) else None
    picture.down(HostError("second"))
    assert isinstance(picture.state, Down)
    assert (str(picture.state.cause), picture.state.since) == ("second", since)
    assert told == [Recovered, Lost]
    picture.up()
    assert told == [Recovered, Lost, Recovered]


def test_once_ended_it_says_nothing_more() -> None:
    """P9: neither that it is live nor that it is not."""
    picture, told = opened()
    picture.end("over")
    picture.up()
    picture.down(HostError("late"))
    picture.commit(())
    assert told == []
    assert not picture.live
