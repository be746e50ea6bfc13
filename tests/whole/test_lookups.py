"""Look-ups: every way in, the three answers, and views that stay true."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from domindex.domain import NIL_UUID, OSType, ShutdownReason
from domindex.errors import Ambiguous, Closed, HypercallFailed, InvalidKey, NoSuchDomain, NotLive
from domindex.index import Index
from domindex.testing import SimulatedHost
from tests.whole.helpers import CALM, SHARP, eventually

U = UUID("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9")


@pytest.fixture
def web(host: SimulatedHost) -> int:
    """A guest that is there before the index is opened."""
    return host.create("web", uuid=U, type="pvh")


# -- each key --------------------------------------------------------------------------------


def test_one_domain_is_found_by_each_of_its_keys(web: int, index: Index) -> None:
    """Name, uuid and domid give the same record."""
    found = index.by_name("web")
    assert (found.domid, found.uuid, found.name, found.type) == (web, U, "web", OSType.PVH)
    assert found.shutdown is None
    assert found.first_seen == pytest.approx(time.time(), abs=60)
    assert index.by_uuid(U) is index.by_id(web) is found
    assert index.names["web"] is index.uuids[U] is index.domids[web] is found


@pytest.mark.parametrize("spelling", [U, str(U), str(U).upper(), U.hex, U.urn, U.bytes], ids=repr)
def test_a_uuid_is_found_in_any_spelling(
    web: int, index: Index, spelling: UUID | str | bytes
) -> None:
    """By the look-up, by the view, and verified."""
    assert index.by_uuid(spelling).domid == web
    assert index.by_uuid(spelling, verify=True).domid == web
    assert index.all_by_uuid(spelling) == (index.by_id(web),)


def test_a_uuid_may_be_a_bytearray(web: int, index: Index) -> None:
    """as_uuid takes it, all_by_uuid takes it; by_uuid should."""
    assert index.all_by_uuid(bytearray(U.bytes))  # type: ignore[arg-type]
    assert index.by_uuid(bytearray(U.bytes)).domid == web  # type: ignore[arg-type]


@pytest.mark.parametrize("type_", ["pv", "pvh", "hvm"])
def test_the_os_type_is_what_the_hypervisor_says(host: SimulatedHost, type_: str) -> None:
    """virDomainGetOSType, from memory or verified."""
    domid = host.create("x", type=type_)
    with host.connect(timing=CALM) as index:
        assert index.os_type(domid) is index.os_type(domid, verify=True) is OSType(type_)
        assert index.os_type(0) is OSType.PV


@pytest.mark.parametrize(
    "raw", [b"", b"x" * 4000, b"\xff\xfe", b"a\nb\x1b[2J", "wéb".encode(), b"42", b" web "]
)
def test_any_name_is_found_as_bytes_and_as_text(
    host: SimulatedHost, index: Index, raw: bytes
) -> None:
    """Byte for byte, whatever the bytes."""
    domid = host.create(raw)
    index.refresh()
    assert index.by_name(raw).domid == domid
    assert index.by_name(raw.decode("utf-8", "surrogateescape")).domid == domid
    assert index.all_by_name(raw) == (index.by_id(domid),)
    assert index.find(prefix=raw)[0].domid in {domid, 0}


def test_a_name_made_of_digits_is_a_name(host: SimulatedHost, index: Index) -> None:
    """by_name("42") and by_id(42) never mix."""
    named = host.create("42", domid=7)
    host.create("seven", domid=42)
    index.refresh()
    assert index.by_name("42").domid == named
    assert index.by_id(42).name == "seven"
    with pytest.raises(NoSuchDomain):
        index.by_name("7")


def test_the_nil_uuid_is_nobody_s(host: SimulatedHost, index: Index) -> None:
    """dom0 has it, hand-made domains have it; nothing is found by it, and it is not ambiguous."""
    host.create("hand-made", uuid=NIL_UUID)
    index.refresh()
    assert [d.uuid for d in index] == [NIL_UUID, NIL_UUID]
    assert index.all_by_uuid(NIL_UUID) == ()
    assert len(index.uuids) == 0
    for verify in (False, True):
        with pytest.raises(NoSuchDomain):
            index.by_uuid(NIL_UUID, verify=verify)


def test_dom0_is_found(index: Index) -> None:
    """It is a domain like any other."""
    assert index.by_id(0).name == "Domain-0"
    assert index.by_name("Domain-0").domid == 0


# -- the three answers -----------------------------------------------------------------------

MISSES: list[Callable[[Index], object]] = [
    lambda index: index.by_name("nobody"),
    lambda index: index.by_name(b"nobody"),
    lambda index: index.by_uuid(UUID(int=9)),
    lambda index: index.by_uuid(str(UUID(int=9))),
    lambda index: index.by_id(999),
    lambda index: index.os_type(999),
    lambda index: index.names["nobody"],
    lambda index: index.uuids[UUID(int=9)],
    lambda index: index.domids[999],
]


@pytest.mark.parametrize("miss", MISSES)
def test_a_miss_while_live_is_absence(index: Index, miss: Callable[[Index], object]) -> None:
    """P5: NoSuchDomain, which is a KeyError, with the key."""
    with pytest.raises(NoSuchDomain, match="no running domain has"):
        miss(index)


@pytest.mark.parametrize("miss", MISSES)
def test_a_miss_while_not_live_cannot_tell(miss: Callable[[Index], object]) -> None:
    """P5: NotLive with its cause, for a key not held; a key that is held still answers."""
    host = SimulatedHost()
    web = host.create("web", uuid=U)
    with host.connect(timing=SHARP) as index:
        host.stop_xenstored()
        eventually(lambda: not index.live)
        with pytest.raises(NotLive) as told:
            miss(index)
        assert told.value.cause is not None
        assert index.by_name("web").domid == index.by_uuid(U).domid == web
        assert index.by_id(web).name == "web"
        with pytest.raises(NotLive):
            index.all_by_name("nobody")
        with pytest.raises(NotLive):
            index.all_by_uuid(UUID(int=9))
        assert index.names.get("nobody") is None
        assert "nobody" not in index.names


def test_two_holders_of_a_key_are_ambiguous(host: SimulatedHost, index: Index) -> None:
    """P5: with all of them; the plural look-ups give tuples, lowest domid first."""
    one = host.create("web", uuid=U, domid=5)
    two = host.create("web", uuid=U, domid=3)
    index.refresh()
    both = (index.by_id(two), index.by_id(one))
    lookups: list[Callable[[], object]] = [
        lambda: index.by_name("web"),
        lambda: index.by_name(b"web"),
        lambda: index.by_name("web", verify=True),
        lambda: index.by_uuid(str(U)),
        lambda: index.names["web"],
        lambda: index.uuids[U],
    ]
    for look_up in lookups:
        with pytest.raises(Ambiguous, match="belongs to domains 3, 5") as told:
            look_up()
        assert told.value.domains == both
    assert index.all_by_name("web") == index.all_by_name(b"web") == both
    assert index.all_by_uuid(U) == both
    assert "web" not in index.names
    host.destroy(one)
    index.refresh()
    assert index.by_name("web") is index.by_uuid(U) is both[0]
    assert index.all_by_name("web") == both[:1]


def test_a_uuid_shared_by_a_dying_and_a_live_domain_is_the_live_one_s(
    host: SimulatedHost, index: Index
) -> None:
    """P5: the end of a reboot: the old domain is a zombie, the new one runs."""
    old = host.create("web", uuid=U)
    index.refresh()
    release = host.zombie(old)
    new = host.create("web", uuid=U)
    index.refresh()
    assert index.by_uuid(U).domid == index.by_name("web").domid == new != old
    with pytest.raises(NoSuchDomain):
        index.by_id(old)
    release()
    index.refresh()
    assert index.by_uuid(U).domid == new


def test_plural_look_ups_of_nobody_are_empty(index: Index) -> None:
    """P5: while live, none is an answer."""
    assert index.all_by_name("nobody") == index.all_by_uuid(UUID(int=9)) == ()


def wrong(look_up: Callable[[Index, Any], object], *keys: object) -> list[Any]:
    return [(look_up, key) for key in keys]


WRONG = [
    *wrong(lambda index, key: index.by_name(key), None, 7, 7.5, ["web"], U),
    *wrong(lambda index, key: index.names[key], None, 7),
    *wrong(lambda index, key: index.all_by_name(key), None, 7, ["web"]),
    *wrong(lambda index, key: index.find(prefix=key), None, 7, ["web"]),
    *wrong(lambda index, key: index.by_uuid(key), None, 7, "web", b"web", [U], {}),
    *wrong(lambda index, key: index.all_by_uuid(key), None, 7, "web", b"", [U]),
    *wrong(lambda index, key: index.by_id(key), None, "0", b"0", 0.0, False, [0]),
    *wrong(lambda index, key: index.by_id(key), -1, 0x7FF0, 2**70),
    *wrong(lambda index, key: index.os_type(key), None, "0", -1),
    *wrong(lambda index, key: index.info(key), None, "0", -1, False),
]


@pytest.mark.parametrize(("look_up", "key"), WRONG)
def test_a_key_that_cannot_be_is_the_caller_s_mistake(
    index: Index, look_up: Callable[[Index, Any], object], key: object
) -> None:
    """InvalidKey, a ValueError and a TypeError; never absence, never a crash."""
    with pytest.raises(InvalidKey):
        look_up(index, key)


@pytest.mark.parametrize("verify", [False, True])
def test_what_is_wrong_with_a_key_is_said(index: Index, verify: bool) -> None:
    """Which key it was to be, and what was given instead."""
    given: Any
    for look_up, given, said in (
        (index.by_name, 7, "name is str or bytes, not int"),
        (index.by_name, ["web"], "name .* list"),
        (index.by_uuid, 7, "uuid is UUID, str or 16 bytes, not int"),
        (index.by_uuid, [U], "uuid .* list"),
    ):
        with pytest.raises(InvalidKey, match=said):
            look_up(given, verify=verify)


@pytest.mark.parametrize("key", [None, 7, ["web"]], ids=repr)
def test_a_wrong_key_is_refused_when_verified_too(index: Index, key: Any) -> None:
    """Before anything is asked of the host."""
    for look_up in (index.by_name, index.by_uuid):
        with pytest.raises(InvalidKey):
            look_up(key, verify=True)


# -- many at once ----------------------------------------------------------------------------


def test_domains_come_in_domid_order_as_of_one_moment(host: SimulatedHost, index: Index) -> None:
    """Iteration is over what was held when it began."""
    for domid in (9, 3, 6):
        host.create(f"vm-{domid}", domid=domid)
    index.refresh()
    walk = iter(index)
    assert next(walk).domid == 0
    host.destroy(6)
    index.refresh()
    assert [domain.domid for domain in walk] == [3, 6, 9]
    assert [domain.domid for domain in index] == [0, 3, 9]
    assert len(index) == 3


def test_find_goes_by_prefix_and_type_in_name_order(host: SimulatedHost, index: Index) -> None:
    """Then by domid; those without a name come last, and only where no prefix is asked for."""
    host.create("web-2", type="pvh", domid=1)
    host.create("web-1", type="pvh", domid=2)
    host.create("web", type="hvm", domid=3)
    host.create("web-1", type="pv", domid=4)
    host.create(None, type="pvh", domid=5)
    host.create("", type="pvh", domid=6)
    host.create(b"\xff", type="pv", domid=8)
    index.refresh()

    def found(**wanted: Any) -> list[int]:
        return [domain.domid for domain in index.find(**wanted)]

    assert found() == [6, 0, 3, 2, 4, 1, 8, 5]
    assert found(prefix="web") == [3, 2, 4, 1]
    assert found(prefix=b"web-") == [2, 4, 1]
    assert found(prefix="web-", type=OSType.PVH) == [2, 1]
    assert found(type=OSType.PVH) == [6, 2, 1, 5]
    assert found(prefix=b"\xff") == [8]
    assert found(prefix="Web") == found(prefix="web-1x") == []


def test_views_are_live_and_read_only(host: SimulatedHost, index: Index) -> None:
    """One mapping for the life of the index; nobody but the index writes to it."""
    names, uuids, domids = index.names, index.uuids, index.domids
    view: Any
    web = host.create("web", uuid=U)
    index.refresh()
    assert names["web"].domid == uuids[U].domid == domids[web].domid == web
    assert set(names) == {"Domain-0", "web"}
    assert list(uuids) == [U]
    assert set(domids) == {0, web}
    for view in (names, uuids, domids):
        with pytest.raises(TypeError, match="read-only"):
            view.clear()
    host.destroy(web)
    index.refresh()
    assert "web" not in names
    assert U not in uuids
    assert web not in domids


def test_views_can_be_walked_while_the_host_changes(host: SimulatedHost, index: Index) -> None:
    """From other threads, at any time, without an error and without a domain missing."""
    host.create("stays", uuid=U)
    index.refresh()
    stop = threading.Event()
    wrong: list[BaseException] = []

    def walk() -> None:
        try:
            while not stop.is_set():
                assert "stays" in list(index.names)
                assert U in index.uuids.keys()  # noqa: SIM118  # the copy is what is tried
                assert any(d.name == "stays" for d in index.domids.values())
                assert any(name == "stays" for name, _ in index.names.items())
                assert any(d.name == "stays" for d in index)
                assert index.find(prefix="stays")
                assert len(index.names.copy()) >= 2
        except BaseException as error:
            wrong.append(error)

    walkers = [threading.Thread(target=walk) for _ in range(3)]
    for walker in walkers:
        walker.start()
    for round_ in range(40):
        made = [host.create(f"vm-{round_}-{n}") for n in range(5)]
        index.refresh()
        for domid in made:
            host.destroy(domid)
    index.refresh()
    stop.set()
    for walker in walkers:
        walker.join()
    assert wrong == []


# -- state -----------------------------------------------------------------------------------


def test_refresh_returns_once_what_was_complete_is_held(host: SimulatedHost, index: Index) -> None:
    """P6: creation, renaming, crash, end, also of domains no event tells of; it returns the
    generation."""
    quiet = host.create("quiet", introduce=False)
    generation = index.refresh()
    assert generation == index.generation
    assert index.by_name("quiet").domid == quiet
    host.rename(quiet, "loud")
    host.crash(quiet)
    assert index.refresh() > generation
    assert index.by_name("loud").shutdown is ShutdownReason.CRASH
    host.destroy(quiet)
    index.refresh()
    assert len(index) == 1
    assert index.refresh() == index.generation


@pytest.mark.parametrize("many", [3, 40])
def test_refresh_holds_for_few_and_for_many(host: SimulatedHost, index: Index, many: int) -> None:
    """P6: above a few, whole lists are taken instead of single looks."""
    domids = [host.create(f"vm-{n}") for n in range(many)]
    index.refresh()
    assert len(index) == many + 1
    for domid in domids:
        host.rename(domid, f"new-{domid}")
    index.refresh()
    assert all(index.by_id(domid).name == f"new-{domid}" for domid in domids)
    for domid in domids[1:]:
        host.destroy(domid)
    index.refresh()
    assert len(index) == 2


def test_every_change_grows_the_generation_by_one(host: SimulatedHost, index: Index) -> None:
    """And nothing else does."""
    before = index.generation
    host.create("web")
    assert index.refresh() == before + 1
    assert index.refresh(names=True) == before + 1
    index.by_name("web", verify=True)
    assert index.generation == before + 1


def test_age_is_the_time_since_the_host_last_confirmed(index: Index) -> None:
    """It starts again with each sign of life."""
    index.refresh()
    assert 0 <= index.age < LIMIT_OF_AGE
    eventually(lambda: index.age > 0.02)
    index.refresh()
    assert index.age < LIMIT_OF_AGE


LIMIT_OF_AGE = 1.0


def test_stats_count_what_was_done(host: SimulatedHost, index: Index) -> None:
    """Sizes now and work since the start."""
    host.create("web", uuid=U)
    host.create("web", uuid=U)
    before = index.stats
    with index.subscribe(lambda _: None):
        index.refresh()
        stats = index.stats
    assert (stats.domains, stats.names, stats.uuids) == (3, 1, 0)
    assert stats.generation == index.generation
    assert stats.live
    assert len(stats.listeners) == 1
    assert stats.lists > before.lists - 1
    assert stats.events >= before.events
    assert stats.reads >= 3
    assert (stats.drift, stats.reconnects, stats.listener_errors) == (0, 0, 0)
    assert len(index.stats.listeners) == 0


def test_capabilities_say_what_the_host_offers() -> None:
    """As it was when it was opened."""
    for ids, depth in ((False, False), (True, False), (False, True), (True, True)):
        host = SimulatedHost(unique_ids=ids, watch_depth=depth)
        with host.connect() as index:
            told = index.capabilities
            assert (told.xen, told.unique_ids, told.watch_depth) == ("simulated", ids, depth)
            assert (index.by_id(0).life.unique_id is not None) is ids


def test_info_is_what_the_hypervisor_says_now(host: SimulatedHost, web: int, index: Index) -> None:
    """Pausing fires no event; info sees it all the same. One hypercall."""
    assert index.info(web).state == "blocked"
    host.pause(web)
    before = host.hypercalls
    info = index.info(web)
    assert host.hypercalls == before + 1
    assert (info.domid, info.uuid, info.type, info.state) == (web, U, OSType.PVH, "paused")
    assert info.memory > 0
    assert info.max_memory >= info.memory
    host.unpause(web)
    host.crash(web)
    assert index.info(web).state == "crashed"
    with pytest.raises(NoSuchDomain):
        index.info(999)
    host.refuse_hypercalls()
    with pytest.raises(HypercallFailed):
        index.info(web)
    host.refuse_hypercalls(False)


CALLS: list[Callable[[Index], object]] = [
    *MISSES,
    lambda index: index.by_name("Domain-0"),
    lambda index: index.by_id(0),
    lambda index: index.by_name("Domain-0", verify=True),
    lambda index: index.all_by_name("Domain-0"),
    lambda index: index.all_by_uuid(U),
    lambda index: index.find(),
    lambda index: iter(index),
    lambda index: index.info(0),
    lambda index: index.refresh(),
    lambda index: index.subscribe(print),
    lambda index: index.names["Domain-0"],
]


@pytest.mark.parametrize("call", CALLS, ids=count())
def test_after_close_every_call_says_closed(call: Callable[[Index], object]) -> None:
    """Not absence, not an answer from a dead picture."""
    index = SimulatedHost().connect()
    index.close()
    with pytest.raises(Closed, match="connect"):
        call(index)
    assert not index.live
    assert index.names.get("Domain-0") is None
    assert 0 not in index.domids


def test_after_close_there_is_no_length() -> None:
    """0 would say that no domain runs."""
    index = SimulatedHost().connect()
    index.close()
    with pytest.raises(Closed):
        len(index)
