"""P2: whatever happens and whatever goes wrong, in the end the index equals the host.

Random histories; Hypothesis reports a failing one step by step and how to repeat it. Threads
make a repeat likely, not certain: then the steps are the report.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from domindex import (
    Domain,
    Event,
    Index,
    NoSuchDomain,
    NotLive,
    Ready,
    Subscription,
    Synced,
    direct,
)
from domindex.testing import QUICK, SimulatedHost
from tests.delivery_log import check_joined, check_ready
from tests.histories import FAULTS, NAMES, TOOLSTACK, UNUSED, UUIDS, Player, Step, steps
from tests.whole.helpers import LIMIT, Ear, told

UNREADABLE, REFUSED = 1, 2
"""Domids of the core that stays broken."""

HASTY = replace(QUICK, request=0.02, probe=0.02, retry=0.001, retry_most=0.01)


class Filter:
    """A listener that asks to be told when a domain with this name or uuid is ready."""

    def __init__(self, key: bytes | UUID, replay: bool) -> None:
        self.key = key if isinstance(key, UUID) else key.decode("utf-8", "surrogateescape")
        self.replay = replay
        self.events: list[Event] = []

    def holds(self, domain: Domain) -> bool:
        return self.key in (domain.uuid, domain.name)

    def subscribe(self, index: Index) -> Subscription:
        return index.subscribe(
            self.events.append, events=(Ready, Synced), where=self.holds, replay=self.replay
        )


class HistoryMachine(RuleBasedStateMachine):
    """A host, its index, listeners that come and go, and every so often the reckoning."""

    unique_ids = watch_depth = False

    def __init__(self) -> None:
        super().__init__()
        self.host = SimulatedHost(unique_ids=self.unique_ids, watch_depth=self.watch_depth)
        self.player = Player(self.host)
        self.index = self.host.connect(timing=HASTY)
        self.ears: list[tuple[Ear, Subscription]] = []
        self.filters: list[tuple[Filter, Subscription]] = []
        self.listen()

    @rule(step=steps(TOOLSTACK))
    def live_on(self, step: Step) -> None:
        self.player.perform(step)

    @rule(some=st.lists(steps(TOOLSTACK), min_size=2, max_size=6))
    def live_fast(self, some: list[Step]) -> None:
        """Several at once, so that the index sees them merged."""
        for step in some:
            self.player.perform(step)

    @rule(step=steps(FAULTS))
    def go_wrong(self, step: Step) -> None:
        self.player.perform(step)

    @rule()
    def listen(self) -> None:
        if len(self.ears) < 3:
            ear = Ear(self.index)
            self.ears.append((ear, self.index.subscribe(ear)))

    @rule(key=st.sampled_from((*filter(None, NAMES), *UUIDS)), replay=st.booleans())
    def listen_for(self, key: bytes | UUID, replay: bool) -> None:
        if len(self.filters) < 4:
            one = Filter(key, replay)
            self.filters.append((one, one.subscribe(self.index)))

    @rule(names=st.booleans())
    def settle(self, names: bool) -> None:
        """A pause in the history, in which the index keeps up."""
        self.player.clear_faults()
        self.index.refresh(names=names)

    @rule()
    def reckon(self) -> None:
        """Faults cleared, everything read again: index, host and listeners agree exactly."""
        self.player.clear_faults()
        self.index.refresh(names=True)
        with direct.open(self.host) as look:
            truth = look.all()
        assert told(self.index) == [(d.domid, d.uuid, d.name, d.type, d.shutdown) for d in truth]
        assert self.index.live
        self.index._table.check()
        self.reckon_with_listeners()

    def reckon_with_listeners(self) -> None:
        """P8: each has all that was told, whenever it came; and knows that the index is live."""
        made = []
        for ear, subscription in self.ears:
            ear.believes(self.index)
            ear.until(lambda ear=ear: ear.believer.live)  # type: ignore[misc]
            made.append(ear.log.check_whole(subscription, LIMIT))
        for late in made[1:]:
            check_joined(made[0], late)
        for one, subscription in self.filters:
            assert subscription.drain(LIMIT)
            check_ready(one.events, self.ears[0][0].log.events, one.holds, replay=one.replay)
        assert self.index.stats.listener_errors == 0

    def teardown(self) -> None:
        try:
            self.reckon()
        finally:
            self.index.close()


class WithUniqueIds(HistoryMachine):
    unique_ids = True


class WithWatchDepth(HistoryMachine):
    watch_depth = True


class WithBoth(HistoryMachine):
    unique_ids = watch_depth = True


class BrokenCore(HistoryMachine):
    """A host of which a fixed core stays broken for ever: all else converges, and stays live.

    The name of domain 1 cannot be read. Of domain 2 the watch of the name is refused and, where
    there are unique ids, its state. One listener never returns from its first event.
    """

    def __init__(self) -> None:
        super().__init__()
        self.host.refuse_node(UNREADABLE, operations="READ")
        self.host.refuse_node(REFUSED, operations="WATCH")
        if self.unique_ids:
            self.host.refuse_state(REFUSED)
        self.go = threading.Event()
        self.index.subscribe(lambda _: self.go.wait(), queue=2)

    @rule()
    def reckon(self) -> None:
        self.player.clear_faults()
        self.index.refresh(names=True)
        with direct.open(self.host) as look:
            truth = {domain.domid: domain for domain in look.all()}
        held = {domain.domid: domain for domain in self.index}
        unread = truth.keys() & {UNREADABLE}
        for domid in unread:  # known is what it was called last, if anything
            truth[domid] = replace(truth[domid], name=held[domid].name)
        assert told(held.values()) == told(truth.values())
        assert self.index.live
        assert {*self.index.unreadable} == unread
        for domain in truth.values():
            if domain.domid not in unread and domain.name is not None:
                assert domain in [
                    replace(found, life=domain.life, first_seen=domain.first_seen)
                    for found in self.index.all_by_name(domain.name)
                ]
        with pytest.raises(NotLive if unread else NoSuchDomain):
            self.index.by_name("nobody")
        with pytest.raises(NoSuchDomain):
            self.index.by_id(UNUSED)
        self.index._table.check()
        self.reckon_with_listeners()

    def teardown(self) -> None:
        try:
            self.reckon()
        finally:
            self.go.set()  # else the close would wait for the one that is stuck
            self.index.close()


class BrokenCoreWithBoth(BrokenCore):
    unique_ids = watch_depth = True


# For each kind of host a third of the examples, 20 steps each: 4,000 steps daily.
_share = settings(max_examples=settings().max_examples // 3, stateful_step_count=20)
TestPlain = HistoryMachine.TestCase
TestWithUniqueIds = WithUniqueIds.TestCase
TestWithWatchDepth = WithWatchDepth.TestCase
TestWithBoth = WithBoth.TestCase
TestBrokenCore = BrokenCore.TestCase
TestBrokenCoreWithBoth = BrokenCoreWithBoth.TestCase
for _case in (
    *(TestPlain, TestWithUniqueIds, TestWithWatchDepth, TestWithBoth),
    *(TestBrokenCore, TestBrokenCoreWithBoth),
):
    _case.settings = _share
del _case

logging.getLogger("domindex").addHandler(logging.NullHandler())  # losses are wanted here
