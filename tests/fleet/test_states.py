"""F2, F3, F4, F9: what is known of hosts, and what look-ups say meanwhile."""

from __future__ import annotations

import math
from uuid import UUID

import pytest

from domindex.errors import Ambiguous, InvalidKey, NoSuchDomain, NotLive
from domindex.events import Added, Ready, Removed
from domindex.fleet import (
    HostBlind,
    HostEvent,
    HostForgotten,
    HostIsLive,
    HostLive,
    HostLost,
    HostOffline,
    HostRenamed,
    HostsCloned,
    HostsSilent,
    HostTaken,
    NoSuchHost,
    OldAnswer,
    SeveralFound,
    Superseded,
)
from domindex.fleet.errors import LineLost
from domindex.fleet.events import FleetEvent
from domindex.fleet.layout import dom_key
from domindex.fleet.reconcile import LOST_DELAY
from domindex.fleet.states import HostState
from tests.fleet.stage import TTL, World, run_until

UUID1 = UUID(int=1)


def about_hosts(events: list[FleetEvent]) -> list[FleetEvent]:
    """Without what is within hosts."""
    return [
        event
        for event in events
        if type(event).__name__.startswith("Host") and not isinstance(event, HostEvent)
    ]


def test_a_domain_is_found_with_its_host() -> None:
    """F1: the record is what that host's index says."""
    with World.open("xen1", "xen2") as world:
        domid = world.machines["xen2"].host.create("web", uuid=UUID1)
        world.settle()
        found = world.reader.fleet.by_name("web")
        assert (found.host, found.domain.domid, found.state) == ("xen2", domid, "live")
        assert found.domain == world.machines["xen2"].look()[domid]
        assert world.reader.fleet.by_uuid(UUID1) is found
        assert world.reader.fleet.by_uuid(str(UUID1)) is found
        assert world.reader.fleet.by_name(b"web") is found
        assert found.as_of == world.clock.now
        with pytest.raises(NoSuchDomain):
            world.reader.fleet.by_name("db")
        with pytest.raises(InvalidKey):
            world.reader.fleet.by_name(7)  # type: ignore[arg-type]


def test_dom0_stays_out() -> None:
    """It is on every host."""
    with World.open("xen1") as world:
        assert world.reader.domains == {"xen1": {}}


def test_a_silent_host_is_known_within_its_lease_and_two_seconds() -> None:
    """F4, F3: its domains are kept, a hit says lost, and a miss names it."""
    with World.open("xen1", "xen2") as world:
        world.machines["xen1"].host.create("web")
        world.settle()
        world.reader.heard()
        web = world.reader.fleet.by_name("web")
        began = world.clock.now
        world.machines["xen1"].publishing = None  # it dies
        told: list[FleetEvent] = []

        def second() -> None:
            world.clock.pass_by(0.25)
            world.write(world.machines["xen2"])
            world.reader.catch_up()
            told.extend(about_hosts(world.reader.heard()))

        run_until(lambda: world.reader.states()["xen1"] is HostState.LOST, second)
        assert world.clock.now - began <= TTL + 1
        assert not told  # the answer is there at once, the event a little later
        run_until(lambda: bool(told), second)
        assert world.clock.now - began <= TTL + 2
        assert told == [HostLost("xen1", "its lease ran out")]

        found = world.reader.fleet.by_name("web")
        assert (found.state, found.domain) == ("lost", web.domain)
        assert began - TTL <= found.as_of <= began + 1
        assert web.state == "live"  # an answer never changes
        assert web.as_of <= world.clock.now - 1
        with pytest.raises(HostsSilent) as silent:
            world.reader.fleet.by_name("db")
        assert silent.value.hosts == {"xen1": "lost"}
        assert isinstance(silent.value, NotLive)
        with pytest.raises(NoSuchDomain):
            world.reader.fleet.by_name("db", among=["xen2"])
        with pytest.raises(NoSuchHost):
            world.reader.fleet.by_name("db", among=["xen3"])
        with pytest.raises(OldAnswer):
            world.reader.fleet.by_name("web", max_age=5)
        assert world.reader.fleet.by_name("web", max_age=60).state == "lost"
        assert [f.state for f in world.reader.fleet.find(prefix="w")] == ["lost"]
        assert world.reader.fleet.find(states=("live",)) == ()

        world.publish(world.machines["xen1"])  # and returns
        world.settle()
        assert about_hosts(world.reader.heard()) == [HostLive("xen1")]
        assert world.reader.fleet.by_name("web").state == "live"


def test_a_clean_end_is_told_at_once_with_its_reason() -> None:
    """F3: lost, not gone."""
    with World.open("xen1") as world:
        world.machines["xen1"].host.create("web")
        world.settle()
        world.reader.heard()
        publishing = world.machines["xen1"].publishing
        assert publishing is not None
        publishing.release("it is time")
        world.machines["xen1"].publishing = None
        world.reader.catch_up()
        assert about_hosts(world.reader.heard()) == [HostLost("xen1", "it is time")]
        assert world.reader.fleet.by_name("web").status.reason == "it is time"


def test_a_host_that_is_away_for_a_moment_is_not_told_lost() -> None:
    """Trap 10: after a pause of the engine all have lost their leases, and claim anew."""
    with World.open("xen1") as world:
        world.machines["xen1"].host.create("web")
        world.settle()
        world.reader.heard()
        world.store.expire("xen1")
        world.reader.catch_up()
        assert world.reader.fleet.by_name("web").state == "lost"
        world.clock.pass_by(LOST_DELAY / 2)
        world.publish(world.machines["xen1"]).step()
        world.reader.catch_up()
        world.clock.pass_by(LOST_DELAY)
        world.reader.step(3)
        assert world.reader.heard() == []
        assert world.reader.fleet.by_name("web").state == "live"


def test_a_publisher_whose_lease_ran_out_claims_anew() -> None:
    """It was frozen, or the store lost its lease."""
    with World.open("xen1") as world:
        world.store.expire("xen1")
        world.settle()
        assert world.reader.states() == {"xen1": "live"}


def test_a_blind_host_says_so() -> None:
    """Its index has lost its host; what it knew is kept, with its age."""
    with World.open("xen1") as world:
        machine = world.machines["xen1"]
        machine.host.create("web")
        world.settle()
        world.reader.heard()
        machine.host.stop_xenstored()
        run_until(lambda: not machine.index.live, lambda: None, 10**7)
        world.write(machine)
        world.reader.catch_up()
        (told,) = about_hosts(world.reader.heard())
        assert isinstance(told, HostBlind)
        assert world.reader.fleet.by_name("web").state == "blind"
        with pytest.raises(HostsSilent):
            world.reader.fleet.by_name("db")
        machine.host.start_xenstored()
        machine.index.wait_live()
        world.settle()
        assert about_hosts(world.reader.heard()) == [HostLive("xen1")]


def test_an_index_that_has_not_seen_its_host_removes_nothing() -> None:
    """F3: a publisher that starts before xenstored has nothing to say yet."""
    with World.open("xen1") as world:
        world.machines["xen1"].host.create("web")
        world.settle()
        world.machines["xen1"].publishing = None
        world.store.expire("xen1")
        blind = world.add("dark", wait=False)
        blind.host.stop_xenstored()
        blind.index.close()
        blind.index = blind.host.connect(wait=False)
        blind.machine = "m-xen1"
        world.publish(blind, name="xen1").step()
        world.reader.catch_up()
        assert world.reader.fleet.by_name("web").state == "blind"


def test_offline_counts_as_holding_nothing_until_it_returns() -> None:
    """F2: an operator's word; of many hosts one is always dead."""
    with World.open("xen1", "xen2") as world:
        fleet = world.reader.fleet
        world.machines["xen1"].host.create("web")
        world.settle()
        with pytest.raises(HostIsLive):
            fleet.declare_offline("xen1")
        world.machines["xen1"].publishing = None
        world.store.expire("xen1")
        world.clock.pass_by(1)
        world.write(world.machines["xen2"])
        world.reader.catch_up()
        world.reader.heard()
        fleet.declare_offline("xen1", "its board is broken", timeout=0)
        world.reader.catch_up()
        assert about_hosts(world.reader.heard()) == [HostOffline("xen1", "its board is broken")]
        with pytest.raises(NoSuchDomain):
            fleet.by_name("web")
        assert fleet.all_by_name("web") == ()
        assert fleet.find() == () == tuple(fleet)
        assert [f.host for f in fleet.find(states=["offline"])] == ["xen1"]

        world.publish(world.machines["xen1"])
        world.settle()
        assert world.reader.heard() == [HostLive("xen1")]  # no Removed, and no Added
        assert fleet.by_name("web").state == "live"


def test_forget_removes_a_host_and_its_return_undoes_that() -> None:
    """F3: bound to an incarnation, refused for a live host."""
    with World.open("xen1") as world:
        fleet = world.reader.fleet
        web = world.machines["xen1"].host.create("web")
        world.settle()
        with pytest.raises(HostIsLive):
            fleet.forget("xen1")
        with pytest.raises(NoSuchHost):
            fleet.forget("xen9")
        world.machines["xen1"].publishing = None
        world.store.expire("xen1")
        world.reader.catch_up()
        world.clock.pass_by(2)
        world.reader.step()
        world.reader.heard()
        fleet.forget("xen1", timeout=0)
        world.reader.catch_up()
        removed, forgotten = world.reader.heard()
        assert isinstance(removed, HostEvent)
        assert isinstance(removed.event, Removed)
        assert removed.event.inferred
        assert removed.event.domain.domid == web
        assert forgotten == HostForgotten("xen1")
        assert list(fleet.hosts) == []
        with pytest.raises(NoSuchDomain):
            fleet.by_name("web")
        world.publish(world.machines["xen1"])
        world.settle()
        assert fleet.by_name("web").host == "xen1"


def test_forget_is_refused_if_the_host_has_returned_meanwhile() -> None:
    """The reader does not know yet, and the store does."""
    with World.open("xen1") as world:
        world.machines["xen1"].publishing = None
        world.store.expire("xen1")
        world.reader.catch_up()
        world.publish(world.machines["xen1"]).step()
        with pytest.raises(HostIsLive):
            world.reader.fleet.forget("xen1")


def test_another_machine_under_the_same_name_is_refused() -> None:
    """F9: and it keeps trying, in case the name becomes free."""
    with World.open("xen1") as world:
        other = world.add("other")
        publishing = world.publish(other, name="xen1")
        publishing.step()
        assert isinstance(publishing.problem, HostTaken)
        assert world.machines["xen1"].publishing is not None
        world.machines["xen1"].publishing.step()
        assert world.machines["xen1"].publishing.problem is None


def test_who_was_fenced_by_its_own_machine_stops() -> None:
    """Trap 8: two daemons of one machine would fight for ever."""
    with World.open("xen1") as world:
        machine = world.machines["xen1"]
        first = machine.publishing
        world.publish(machine).step()
        machine.host.create("web")
        machine.refresh()
        assert first is not None
        with pytest.raises(Superseded):
            first.step()
        world.settle()
        assert world.reader.fleet.by_name("web").state == "live"


def test_at_a_takeover_the_host_is_syncing_and_nothing_is_told_twice() -> None:
    """Trap 9: another incarnation is not a loss."""
    with World.open("xen1") as world:
        machine = world.machines["xen1"]
        machine.host.create("web")
        world.settle()
        world.reader.heard()
        world.publish(machine).claim()
        world.reader.catch_up()
        assert world.reader.fleet.by_name("web").state == "syncing"
        world.settle()
        assert world.reader.heard() == []
        assert world.reader.fleet.by_name("web").state == "live"


def test_a_renamed_machine_takes_its_domains_along() -> None:
    """F9: HostRenamed, and no false Added or Removed."""
    with World.open("xen1") as world:
        machine = world.machines["xen1"]
        machine.host.create("web")
        world.settle()
        world.reader.heard()
        machine.publishing = None  # it is killed, and starts again under another name at once
        world.publish(machine, name="new1").step()
        world.reader.catch_up()
        assert world.reader.fleet.by_name("web").host == "xen1"
        world.store.expire("xen1")
        world.reader.catch_up()
        assert world.reader.heard() == [HostRenamed("xen1", "new1")]
        assert world.reader.fleet.by_name("web").host == "new1"
        assert world.reader.fleet.by_name("web").state == "live"
        assert list(world.reader.fleet.hosts) == ["new1"]
        fresh = world.read()
        fresh.catch_up()
        assert fresh.domains == world.reader.domains
        fresh.fleet.close()


def test_cloned_machines_are_told_and_not_merged() -> None:
    """Both go on for longer than a lease."""
    with World.open("xen1") as world:
        world.machines["xen1"].host.create("web")
        world.settle()
        world.reader.heard()
        clone = world.add("xen2", machine="m-xen1")
        clone.host.create("db")
        world.publish(clone)
        for _ in range(8):
            world.settle()
        assert HostsCloned(("xen1", "xen2")) in world.reader.heard()
        assert world.reader.fleet.by_name("db").host == "xen2"
        assert world.reader.fleet.by_name("web").host == "xen1"
        world.machines["xen2"].publishing = None
        world.store.expire("xen2")
        world.settle()
        assert world.reader.states() == {"xen1": "live", "xen2": "lost"}


def test_a_uuid_on_two_hosts_is_ambiguous_and_settled_takes_the_one_that_runs() -> None:
    """Both ends of a live migration."""
    with World.open("xen1", "xen2") as world:
        fleet = world.reader.fleet
        one = world.machines["xen1"].host.create("web", uuid=UUID1)
        two = world.machines["xen2"].host.create("web--incoming", uuid=UUID1)
        world.settle()
        with pytest.raises(SeveralFound) as several:
            fleet.by_uuid(UUID1)
        assert [(f.host, f.domain.domid) for f in several.value.found] == [
            ("xen1", one),
            ("xen2", two),
        ]
        assert isinstance(several.value, Ambiguous)
        assert fleet.by_uuid(UUID1, settled=True).host == "xen1"
        assert fleet.by_uuid(UUID1, among=("xen2",)).host == "xen2"
        assert len(fleet.all_by_uuid(UUID1)) == 2
        world.machines["xen1"].host.shutdown(one, 2)
        world.machines["xen2"].host.rename(two, "web")
        world.settle()
        assert fleet.by_uuid(UUID1, settled=True).host == "xen2"
        assert fleet.by_name("web", settled=True).host == "xen2"


def test_a_rebooted_host_has_other_lives_though_their_ids_are_the_same() -> None:
    """Trap 16: unique ids begin anew with each boot."""
    with World.open("xen1") as world:
        machine = world.machines["xen1"]
        domid = machine.host.create("web", uuid=UUID1, domid=5)
        world.settle()
        before = world.reader.fleet.by_name("web")
        world.reader.heard()
        machine.boot = "boot-2"
        machine.publishing = None
        world.publish(machine).step()  # its index gives the same unique id again
        world.reader.catch_up()
        kinds = [type(e.event) for e in world.reader.heard() if isinstance(e, HostEvent)]
        assert kinds == [Removed, Added, Ready]
        after = world.reader.fleet.by_name("web")
        assert after.domain.domid == domid
        assert after.life != before.life
        assert before not in world.reader.fleet
        assert after in world.reader.fleet


def test_without_unique_ids_a_new_index_does_not_end_lives() -> None:
    """Its records say other lives, as it has seen them first later."""
    with World.open() as world:
        machine = world.add("xen1", unique_ids=False)
        machine.host.create("web")
        machine.refresh()
        world.publish(machine)
        world.settle()
        before = world.reader.fleet.by_name("web")
        world.reader.heard()
        machine.index.close()
        machine.index = machine.host.connect()
        world.publish(machine)
        world.settle()
        assert [e for e in world.reader.heard() if isinstance(e, HostEvent)] == []
        assert before in world.reader.fleet


def test_what_ended_while_the_store_was_lost_is_no_ghost() -> None:
    """F1, F5: an emptied store has nothing to delete; what its publisher writes anew is all."""
    with World.open("xen1", "xen2") as world:
        one = world.machines["xen1"]
        goes, stays = one.host.create("goes"), one.host.create("stays")
        world.settle()
        world.reader.heard()
        world.store.wipe()
        world.reader.catch_up()
        one.host.destroy(goes)
        comes = one.host.create("comes")
        world.settle()
        assert world.reader.states()["xen1"] == "live"
        assert world.reader.domains["xen1"].keys() == {stays, comes}
        told = [e.event for e in world.reader.heard() if isinstance(e, HostEvent)]
        known = {(type(e), e.domain.domid) for e in told if isinstance(e, (Added, Removed))}
        assert known == {(Added, comes), (Removed, goes)}
        assert world.reader.fleet.stats.drift == 0


def test_a_store_that_was_wiped_loses_hosts_and_no_domains() -> None:
    """F3, F5, trap 7: another epoch is another store; its hosts come back to it."""
    with World.open("xen1", "xen2") as world:
        for name in ("xen1", "xen2"):
            world.machines[name].host.create(f"on-{name}")
        world.settle()
        world.reader.heard()
        world.store.wipe()
        world.machines["xen2"].publishing = None  # this one does not come back
        world.settle()
        world.clock.pass_by(2)
        world.write(world.machines["xen1"])
        world.reader.catch_up()
        assert [e for e in world.reader.heard() if isinstance(e, HostEvent)] == []
        assert world.reader.states() == {"xen1": "live", "xen2": "lost"}
        assert world.reader.fleet.by_name("on-xen2").state == "lost"
        world.reader.fleet.forget("xen2")
        assert world.reader.states() == {"xen1": "live"}


def test_after_a_compaction_the_events_are_exactly_the_difference() -> None:
    """F5: it was behind, and loads anew."""
    with World.open("xen1", "xen2") as world:
        host = world.machines["xen1"].host
        stays, ends = host.create("stays"), host.create("ends")
        world.settle()
        world.reader.heard()
        host.destroy(ends)
        comes = host.create("comes")
        world.machines["xen1"].refresh()
        world.write(world.machines["xen1"])
        world.store.compact()
        world.reader.catch_up()
        told = [e.event for e in world.reader.heard() if isinstance(e, HostEvent)]
        assert [(type(e), e.domain.domid) for e in told if isinstance(e, (Added, Removed))] == [
            (Removed, ends),
            (Added, comes),
        ]
        assert set(world.reader.domains["xen1"]) == {stays, comes}


def test_a_host_whose_changes_do_not_get_through_becomes_lost() -> None:
    """Trap 6: a full store still renews leases."""
    with World.open("xen1") as world:
        world.store.full = True
        world.machines["xen1"].host.create("web")
        world.machines["xen1"].refresh()
        for _ in range(10):
            world.write(world.machines["xen1"])
            world.clock.pass_by(TTL / 5)
        world.reader.catch_up()
        assert world.reader.states() == {"xen1": "lost"}
        world.store.full = False
        world.settle()
        assert world.reader.fleet.by_name("web").state == "live"


@pytest.mark.parametrize("fault", ["before", "after"])
def test_what_a_failed_write_may_have_left_is_mended(fault: str) -> None:
    """F5: whether it was done is not known, and the domain has ended by the next one."""
    with World.open("xen1") as world:
        machine = world.machines["xen1"]
        machine.engine.fail.append(fault)
        domid = machine.host.create("web")
        machine.refresh()
        world.write(machine)
        assert isinstance(machine.publishing and machine.publishing.problem, LineLost)
        machine.host.destroy(domid)
        world.settle()
        assert world.reader.states() == {"xen1": "live"}
        assert world.reader.domains == {"xen1": {}}
        assert world.store.read([dom_key("xen1", domid)])[1] == {}


def test_while_the_line_is_down_the_reader_says_so() -> None:
    """A hit is what was last known, a miss cannot tell, and its age stands still."""
    with World.open("xen1") as world:
        fleet = world.reader.fleet
        world.machines["xen1"].host.create("web")
        world.settle()
        world.store.stop()
        world.reader.step()
        assert not fleet.live
        then = fleet.by_name("web").as_of
        world.clock.pass_by(30)
        assert fleet.by_name("web").as_of == then
        with pytest.raises(NotLive):
            fleet.by_name("db")
        with pytest.raises(NotLive):
            fleet.by_name("web", stale="refuse")
        with pytest.raises(OldAnswer):
            fleet.by_name("web", max_age=10)
        with pytest.raises(LineLost):
            fleet.refresh(0)
        world.store.go_on()
        world.settle()
        assert fleet.by_name("web", stale="refuse").state == "live"


def test_a_host_that_was_lost_before_the_reader_came_is_of_unknown_age() -> None:
    """It cannot say since when."""
    with World.open("xen1") as world:
        world.machines["xen1"].host.create("web")
        world.settle()
        world.store.expire("xen1")
        fresh = world.read()
        fresh.catch_up()
        assert fresh.fleet.by_name("web").as_of == -math.inf
        fresh.fleet.close()
