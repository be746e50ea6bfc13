"""The hub: everyone who listens to one picture, without an index."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from domindex.core.nodes import Node
from domindex.domain import Domain, Life
from domindex.errors import NoSuchDomain
from domindex.events import Added, Event, Recovered, Resync, Synced
from domindex.listening.hub import LATE, Hub, MailboxOptions
from domindex.listening.mailbox import Mailbox
from domindex.listening.wanted import Wanted
from domindex.options import Timing
from tests.core.lives import life

ALL = Wanted(None, None)


def nothing() -> None:
    """Whom to wake where a test takes by itself."""


class Picture:
    """One domain, which does not change."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.domain = life(1, "web")

    def check_open(self) -> None:
        """It is."""

    def first_events(self, *, replay: bool) -> list[Event]:
        return [Added(self.domain), Synced()] if replay else [Synced()]

    def resync_events(self) -> list[Event]:
        return [Resync((self.domain,))]

    def holds(self, domain: Domain) -> Domain:
        if domain.life != self.domain.life:
            raise NoSuchDomain("life", domain.life)
        return self.domain

    def latest(self, domain: Domain) -> Domain:
        return self.domain


def test_each_mailbox_begins_with_what_it_was_to_begin_with() -> None:
    """And then everyone gets the same."""
    hub = Hub(Picture())
    whole = hub.stream(ALL, MailboxOptions())
    later = hub.stream(ALL, MailboxOptions(replay=False))
    hub.tell([Recovered(1.0)])
    assert [type(whole.get(0)) for _ in range(3)] == [Added, Synced, Recovered]
    assert [type(later.get(0)) for _ in range(2)] == [Synced, Recovered]


def test_whoever_closes_amid_telling_takes_nothing_from_the_others() -> None:
    """P8: a signal's handler may close one in the thread that tells, amid it."""
    hub = Hub(Picture())
    first: Mailbox[Event] = hub.open(lambda: hub.forget(first), MailboxOptions(replay=False))
    others = [hub.open(nothing, MailboxOptions(replay=False)) for _ in range(2)]
    hub.tell([Recovered(1.0)])
    for mailbox in others:
        assert [mailbox.take(), mailbox.take()] == [Synced(), Recovered(1.0)]
    assert [listener.pending for listener in hub.listeners] == [0, 0]


def test_what_those_who_have_gone_counted_still_counts() -> None:
    """Once, also if they are closed twice."""
    hub = Hub(Picture())
    stream = hub.stream(ALL, MailboxOptions(queue=1))
    hub.tell([Recovered(1.0), Recovered(2.0)])
    failing = hub.subscribe(lambda _: 1 // 0, ALL, MailboxOptions())
    assert failing.wait_synced(5.0)
    assert (hub.overflows, hub.errors) == (1, 2)
    for listener in (stream, failing):
        listener.close()
        listener.close()
    assert (hub.overflows, hub.errors, hub.listeners) == (1, 2, ())


def test_what_is_counted_is_of_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that goes amid it would count twice, or not at all."""
    picture = Picture()
    hub = Hub(picture)
    owned: list[bool] = []
    lock: Any = picture.lock

    class Listener:
        @property
        def overflows(self) -> int:
            owned.append(lock._is_owned())
            return 1

        errors = overflows

    monkeypatch.setattr(hub, "_mailboxes", (Listener(),))
    monkeypatch.setattr(hub, "_subscriptions", {None: Listener()})
    assert (hub.overflows, hub.errors, owned) == (1, 1, [True, True])


def test_what_is_cut_off_is_called_no_more_and_counts_no_more() -> None:
    """P9: the first step of a close, which waits for nobody."""
    hub = Hub(Picture())
    heard: list[Event] = []
    hub.subscribe(heard.append, ALL, MailboxOptions(), threaded=False)
    stream = hub.stream(ALL, MailboxOptions())
    loop = hub.loop()
    hub.cut_off()
    hub.tell([Recovered(1.0)])
    assert (loop.dispatch(), heard, list(stream), hub.listeners) == (0, [], [], ())
    hub.close(5.0)
    hub.close(5.0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"queue": 0}, "queue"),
        ({"reboot_grace": -1.0}, "reboot_grace"),
        *(({"name": name}, "name") for name in ("", "a\nb", "x" * 65, 7)),
    ],
)
def test_a_mailbox_that_cannot_be_is_refused(options: dict[str, object], match: str) -> None:
    """Before anything is made."""
    with pytest.raises(ValueError, match=match):
        MailboxOptions(**options)  # type: ignore[arg-type]


def test_while_a_node_begins_or_ceases_to_be_followed_nothing_changes() -> None:
    """Else the watch of a life that has just ended is never closed, or one too many dropped."""
    picture = Picture()
    hub = Hub(picture)
    others: list[bool] = []

    def may_change_it() -> bool:
        if free := picture.lock.acquire(blocking=False):
            picture.lock.release()
        return free

    def look() -> None:
        with ThreadPoolExecutor(1) as another:
            others.append(another.submit(may_change_it).result())

    class Follower:
        def follow(self, life: Life, node: Node) -> None:
            look()

        def drop(self, node: Node) -> None:
            look()

    hub.join(Follower())
    with hub.watch(picture.domain, "data/x", lambda *_: None, threaded=False):
        assert others == [False]
    assert others == [False, False]
    hub.close(5.0)


def test_an_event_is_late_after_two_probes() -> None:
    """A handler that is only busy for a moment is done by then."""
    assert 2 * Timing().probe == LATE
