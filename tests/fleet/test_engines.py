"""What every engine does: each test on the one in memory, and on a real etcd."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from domindex.errors import Closed
from domindex.fleet import layout
from domindex.fleet.errors import (
    Alive,
    Fenced,
    HostTaken,
    InvalidHost,
    LineLost,
    TooLarge,
    TooOld,
)
from domindex.fleet.ports import (
    BYTES,
    OPERATIONS,
    SILENCE,
    Batch,
    Change,
    Claim,
    Engine,
    Feed,
    Progress,
)
from tests.whole.test_faults import in_a_child

from .stores import Store, applied, changes, dom, heard, progress, record, the_end_of


@pytest.fixture
def engine(store: Store) -> Engine:
    """A line to the store."""
    return store.connect()


def claimed(engine: Engine, host: str = "xen1", machine: str = "m1") -> Claim:
    """A claim with a record, as a publisher has one from its first commit on."""
    claim = engine.claim(host, machine, 60)
    claim.commit({record(host): b"{}"})
    return claim


def feed_of(engine: Engine) -> Feed:
    """A feed from now on, which is live."""
    now = engine.load()
    feed = engine.follow(now.position, now.epoch)
    progress(feed)
    return feed


def pairs_of(engine: Engine) -> dict[str, bytes]:
    """All that the store holds."""
    return dict(engine.load().pairs)


def test_an_empty_store_has_no_epoch(engine: Engine) -> None:
    """Nobody published there."""
    loaded = engine.load()
    assert loaded.epoch is None
    assert not list(loaded.pairs)


def test_the_first_claim_makes_the_epoch(engine: Engine) -> None:
    """Later ones keep it."""
    engine.claim("xen1", "m1", 60)
    first = engine.load().epoch
    engine.claim("xen2", "m2", 60)
    assert first
    assert engine.load().epoch == first


def test_a_claim_says_who_lives(engine: Engine) -> None:
    """Under the alive key is the incarnation of the claim, and the machine."""
    claim = engine.claim("xen1", "m1", 60)
    (alive,) = pairs_of(engine).items()
    assert alive[0] == layout.alive_key("xen1")
    assert layout.unpack_alive(alive[1]) == Alive(claim.incarnation, "m1")
    assert claim.host == "xen1"
    assert claim.ttl == 60


def test_a_commit_is_one_batch(engine: Engine) -> None:
    """Puts and deletes together, at the position that the commit returned."""
    claim = claimed(engine)
    claim.commit({record("xen1"): b"1", dom("xen1", 1): b"old", dom("xen1", 2): b"two"})
    feed = feed_of(engine)
    position = claim.commit(
        {record("xen1"): b"2", dom("xen1", 3): b"three"}, [dom("xen1", 1), dom("xen1", 9)]
    )
    (batch,) = heard(feed, position)
    assert batch.position == position
    assert sorted(batch.changes) == [
        Change(dom("xen1", 1), None),
        Change(dom("xen1", 3), b"three"),
        Change(record("xen1"), b"2"),
    ]
    feed.close()


def test_a_load_has_hosts_first_then_domains_host_by_host(store: Store, engine: Engine) -> None:
    """Names of which one begins the other are kept apart; what has no host is there too."""
    for host in ("xen1", "xen10", "xen1-a", "xen1.b"):
        claimed(engine, host).commit(
            {record(host): host.encode(), dom(host, 1): b"1", dom(host, 10): b"10"}
        )
    store.put(dom("gone", 7), b"an orphan")
    keys = [key for key, _ in engine.load().pairs]
    assert len(keys) == len(set(keys)) == 4 + 4 + 8 + 1
    kinds = [key.split("/")[3] for key in keys]
    assert kinds == ["alive"] * 4 + ["host"] * 4 + ["dom"] * 9
    hosts = [key.split("/")[4] for key in keys[8:]]
    assert [h for n, h in enumerate(hosts) if n == 0 or hosts[n - 1] != h].count("xen1") == 1
    assert set(hosts) == {"xen1", "xen10", "xen1-a", "xen1.b", "gone"}


def test_a_load_of_some_hosts_has_these_only(engine: Engine) -> None:
    """As a publisher loads its own; `xen1` is not `xen10`."""
    for host in ("xen1", "xen10", "xen2"):
        claimed(engine, host).commit({record(host): b"{}", dom(host, 1): host.encode()})
    loaded = engine.load(["xen1", "xen2"])
    pairs = dict(loaded.pairs)
    assert pairs.keys() == {
        *(layout.alive_key("xen1"), record("xen1"), dom("xen1", 1)),
        *(layout.alive_key("xen2"), record("xen2"), dom("xen2", 1)),
    }
    assert loaded.position == engine.position()
    assert not list(engine.load(["none"]).pairs)
    assert not list(engine.load([]).pairs)
    with pytest.raises(TypeError):
        engine.load("xen1")


def test_a_load_is_at_one_position_however_slowly_it_is_taken(engine: Engine) -> None:
    """What is committed while it is iterated is not in it, and is the first that a feed tells."""
    claim = claimed(engine)
    claim.commit({record("xen1"): b"1", dom("xen1", 1): b"before", dom("xen1", 2): b"two"})
    loaded = engine.load()
    after = claim.commit({record("xen1"): b"2", dom("xen1", 1): b"after"}, [dom("xen1", 2)])
    pairs = dict(loaded.pairs)
    assert (pairs[dom("xen1", 1)], pairs[dom("xen1", 2)]) == (b"before", b"two")
    feed = engine.follow(loaded.position, loaded.epoch)
    batches = heard(feed, after)
    assert [batch.position for batch in batches] == [after]
    assert applied(pairs, batches) == pairs_of(engine)
    feed.close()


def test_a_large_load_and_a_large_batch_come_whole(engine: Engine) -> None:
    """Beyond the 4 MiB that gRPC takes by default."""
    claim = claimed(engine)
    feed = feed_of(engine)
    for first in range(0, 600, 100):
        position = claim.commit(
            {record("xen1"): b"{}", **{dom("xen1", first + n): b"x" * 9000 for n in range(100)}}
        )
    batches = heard(feed, position)
    assert [len(batch.changes) for batch in batches] == [101] * 6
    assert sum(len(value) for value in pairs_of(engine).values()) > 5_000_000
    feed.close()
    late = engine.follow(batches[0].position - 1, engine.load().epoch)
    assert changes(heard(late, position)) == changes(batches)
    late.close()


def test_a_feed_resumes_anywhere_without_a_gap(engine: Engine) -> None:
    """From each position that was told, exactly the batches behind it."""
    claim = claimed(engine)
    start = engine.position()
    positions = [
        claim.commit({record("xen1"): b"%d" % n, dom("xen1", n % 3): b"%d" % n}) for n in range(20)
    ]
    epoch = engine.load().epoch
    for place, position in enumerate([start, *positions]):
        if place % 4 == 0:
            feed = engine.follow(position, epoch)
            assert [batch.position for batch in heard(feed, positions[-1])] == positions[place:]
            feed.close()


def test_progress_is_told_without_changes(engine: Engine) -> None:
    """First of all, and then within the time that is promised, never lower."""
    feed = feed_of(engine)
    first = progress(feed, SILENCE)
    assert first.position == engine.position()
    assert progress(feed, SILENCE).position >= first.position
    feed.close()


def test_next_gives_up_after_its_time(engine: Engine) -> None:
    """Nothing came."""
    feed = feed_of(engine)
    assert feed.next(0) is None
    assert feed.next(0.01) is None
    feed.close()


def test_a_barrier_needs_not_wait_for_the_next_beat(store: Store, engine: Engine) -> None:
    """Position, ask, progress: also where the store moved by something else than a fleet."""
    feed = feed_of(engine)
    store.put("/elsewhere", b"x")
    for _ in range(20):
        position = engine.position()
        feed.ask()
        batches = heard(feed, position, timeout=1.0)
        assert all(b.changes[0].key == "/elsewhere" for b in batches)
    feed.close()


def test_an_ask_while_another_is_under_way_is_answered_by_a_later_read(engine: Engine) -> None:
    """A barrier of one thread is not satisfied by what another one's had read before it."""
    claim = claimed(engine)
    feed = feed_of(engine)
    for n in range(50):
        feed.ask()
        position = claim.commit({record("xen1"): b"%d" % n})
        feed.ask()
        while True:
            told = feed.next(1.0)
            assert told is not None
            if isinstance(told, Progress) and told.position >= position:
                break
    feed.close()


def test_probes_of_a_busy_store_mistake_nothing(store: Store, engine: Engine) -> None:
    """Batches that overtake the answer to a read are no sign of another history."""
    feed = feed_of(engine)
    writers = [store.connect() for _ in range(3)]

    def write(n: int) -> int:
        claim = claimed(writers[n], f"xen{n}")
        for k in range(200):
            position = claim.commit({record(f"xen{n}"): b"%d" % k})
        return position

    with ThreadPoolExecutor(3) as pool:
        done = [pool.submit(write, n) for n in range(3)]
        told: list[int] = []
        while not all(one.done() for one in done):
            feed.ask()
            one = feed.next(1.0)
            if one is not None:
                told.append(one.position)
        last = max(one.result() for one in done)
    told += [batch.position for batch in heard(feed, last)]
    assert told == sorted(told)
    feed.close()


def test_another_machine_is_refused(engine: Engine) -> None:
    """The error says who has it; nothing changed."""
    claim = claimed(engine)
    with pytest.raises(HostTaken) as caught:
        engine.claim("xen1", "m2", 60)
    assert (caught.value.host, caught.value.holder) == ("xen1", Alive(claim.incarnation, "m1"))
    claim.commit({record("xen1"): b"still mine"})
    claim.renew()


def test_the_same_machine_takes_over_at_once(engine: Engine) -> None:
    """Whoever was there before is told by whom it was fenced, in a commit and in a renewal."""
    old = claimed(engine)
    feed = feed_of(engine)
    new = engine.claim("xen1", "m1", 60)
    for attempt in (lambda: old.commit({record("xen1"): b"old"}), old.renew, old.release):
        with pytest.raises(Fenced) as caught:
            attempt()
        assert caught.value.holder == Alive(new.incarnation, "m1")
    position = new.commit({record("xen1"): b"new"})
    new.renew()
    kinds = [[(c.key, c.value is None) for c in batch] for batch in changes(heard(feed, position))]
    # The alive key is never absent: a reader sees another incarnation, not a lost host.
    assert kinds == [[(layout.alive_key("xen1"), False)], [(record("xen1"), False)]]
    feed.close()


def test_of_many_machines_one_gets_the_host(store: Store) -> None:
    """All others are refused, whatever the order."""
    engines = [store.connect() for _ in range(4)]

    def attempt(n: int) -> str | None:
        try:
            return engines[n].claim("xen1", f"m{n}", 60).incarnation
        except HostTaken:
            return None

    with ThreadPoolExecutor(4) as pool:
        got = [incarnation for incarnation in pool.map(attempt, range(4)) if incarnation]
    assert len(got) == 1
    alive = layout.unpack_alive(pairs_of(engines[0])[layout.alive_key("xen1")])
    assert alive is not None
    assert alive.incarnation == got[0]


def test_a_lease_that_ran_out_loses_the_host_and_keeps_its_domains(
    store: Store, engine: Engine
) -> None:
    """F3: lost is not gone. The claim says so, naming nobody."""
    claim = claimed(engine)
    claim.commit({record("xen1"): b"{}", dom("xen1", 1): b"web"})
    feed = feed_of(engine)
    store.expire("xen1")
    told = feed.next(5)
    assert isinstance(told, Batch)
    assert told.changes == [Change(layout.alive_key("xen1"), None)]
    for attempt in (lambda: claim.commit({record("xen1"): b"late"}), claim.renew):
        with pytest.raises(Fenced) as caught:
            attempt()
        assert caught.value.holder is None
    assert pairs_of(engine) == {record("xen1"): b"{}", dom("xen1", 1): b"web"}
    engine.claim("xen1", "m2", 60).commit({record("xen1"): b"another machine"})
    feed.close()


def test_a_lease_runs_out_without_renewal_and_lasts_with_it(engine: Engine) -> None:
    """F4: within the seconds that the claim says, and those in which a store looks."""
    kept, left = engine.claim("kept", "m1", 1), engine.claim("left", "m1", 1)
    feed = feed_of(engine)
    told: Batch | Progress | None = None
    while not isinstance(told, Batch):
        kept.renew()
        told = feed.next(0.1)
    assert isinstance(told, Batch)
    assert told.changes == [Change(layout.alive_key("left"), None)]
    kept.renew()
    with pytest.raises(Fenced):
        left.renew()
    feed.close()


def test_a_release_says_why_in_the_same_batch(engine: Engine) -> None:
    """A reader never sees a host that ended without its reason."""
    claim = claimed(engine)
    feed = feed_of(engine)
    claim.release({record("xen1"): b"ended"})
    (batch,) = heard(feed, engine.position())
    assert sorted(batch.changes) == [
        Change(layout.alive_key("xen1"), None),
        Change(record("xen1"), b"ended"),
    ]
    claim.release()
    for attempt in (lambda: claim.commit({record("xen1"): b"late"}), claim.renew):
        with pytest.raises(Fenced):
            attempt()
    engine.claim("xen1", "m2", 60)
    feed.close()


def test_a_release_may_write_nothing(engine: Engine) -> None:
    """The record stays as it was."""
    claim = claimed(engine)
    claim.release()
    assert pairs_of(engine) == {record("xen1"): b"{}"}


@pytest.mark.parametrize(
    ("puts", "deletes"),
    [
        ({}, ()),
        ({dom("xen1", 1): b"1"}, ()),
        ({record("xen1"): b"{}", dom("xen2", 1): b"1"}, ()),
        ({record("xen1"): b"{}", dom("xen10", 1): b"1"}, ()),
        ({record("xen1"): b"{}"}, [dom("xen10", 1)]),
        ({record("xen1"): b"{}"}, [layout.alive_key("xen1")]),
        ({record("xen1"): b"{}"}, [record("xen1")]),
        ({record("xen1"): b"{}", dom("xen1", 1): b"1"}, [dom("xen1", 1)]),
    ],
)
def test_a_commit_writes_its_own_host_only(
    engine: Engine, puts: dict[str, bytes], deletes: list[str]
) -> None:
    """F10; and each key once, and the record each time."""
    claim = claimed(engine)
    before = engine.position()
    with pytest.raises(ValueError, match=r"xen1"):
        claim.commit(puts, deletes)
    assert engine.position() == before


def test_a_commit_takes_what_it_says_and_no_more(engine: Engine) -> None:
    """128 changes, 1,000,000 bytes."""
    claim = claimed(engine)
    many = {dom("xen1", n): b"x" for n in range(OPERATIONS - 1)}
    claim.commit({record("xen1"): b"{}", **many})
    claim.commit({record("xen1"): b"{}"}, list(many))
    with pytest.raises(TooLarge):
        claim.commit({record("xen1"): b"{}", **many}, [dom("xen1", 5000)])
    key, value = dom("xen1", 1), record("xen1")
    room = BYTES - len(key) - len(value)
    claim.commit({value: b"", key: b"x" * room})
    with pytest.raises(TooLarge):
        claim.commit({value: b"", key: b"x" * (room + 1)})
    assert pairs_of(engine)[key] == b"x" * room


def test_a_delete_may_be_named_twice(engine: Engine) -> None:
    """A store refuses one key twice; here it is one."""
    claim = claimed(engine)
    claim.commit({record("xen1"): b"{}", dom("xen1", 1): b"1"})
    claim.commit({record("xen1"): b"{}"}, [dom("xen1", 1)] * 2)
    assert dom("xen1", 1) not in pairs_of(engine)


def test_a_store_that_was_set_back_fences_the_publisher(store: Store, engine: Engine) -> None:
    """F5: its record is not where the last commit left it, so neither are its domains."""
    claim = claimed(engine)
    store.put(record("xen1"), b"from a copy")
    with pytest.raises(Fenced) as caught:
        claim.commit({record("xen1"): b"on"})
    assert caught.value.holder is None
    again = engine.claim("xen1", "m1", 60)
    again.commit({record("xen1"): b"whole again"})


@pytest.mark.parametrize("what", ["alive", "record", "record set back"])
def test_an_idle_publisher_notices_that_its_keys_are_gone(
    store: Store, engine: Engine, what: str
) -> None:
    """The lease lives on, and it has nothing to commit; after a few renewals it claims anew."""
    claim = claimed(engine)
    for _ in range(10):
        claim.renew()
    if what == "alive":
        store.delete(layout.alive_key("xen1"))
    elif what == "record":
        store.delete(record("xen1"))
    else:
        store.put(record("xen1"), b"{}")

    def renew_often() -> None:
        for _ in range(10):
            claim.renew()

    with pytest.raises(Fenced) as caught:
        renew_often()
    assert caught.value.holder is None
    claimed(engine).renew()


def test_an_operator_declares_a_host_that_nobody_publishes(engine: Engine) -> None:
    """`offline`: its record is replaced, and its own return ends that."""
    claimed(engine).release()
    feed = feed_of(engine)
    position = engine.replace("xen1", b"{}", b"offline")
    assert changes(heard(feed, position)) == [[Change(record("xen1"), b"offline")]]
    claim = engine.claim("xen1", "m1", 60)
    claim.commit({record("xen1"): b"back"})
    feed.close()


def test_an_operator_forgets_a_host(engine: Engine) -> None:
    """With all its domains, in one batch; `xen1` is not `xen10`, nor `xen1-a`."""
    for host in ("xen1", "xen10", "xen1-a"):
        claim = claimed(engine, host)
        for first in (0, 100, 200):
            claim.commit({record(host): b"{}", **{dom(host, first + n): b"" for n in range(100)}})
        claim.release()
    feed = feed_of(engine)
    position = engine.replace("xen1", b"{}", None)
    (batch,) = heard(feed, position)
    assert len(batch.changes) == 301
    assert {key.split("/")[4] for key in pairs_of(engine)} == {"xen10", "xen1-a"}
    feed.close()


def test_an_operator_is_refused_for_a_live_host_and_for_a_changed_one(engine: Engine) -> None:
    """A word about an incarnation does not hit the next one."""
    claim = claimed(engine)
    for record_or_none in (b"offline", None):
        with pytest.raises(Fenced) as caught:
            engine.replace("xen1", b"{}", record_or_none)
        assert caught.value.holder == Alive(claim.incarnation, "m1")
    claim.release({record("xen1"): b"newer"})
    for expected in (b"{}", b""):
        with pytest.raises(Fenced) as caught:
            engine.replace("xen1", expected, None)
        assert caught.value.holder is None
    with pytest.raises(Fenced):
        engine.replace("unknown", b"", None)
    assert pairs_of(engine) == {record("xen1"): b"newer"}


def test_compaction_is_said_aloud(store: Store, engine: Engine) -> None:
    """Who is behind has to load anew; who is not goes on; said once, it stays said."""
    claim = claimed(engine)
    behind = engine.load()
    abreast = feed_of(engine)
    position = claim.commit({record("xen1"): b"2"})
    claim.commit({record("xen1"): b"3"})
    assert len(heard(abreast, engine.position())) == 2
    store.compact()
    late = engine.follow(behind.position, behind.epoch)
    for _ in range(2):
        with pytest.raises(TooOld):
            late.next(10)
    with pytest.raises(TooOld):
        engine.follow(position - 1, behind.epoch).next(10)
    last = claim.commit({record("xen1"): b"4"})
    assert [batch.position for batch in heard(abreast, last)] == [last]
    abreast.close()
    at_it = engine.follow(last, behind.epoch)
    progress(at_it)
    at_it.close()


def test_a_load_that_is_overtaken_by_a_compaction_says_so_or_is_whole(
    store: Store, engine: Engine
) -> None:
    """Never a part of it."""
    claim = claimed(engine)
    claim.commit({record("xen1"): b"{}", dom("xen1", 1): b"1"})
    loaded = engine.load()
    claim.commit({record("xen1"): b"{}"}, [dom("xen1", 1)])
    store.compact()
    try:
        assert dom("xen1", 1) in dict(loaded.pairs)
    except TooOld:
        assert dom("xen1", 1) not in pairs_of(engine)


def test_a_wiped_store_is_noticed(store: Store, engine: Engine) -> None:
    """F8: by a feed under way, by a new one, and by the publisher."""
    claim = claimed(engine)
    for n in range(20):
        claim.commit({record("xen1"): b"%d" % n})
    now = engine.load()
    feed = feed_of(engine)
    store.wipe()
    assert isinstance(the_end_of(feed), (TooOld, LineLost))
    late = engine.follow(now.position, now.epoch)
    with pytest.raises(TooOld):
        late.next(10)
    with pytest.raises(Fenced):
        claim.commit({record("xen1"): b"on"})
    with pytest.raises(Fenced):
        claim.renew()
    again = claimed(engine)
    assert again.incarnation != claim.incarnation
    assert engine.load().epoch != now.epoch


def test_another_epoch_is_another_store(store: Store, engine: Engine) -> None:
    """Also where the position would fit."""
    claimed(engine)
    now = engine.load()
    feed = feed_of(engine)
    store.put(layout.EPOCH, b"another")
    store.put("/elsewhere", b"so that the position is behind it")
    assert isinstance(the_end_of(feed), TooOld)
    for position in (now.position, engine.position()):
        assert isinstance(the_end_of(engine.follow(position, now.epoch)), TooOld)


def test_a_store_without_an_epoch_gets_one_later_or_is_another(engine: Engine) -> None:
    """One made after the position is this store's; an older one would have been loaded."""
    empty = engine.load()
    assert empty.epoch is None
    claimed(engine)
    heard(engine.follow(empty.position, None), engine.position())
    assert isinstance(the_end_of(engine.follow(engine.position(), None)), TooOld)


def test_a_position_that_is_still_to_come_is_refused(engine: Engine) -> None:
    """A reader of a store that was set back would wait there, live and deaf."""
    claimed(engine)
    now = engine.load()
    with pytest.raises(TooOld):
        engine.follow(now.position + 1000, now.epoch).next(10)


def test_a_stopped_store_is_noticed_and_nothing_is_missed(store: Store) -> None:
    """F8: within the time that is promised; then the feed goes on where it was."""
    engine = store.connect(timeout=2.0)
    claim = claimed(engine)
    feed = feed_of(engine)
    now = engine.load()
    store.stop()
    try:
        assert isinstance(the_end_of(feed, SILENCE + 1), LineLost)
        with pytest.raises(LineLost):
            engine.position(timeout=0.2)
        with pytest.raises(LineLost):
            claim.commit({record("xen1"): b"unheard"})
    finally:
        store.go_on()
    position = claim.commit({record("xen1"): b"heard"})
    again = engine.follow(now.position, now.epoch)
    assert changes(heard(again, position))[-1] == [Change(record("xen1"), b"heard")]
    again.close()


def test_close_ends_a_waiting_feed(engine: Engine) -> None:
    """Of the feed, or of the engine; and every call after it."""
    feed, other = feed_of(engine), feed_of(engine)
    with ThreadPoolExecutor(2) as pool:
        first, second = [pool.submit(the_end_of, one, 30) for one in (feed, other)]
        feed.close()
        feed.close()
        assert isinstance(first.result(5), Closed)
        engine.close()
        engine.close()
        assert isinstance(second.result(5), Closed)
    for call in (engine.load, engine.position, lambda: engine.claim("xen1", "m1", 60)):
        with pytest.raises(Closed):
            call()
    with pytest.raises(Closed):
        engine.follow(1, None)


@pytest.mark.parametrize(
    "host", ["", "Xen1", "xen 1", "xen/1", "xén1", "-xen", "x" * 300, "..", "x\n"]
)
def test_a_host_has_a_name_that_keys_can_have(engine: Engine, host: str) -> None:
    """Nothing reaches the store."""
    for call in (
        lambda: engine.claim(host, "m1", 60),
        lambda: engine.load([host]),
        lambda: engine.replace(host, b"", None),
    ):
        with pytest.raises(InvalidHost):
            call()


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), 1e12])
def test_a_lease_lasts_some_seconds(engine: Engine, ttl: float) -> None:
    """Neither none nor for ever."""
    with pytest.raises(ValueError, match="ttl"):
        engine.claim("xen1", "m1", ttl)


@pytest.mark.parametrize(
    "junk", [b"", b"\xff", b"[]", b"null", b'{"i": 1, "m": 2}', b"[" * 100_000]
)
def test_an_alive_key_that_says_nothing_holds_the_host(
    store: Store, engine: Engine, junk: bytes
) -> None:
    """Whose it is cannot be told, so nobody takes it; a feed tells of it as of others."""
    feed = feed_of(engine)
    store.put(layout.alive_key("xen1"), junk)
    with pytest.raises(HostTaken):
        engine.claim("xen1", "m1", 60)
    assert pairs_of(engine)[layout.alive_key("xen1")] == junk
    assert feed.next(5) is not None
    feed.close()


def test_an_unknown_key_is_told_as_it_is(store: Store, engine: Engine) -> None:
    """A newer domindex may write more below the root; a stranger may write anything."""
    feed = feed_of(engine)
    store.put(layout.ROOT + "later/x", b"\x00\xff")
    store.put(layout.DOM, b"no host")
    batches = heard(feed, engine.position())
    assert changes(batches) == [
        [Change(layout.ROOT + "later/x", b"\x00\xff")],
        [Change(layout.DOM, b"no host")],
    ]
    assert pairs_of(engine)[layout.DOM] == b"no host"
    feed.close()


def test_several_feeds_hear_the_same(store: Store) -> None:
    """Each at its own speed."""
    engines = [store.connect() for _ in range(3)]
    claim = claimed(engines[0])
    feeds = [feed_of(engine) for engine in engines]
    for n in range(50):
        position = claim.commit({record("xen1"): b"%d" % n})
    first, *others = [heard(feed, position) for feed in feeds]
    assert len(first) == 50
    assert others == [first, first]
    for feed in feeds:
        feed.close()


def test_a_forked_child_is_refused_and_the_parent_goes_on(engine: Engine) -> None:
    """The child has neither the threads nor the line; it may open an engine of its own."""
    claim = claimed(engine)
    feed = feed_of(engine)

    def child() -> str:
        calls = (engine.position, feed.next, engine.load, claim.renew, engine.health)
        said = " ".join(sorted({type(failure(call)).__name__ for call in calls}))
        feed.close()
        engine.close()
        return said

    assert in_a_child(child) == "Closed"
    position = claim.commit({record("xen1"): b"on"})
    assert [batch.position for batch in heard(feed, position)] == [position]
    feed.close()


def failure(call: Callable[[], object]) -> Exception | None:
    """What it raises."""
    try:
        call()
    except Exception as error:
        return error
    return None


def test_health_of_a_well_store(engine: Engine) -> None:
    """What it is, and which one."""
    claimed(engine)
    health = engine.health()
    assert health.engine in ("memory", "etcd")
    assert health.epoch == engine.load().epoch
    assert set(health.members.values()) == {""}
