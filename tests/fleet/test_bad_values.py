"""What is in a store may be anything: it is skipped and counted, and the rest goes on."""

from __future__ import annotations

import contextlib
import json
import pickle
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domindex.domain import Domain, Life, OSType, ShutdownReason
from domindex.errors import NoSuchDomain
from domindex.fleet import HostsSilent, InvalidHost, SeveralFound
from domindex.fleet.layout import dom_key, host_key
from domindex.fleet.records import (
    HostRecord,
    Unreadable,
    host_of,
    pack_domain,
    pack_host,
    unpack_domain,
    unpack_host,
)
from tests.fleet.stage import World

texts = st.text(st.characters(codec=None), max_size=5) | st.just("x" * 4000)
lives = st.integers(0, 2**64 - 1) | st.none()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("untlfsgr"), inner),
)


@given(texts | st.none(), st.uuids(), st.sampled_from(OSType), lives, st.integers(0, 9))
def test_a_domain_comes_out_as_it_went_in(
    name: str | None, uuid: UUID, kind: OSType, life: int | None, shutdown: int
) -> None:
    """Lone surrogates and 4,000 bytes, too."""
    identity = Life(5, life, None, None) if life is not None else Life(5, None, uuid, 1.5)
    domain = Domain(5, uuid, name, kind, identity, 2.5, ShutdownReason(shutdown))
    value = pack_domain(domain, 7)
    assert value.isascii()
    assert unpack_domain(5, value) == domain


@given(json_values | st.dictionaries(st.sampled_from("untlfsgr"), json_values), st.binary())
def test_no_value_breaks_a_reader(value: object, raw: bytes) -> None:
    """F5: it is a domain or host, or it is Unreadable."""
    for text in (json.dumps(value).encode(), raw):
        for unpack in (lambda text: unpack_domain(5, text), unpack_host):
            with contextlib.suppress(Unreadable):
                unpack(text)


def test_a_value_that_nests_deeply_is_unreadable() -> None:
    """The parser gives up with an error of its own kind."""
    with pytest.raises(Unreadable):
        unpack_domain(5, b"[" * 100_000)
    with pytest.raises(Unreadable):
        unpack_host(b"[" * 100_000)


def test_a_host_record_comes_out_as_it_went_in() -> None:
    """With fields that this version does not know."""
    record = HostRecord("i", 3, 2, True, "live", "m", "b", 15.0)
    value = pack_host(record)
    assert unpack_host(value) == record
    assert unpack_host(json.dumps(json.loads(value) | {"new": [1]}).encode()) == record
    with pytest.raises(Unreadable, match="version 2"):
        unpack_host(b'{"v": 2}')


@pytest.mark.parametrize(
    "key",
    [
        "/domindex/v1/strange",
        "/domindex/v1/dom/xen1/0",
        "/domindex/v1/dom/xen1/07",
        "/domindex/v1/dom/xen1/32752",
        "/domindex/v1/dom/xen1/" + "9" * 5000,
        "/domindex/v1/dom/xen1/1/2",
        "/domindex/v1/dom/xen1",
        "/domindex/v1/dom/Xen1/1",
        "/domindex/v1/alive/xen 1",
        "/domindex/v1/host/xen1/x",
        "/domindex/v1/dom/xen1/\N{ARABIC-INDIC DIGIT ONE}",
        "/other",
    ],
)
def test_a_key_beside_the_layout_is_counted_and_means_nothing(key: str) -> None:
    """Nothing is lost by it."""
    assert host_of(key) is None
    with World.open("xen1") as world:
        world.store.put(key, b"{}")
        world.machines["xen1"].host.create("web")
        world.settle()
        assert world.reader.fleet.by_name("web").state == "live"
        with pytest.raises(NoSuchDomain):
            world.reader.fleet.by_name("db")


def test_a_domain_that_cannot_be_read_is_counted_and_its_host_named() -> None:
    """Trap 12: what was known of it stays, and absence cannot be told."""
    with World.open("xen1") as world:
        fleet = world.reader.fleet
        domid = world.machines["xen1"].host.create("web")
        world.settle()
        world.store.put(dom_key("xen1", domid), b"no JSON")
        world.reader.catch_up()
        assert fleet.stats.bad_values == 1
        assert fleet.hosts["xen1"].unreadable == (domid,)
        assert fleet.by_name("web").domain.domid == domid
        with pytest.raises(HostsSilent):
            fleet.by_name("db")
        world.publish(world.machines["xen1"])
        world.settle()
        with pytest.raises(NoSuchDomain):
            fleet.by_name("db")


def test_a_host_of_another_version_is_blind() -> None:
    """Its domains are kept, and it says why."""
    with World.open("xen1") as world:
        world.machines["xen1"].host.create("web")
        world.settle()
        world.store.put(host_key("xen1"), b'{"v": 2}')
        world.reader.catch_up()
        found = world.reader.fleet.by_name("web")
        assert found.state == "blind"
        assert "version 2" in found.status.reason


def test_a_delete_that_was_lost_shows() -> None:
    """The host says how many it has; a reader that holds another number loads anew, once."""
    with World.open("xen1") as world:
        world.machines["xen1"].host.create("web")
        world.machines["xen1"].host.create("db")
        world.settle()
        table = world.reader.body.picture.hosts["xen1"]
        gone = table.table.get(1)
        assert gone is not None
        world.reader.body.picture.apply(table, [(gone, None)], inferred=False)  # the fault
        world.clock.pass_by(31)
        world.write(world.machines["xen1"])
        world.reader.catch_up()
        world.reader.catch_up()
        assert world.reader.fleet.stats.drift == 1
        assert set(world.reader.domains["xen1"]) == {1, 2}


def test_what_a_stranger_put_there_is_no_change_that_was_missed() -> None:
    """The host does not count it, and may count one of its own that cannot be read."""
    with World.open("xen1") as world:
        domid = world.machines["xen1"].host.create("web")
        world.settle()
        world.store.put(dom_key("xen1", 77), b"no JSON")
        world.clock.pass_by(31)
        world.write(world.machines["xen1"])
        world.reader.catch_up()
        late = world.read()
        late.catch_up()
        world.store.put(dom_key("xen1", domid), b"no JSON")
        later = world.read()
        later.catch_up()
        for reader, bad in ((world.reader, 2), (late, 2), (later, 2)):
            world.clock.pass_by(31)
            reader.catch_up()
            assert (reader.fleet.stats.drift, reader.fleet.stats.bad_values) == (0, bad)
            assert reader.fleet.stats.loads == 1
            reader.fleet.close()


def test_a_uuid_twice_on_one_host_is_ambiguous() -> None:
    """As in an index."""
    with World.open("xen1") as world:
        uuid = UUID(int=9)
        world.machines["xen1"].host.create("one", uuid=uuid)
        world.machines["xen1"].host.create("two", uuid=uuid)
        world.settle()
        with pytest.raises(SeveralFound):
            world.reader.fleet.by_uuid(uuid)


def test_more_than_a_transaction_takes_is_written_in_several() -> None:
    """Trap 3: and long names count by their bytes."""
    with World.open("xen1") as world:
        host = world.machines["xen1"].host
        for number in range(300):
            host.create(f"{number}-" + "\udcff" * 4000)
        world.settle()
        assert len(world.reader.domains["xen1"]) == 300
        assert world.reader.states() == {"xen1": "live"}


@pytest.mark.parametrize("name", ["", "Xen1", "a b", "a/b", "-a", "a.", "x" * 254, "ä"])
def test_a_name_that_no_host_can_have_is_refused(name: str) -> None:
    """Before anything is written."""
    with World.open() as world:
        machine = world.add("xen1")
        with pytest.raises(InvalidHost):
            world.publish(machine, name=name or "_")


def test_an_answer_can_be_kept_and_sent() -> None:
    """It pickles as it was."""
    with World.open("xen1") as world:
        world.machines["xen1"].host.create("web")
        world.settle()
        found = world.reader.fleet.by_name("web")
        again = pickle.loads(pickle.dumps(found))
        assert again == found
        assert again.as_of == found.as_of
        assert hash(again) == hash(found)
