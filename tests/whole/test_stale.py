"""While the line is down: look-ups serve what was last known, refuse, or wait, as was said."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from domindex.errors import HypercallFailed, NoSuchDomain, NotLive
from domindex.events import Event, Lost, Recovered
from domindex.index import Index
from domindex.opening import connect
from domindex.options import Stale
from domindex.testing import SimulatedHost
from tests.whole.helpers import CALM, LIMIT, SHARP, Meddler, eventually
from tests.whole.test_waits import Waiting

U = UUID(int=7)
BRIEF = replace(SHARP, wait=0.05)
"""As SHARP, and a look-up does not wait for long."""
LONG = replace(SHARP, wait=LIMIT)


@pytest.fixture
def host() -> SimulatedHost:
    """One kind, with the domain that all look for: 7, "web", U."""
    host = SimulatedHost(idle=True)
    host.create("web", domid=7, uuid=U)
    return host


LOOK_UPS: dict[str, Callable[[Index], object]] = {
    "by_name": lambda index: index.by_name("web"),
    "by_name bytes": lambda index: index.by_name(b"web"),
    "by_uuid": lambda index: index.by_uuid(U),
    "by_uuid text": lambda index: index.by_uuid(str(U)),
    "by_id": lambda index: index.by_id(7),
    "os_type": lambda index: index.os_type(7),
    "all_by_name": lambda index: index.all_by_name("web"),
    "all_by_uuid": lambda index: index.all_by_uuid(U),
    "names[]": lambda index: index.names["web"],
    "uuids[]": lambda index: index.uuids[U],
    "domids[]": lambda index: index.domids[7],
    "resolve": lambda index: index.resolve("web"),
    "resolve name": lambda index: index.resolve("name:web"),
    "find": lambda index: index.find(prefix="web"),
    "range": lambda index: index.range("w"),
    "by": lambda index: index.by("owner", "web"),
    "snapshot": lambda index: index.snapshot(),
    "iteration": list,
    "length": len,
}
"""Each way to ask for "web"."""


def known(index: Index) -> Index:
    """With an index of the caller's own, and what all look-ups gave once."""
    index.add_index("owner", lambda domain: domain.name)
    for look_up in LOOK_UPS.values():
        assert look_up(index)
    return index


def lose(host: SimulatedHost, index: Index) -> None:
    """Take the line away, and wait until everybody knows."""
    host.stop_xenstored()
    eventually(lambda: not index.live)


@pytest.fixture
def refusing(host: SimulatedHost) -> Iterator[Index]:
    with host.connect(timing=SHARP, stale="refuse") as index:
        yield known(index)


@pytest.mark.parametrize("look_up", list(LOOK_UPS))
def test_what_was_last_known_is_served(host: SimulatedHost, look_up: str) -> None:
    """Unless it was said otherwise: the very same answers as before."""
    with host.connect(timing=SHARP) as index:
        before = LOOK_UPS[look_up](known(index))
        lose(host, index)
        assert LOOK_UPS[look_up](index) == before
        assert index.age > 0


@pytest.mark.parametrize("look_up", list(LOOK_UPS))
def test_what_may_be_old_is_refused(host: SimulatedHost, refusing: Index, look_up: str) -> None:
    """P5: it cannot be told; the error says what broke. When the line is back, all is there."""
    before = LOOK_UPS[look_up](refusing)
    lose(host, refusing)
    with pytest.raises(NotLive) as caught:
        LOOK_UPS[look_up](refusing)
    assert caught.value.cause is not None
    host.start_xenstored()
    refusing.wait_live(LIMIT)
    assert LOOK_UPS[look_up](refusing) == before


def test_views_that_may_be_old_are_empty(host: SimulatedHost, refusing: Index) -> None:
    """What does not raise for a miss answers as for one; then they hold what they should again,
    and the changes of the time between."""
    lose(host, refusing)
    for view in (refusing.names, refusing.uuids, refusing.domids):
        assert (len(view), list(view), view.copy()) == (0, [], {})
    assert refusing.names.get("web") is None
    assert "web" not in refusing.names
    assert 7 not in refusing.domids
    host.create("db")
    host.destroy(7)
    host.start_xenstored()
    refusing.wait_live(LIMIT)
    assert list(refusing.names) == ["Domain-0", "db"]
    assert "web" not in refusing.names
    assert len(refusing.domids) == 2


@pytest.mark.parametrize("look_up", list(LOOK_UPS))
def test_a_look_up_may_wait_for_the_line(host: SimulatedHost, look_up: str) -> None:
    """And then it answers with what is so after the resync."""
    with host.connect(timing=LONG, stale="wait") as index:
        known(index)
        lose(host, index)
        waiting = Waiting(index, lambda: LOOK_UPS[look_up](index))
        host.rename(7, "www")
        host.rename(7, "web")
        host.start_xenstored()
        assert waiting.end() == LOOK_UPS[look_up](index)


@pytest.mark.parametrize("look_up", list(LOOK_UPS))
def test_a_look_up_waits_no_longer_than_was_said(host: SimulatedHost, look_up: str) -> None:
    """P9: `Timing.wait`, then it cannot be told."""
    with host.connect(timing=BRIEF, stale="wait") as index:
        known(index)
        lose(host, index)
        began = time.monotonic()
        with pytest.raises(NotLive):
            LOOK_UPS[look_up](index)
        assert BRIEF.wait <= time.monotonic() - began < LIMIT


def test_a_domain_that_went_meanwhile_is_absent_to_whoever_waited(host: SimulatedHost) -> None:
    """P5: live again, absence is proven."""
    with host.connect(timing=LONG, stale="wait") as index:
        lose(host, index)
        waiting = Waiting(index, lambda: index.names["web"])
        host.destroy(7)
        host.start_xenstored()
        assert isinstance(waiting.end(), NoSuchDomain)


def test_a_wait_holds_up_nobody(host: SimulatedHost) -> None:
    """Neither the watcher, which is to bring the line back, nor listeners, nor other look-ups."""
    heard: list[Event] = []
    with host.connect(timing=LONG, stale="wait") as index:
        subscription = index.subscribe(heard.append, replay=False)
        lose(host, index)
        waits = [Waiting(index, lambda: index.by_name("web")) for _ in range(5)]
        assert index.by_name("web", stale="serve").domid == 7
        assert subscription.drain(LIMIT)
        host.start_xenstored()
        assert all(waiting.end().domid == 7 for waiting in waits)
        eventually(lambda: len(heard) == 3)
    assert [type(event) for event in heard[1:]] == [Lost, Recovered]


KEYED: dict[str, Callable[..., Any]] = {
    "by_name": lambda index, **how: index.by_name("web", **how),
    "by_uuid": lambda index, **how: index.by_uuid(U, **how),
    "by_id": lambda index, **how: index.by_id(7, **how),
    "os_type": lambda index, **how: index.os_type(7, **how),
}


@pytest.mark.parametrize("general", ["serve", "refuse", "wait"])
@pytest.mark.parametrize("look_up", list(KEYED))
def test_each_call_may_say_otherwise(host: SimulatedHost, look_up: str, general: Stale) -> None:
    """Whatever was said for all."""
    with host.connect(timing=BRIEF, stale=general) as index:
        found = KEYED[look_up](index)
        for stale in ("serve", "refuse", "wait"):
            assert KEYED[look_up](index, stale=stale) == found
        lose(host, index)
        assert KEYED[look_up](index, stale="serve") == found
        for stale in ("refuse", "wait"):
            with pytest.raises(NotLive):
                KEYED[look_up](index, stale=stale)


@pytest.mark.parametrize("look_up", list(KEYED))
def test_verified_and_refused_go_together(host: SimulatedHost, look_up: str) -> None:
    """P7: the hypervisor may well say that the domain runs, but nobody whether its name is old.
    Where it is served, the hypervisor is asked; where it is not, it need not be."""
    with host.connect(timing=SHARP) as index:
        found = KEYED[look_up](index)
        assert KEYED[look_up](index, verify=True, stale="refuse") == found
        lose(host, index)
        assert KEYED[look_up](index, verify=True) == found
        host.refuse_hypercalls()
        with pytest.raises(NotLive):
            KEYED[look_up](index, verify=True, stale="refuse")
        with pytest.raises(HypercallFailed):
            KEYED[look_up](index, verify=True, stale="serve")


def test_verified_waits_for_the_line_too(host: SimulatedHost) -> None:
    """And then for the hypervisor."""
    with host.connect(timing=LONG) as index:
        lose(host, index)
        waiting = Waiting(index, lambda: index.by_name("web", verify=True, stale="wait"))
        host.start_xenstored()
        assert waiting.end().domid == 7


def test_a_wait_for_a_domain_is_not_served_what_may_be_old(
    host: SimulatedHost, refusing: Index
) -> None:
    """It ends when the line is back, or as a look-up does when the time is up."""
    lose(host, refusing)
    with pytest.raises(NotLive):
        refusing.wait_for(name="web", timeout=0.02)
    waiting = Waiting(refusing, lambda: refusing.wait_for(name="web", timeout=LIMIT))
    host.start_xenstored()
    assert waiting.end().domid == 7


def test_live_is_not_said_before_all_is_shown(
    host: SimulatedHost, refusing: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P5: whoever waited for it would find views that hold nobody."""
    lose(host, refusing)
    shown: list[bool] = []
    hide = refusing._table.hide

    def watched(**which: bool) -> None:
        shown.append(refusing.live)
        hide(**which)
        shown.append(refusing.live)

    monkeypatch.setattr(refusing._table, "hide", watched)
    host.start_xenstored()
    refusing.wait_live(LIMIT)
    assert shown[-2:] == [False, False]
    assert refusing.names.get("web")


def test_readers_never_find_a_domain_missing_that_runs_all_the_while(host: SimulatedHost) -> None:
    """P5: while the line comes and goes each look-up answers or says that it cannot tell, and
    says NoSuchDomain never."""
    wrong: list[object] = []
    over = threading.Event()
    with host.connect(timing=SHARP, stale="refuse") as index:

        def read() -> None:
            while not over.is_set():
                try:
                    if index.names["web"].domid != 7 or index.by_uuid(U).domid != 7:
                        wrong.append("another")
                except NotLive:
                    pass
                except BaseException as error:
                    wrong.append(error)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for _ in range(20):
            lose(host, index)
            host.start_xenstored()
            index.wait_live(LIMIT)
        over.set()
        for reader in readers:
            reader.join()
    assert wrong == []


@pytest.mark.parametrize("stale", ["", "old", None, 1])
def test_what_is_no_way_to_answer_is_refused(host: SimulatedHost, stale: Any) -> None:
    """Before anything is opened; and by each call."""
    with pytest.raises(ValueError, match="stale"):
        connect(host, stale=stale)
    with host.connect(timing=CALM) as index:
        if stale:
            with pytest.raises(ValueError, match="stale"):
                index.by_name("web", stale=stale)


@pytest.mark.parametrize("look_up", list(KEYED))
def test_an_index_that_refuses_refuses_verified_look_ups_too(
    host: SimulatedHost, refusing: Index, look_up: str
) -> None:
    """P7: what was said at `connect` holds for them as what a call says; a call may say more."""
    found = KEYED[look_up](refusing)
    assert KEYED[look_up](refusing, verify=True) == found
    lose(host, refusing)
    with pytest.raises(NotLive):
        KEYED[look_up](refusing, verify=True)
    assert KEYED[look_up](refusing, verify=True, stale="serve") == found


# -- old answers, up to an age ---------------------------------------------------------------

SOON = 0.3
"""Seconds for which old answers are served."""


@pytest.mark.parametrize("look_up", list(LOOK_UPS))
def test_old_answers_are_served_up_to_an_age(host: SimulatedHost, look_up: str) -> None:
    """While the line is down for longer it cannot be told; then all is there again."""
    with host.connect(timing=SHARP, max_stale=3600) as index:
        before = LOOK_UPS[look_up](known(index))
        lose(host, index)
        assert LOOK_UPS[look_up](index) == before
        index._body.picture.confirmed -= 3600
        eventually(lambda: "web" not in index.names)
        with pytest.raises(NotLive) as caught:
            LOOK_UPS[look_up](index)
        assert caught.value.cause is not None
        host.start_xenstored()
        index.wait_live(LIMIT)
        assert LOOK_UPS[look_up](index) == before


def test_views_are_emptied_at_that_age_without_a_call(host: SimulatedHost) -> None:
    """The watcher does it, although its next attempt is a minute away, and not before."""
    slow = replace(SHARP, retry=60.0, retry_most=60.0)
    with host.connect(timing=slow, max_stale=SOON) as index:
        host.stop_xenstored()
        eventually(lambda: "web" not in index.names)
        assert index.age > SOON
        assert (index.live, len(index.domids), len(index.uuids)) == (False, 0, 0)
        assert index.names.get("web") is None
        assert index.by_name("web", stale="serve").domid == 7
        assert len(index.snapshot(stale="serve")) == 2
        with pytest.raises(NotLive):
            index.wait_for(name="web", timeout=0.01)
        with pytest.raises(NotLive):
            index.by_name("web", verify=True)
        assert index.by_name("web", verify=True, stale="serve").domid == 7


def test_a_live_index_is_served_at_any_age(host: SimulatedHost) -> None:
    """Between two probes nothing confirms it, and nothing is wrong."""
    with host.connect(timing=CALM, max_stale=0.0) as index:
        assert index.age > 0
        assert index.names["web"] is index.by_name("web") is index.by_name("web", verify=True)
        assert index.snapshot()[7].name == "web"


def test_a_line_that_hangs_at_its_start_lets_no_answer_grow_too_old(host: SimulatedHost) -> None:
    """The first pass of the next line may take long: views are emptied meanwhile."""
    meddler = Meddler(host)
    with connect(meddler, timing=CALM, max_stale=SOON) as index:
        assert "web" in index.names
        seen: list[bool] = []

        def grow_old() -> None:
            index._body.picture.confirmed -= 3600
            meddler.meddle["watch"] = lambda: seen.append("web" in index.names)

        meddler.meddle["list"] = grow_old
        host.cut_line()
        eventually(lambda: seen)
        index.wait_live(LIMIT)
        assert "web" in index.names
    assert seen == [False]


@pytest.mark.parametrize(
    ("stale", "max_stale"), [("serve", -1), ("serve", float("nan")), ("refuse", 1), ("wait", 1)]
)
def test_what_is_no_age_is_refused(host: SimulatedHost, stale: Stale, max_stale: float) -> None:
    """Before anything is opened; and there is none where old answers are not served."""
    with pytest.raises(ValueError, match="max_stale"):
        host.connect(stale=stale, max_stale=max_stale)
    assert host.hypercalls == 0
