"""What every Store does, on the simulated host, and on the real one by socket and by xenbus."""

from __future__ import annotations

import errno
import threading
import time

import pytest

from domindex.core.reconcile import SPECIAL, name_path
from domindex.errors import StoreLost
from domindex.ports import Store, Watch
from tests.stage import PATIENCE, Stage


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
