"""What every Store does, on the simulated host, and on the real one by socket and by xenbus."""

from __future__ import annotations

import errno
import threading
import time

import pytest

from domindex.core.lives import name_path
from domindex.core.reconcile import SPECIAL
from domindex.errors import StoreError, StoreLost
from domindex.ports import Store, Watch
from tests.stage import PATIENCE, Stage, eventually


def fired(store: Store) -> set[bytes]:
    """The tokens that have fired until now."""
    store.barrier()
    return {watch.token for watch in store.events()}


def quiet(store: Store, *watches: Watch) -> None:
    """Set watches and let their first events pass."""
    store.watch(watches)
    assert fired(store) == {watch.token for watch in watches}


@pytest.mark.parametrize(
    "name",
    [b"web", b"", b"x" * 4000, b"\xff\xfe", b"a\x00b", b"\x1b[2J\n", "ä€".encode()],
    ids=["web", "empty", "long", "not utf-8", "nul", "control", "utf-8"],
)
def test_a_name_is_read_byte_for_byte(played: Stage, store: Store, name: bytes) -> None:
    try:
        domid = played.toolstack.create(name)
    except OSError as error:
        if error.errno != errno.E2BIG:
            raise
        pytest.skip(f"this xenstored takes no value of {len(name):,} bytes")
    assert store.read([name_path(domid)]) == [name]


def test_many_names_are_read_in_order(played: Stage, store: Store) -> None:
    domid = played.toolstack.create("web")
    paths = [name_path(domid), name_path(domid + 1)] * 100
    assert store.read(paths) == [b"web", None] * 100
    assert store.read([]) == []


def test_what_is_refused_of_one_path_is_said_in_its_place(played: Stage, store: Store) -> None:
    """P9: the others are read, and the line goes on."""
    domid = played.toolstack.create("web")
    name, bad = name_path(domid), b"/local//domain"
    first, refusal, last = store.read([name, bad, name])
    assert (first, last) == (b"web", b"web")
    assert isinstance(refusal, StoreError)
    assert (refusal.errno, refusal.operation, refusal.path) == (errno.EINVAL, "READ", bad.decode())
    assert store.read([name]) == [b"web"]


def test_a_watch_fires_once_at_the_start(played: Stage, store: Store) -> None:
    there, missing = played.toolstack.create("web"), 30000
    watches = [Watch(name_path(there), b"there"), Watch(name_path(missing), b"missing")]
    store.watch(watches)
    store.barrier()
    assert set(store.events()) == set(watches)
    assert fired(store) == set()


def test_a_change_fires_under_every_token(played: Stage, store: Store) -> None:
    domid = played.toolstack.create("web")
    quiet(store, Watch(name_path(domid), b"one"), Watch(name_path(domid), b"two"))
    played.toolstack.rename(domid, "www")
    assert fired(store) == {b"one", b"two"}
    played.toolstack.rename(domid, None)
    assert fired(store) == {b"one", b"two"}
    assert store.read([name_path(domid)]) == [None]


def test_a_dropped_watch_is_silent_and_may_be_dropped_again(played: Stage, store: Store) -> None:
    domid = played.toolstack.create("web")
    watch, other = Watch(name_path(domid), b"one"), Watch(name_path(domid), b"two")
    quiet(store, watch, other)
    store.unwatch([watch])
    store.unwatch([watch])
    played.toolstack.rename(domid, "www")
    assert fired(store) == {b"two"}


def test_removing_the_home_fires_on_the_name(played: Stage, store: Store) -> None:
    domid = played.toolstack.create("web")
    quiet(store, Watch(name_path(domid), b"one"))
    played.toolstack.destroy(domid)
    assert fired(store) == {b"one"}


def test_births_and_deaths_fire_and_pausing_does_not(played: Stage, store: Store) -> None:
    quiet(store, *SPECIAL)
    domid = played.toolstack.create("web")
    assert fired(store) == {b"introduce"}
    played.toolstack.pause(domid)
    played.toolstack.unpause(domid)
    assert fired(store) == set()
    played.toolstack.crash(domid)
    await_token(store, b"release")
    played.toolstack.destroy(domid)
    await_token(store, b"release")


def test_a_domain_that_is_released_ends_without_an_event(played: Stage, store: Store) -> None:
    """The release itself fires."""
    domid = played.toolstack.create("web")
    quiet(store, *SPECIAL)
    played.toolstack.release(domid)
    await_token(store, b"release")
    played.toolstack.destroy(domid)
    assert fired(store) == set()


def test_the_server_says_of_which_domains_it_was_told(played: Stage, store: Store) -> None:
    domid = played.toolstack.create("web", introduce=False)
    assert store.is_introduced(domid) is False
    played.toolstack.introduce(domid)
    assert store.is_introduced(domid) is True
    released = played.toolstack.create("db")
    played.toolstack.release(released)
    assert store.is_introduced(released) is False
    played.toolstack.destroy(domid)
    eventually(lambda: store.is_introduced(domid) is False, "an ended domain is forgotten")
    assert store.is_introduced(30000) is False


@pytest.mark.parametrize("special", [False, True])
def test_a_depth_is_kept_or_refused_and_the_line_goes_on(
    played: Stage, store: Store, special: bool
) -> None:
    """P11: a server without depth says EINVAL, and nothing fires for that watch."""
    watch = SPECIAL[0] if special else Watch(b"/local/domain", b"names")
    (answer,) = store.watch([watch], depth=1 if special else 2)
    domid = played.toolstack.create("web")
    played.toolstack.write(domid, "memory/target", b"1")
    store.barrier()
    heard = {event.path for event in store.events() if event.token == watch.token}
    if answer is None:
        assert watch.path in heard  # at the start
        home = b"/local/domain/%d" % domid
        named = {b"@introduceDomain/%d" % domid} if special else {home, home + b"/name"}
        assert named <= heard
        assert b"%s/memory/target" % home not in heard
        played.toolstack.destroy(domid)
        store.barrier()
        gone = {event.path for event in store.events() if event.token == watch.token}
        assert (home in gone, home + b"/name" in gone) == (not special, False)
    else:
        assert (answer.errno, answer.operation) == (errno.EINVAL, "WATCH")
        assert answer.path == watch.path.decode()
        assert heard == set()
    plain = Watch(name_path(domid), b"plain")
    quiet(store, plain)
    played.toolstack.leave_node(domid, "www")
    assert b"plain" in fired(store)


def await_token(store: Store, token: bytes) -> None:
    """xenstored hears of a death by an interrupt of its own, so a barrier does not wait for it."""
    deadline = time.monotonic() + PATIENCE
    while token not in fired(store):
        assert time.monotonic() < deadline
        store.wait(1.0)


def test_a_domain_that_is_not_introduced_fires_nothing(played: Stage, store: Store) -> None:
    quiet(store, *SPECIAL)
    domid = played.toolstack.create("web", introduce=False)
    played.toolstack.destroy(domid)
    assert fired(store) == set()


def test_many_watches_are_set_at_once(played: Stage, store: Store) -> None:
    watches = [Watch(name_path(domid), b"life/%d" % domid) for domid in range(1000, 1200)]
    store.watch(watches)
    store.barrier()
    assert set(store.events()) == set(watches)
    store.unwatch(watches)


def test_waiting_ends_with_an_event_a_wake_or_the_time(played: Stage, store: Store) -> None:
    domid = played.toolstack.create("web")
    quiet(store, Watch(name_path(domid), b"one"))
    store.wait(0.01)
    store.wake()
    store.wait(PATIENCE)
    renaming = threading.Thread(target=played.toolstack.rename, args=(domid, "www"))
    renaming.start()
    store.wait(PATIENCE)
    assert {watch.token for watch in store.events()} == {b"one"}
    renaming.join()


def test_an_interrupted_line_is_lost(store: Store) -> None:
    threading.Timer(0.05, store.interrupt).start()
    with pytest.raises(StoreLost):
        store.wait(PATIENCE)
    with pytest.raises(StoreLost):
        store.read([name_path(0)])
    store.close()
    store.close()
