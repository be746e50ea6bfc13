"""Domains by what a function of the caller's says of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from domindex.domain import Domain
from domindex.errors import InvalidKey, NotLive
from domindex.index import Index
from domindex.testing import SimulatedHost
from tests.whole.helpers import CALM, LIMIT


@pytest.fixture
def host() -> SimulatedHost:
    """One kind will do: what differs between them is below all this."""
    return SimulatedHost(idle=True)


def owner(domain: Domain) -> str | None:
    return None if domain.name is None else domain.name.partition("-")[0]


def test_an_index_of_the_caller_s_is_kept_as_the_host_changes(
    host: SimulatedHost, index: Index
) -> None:
    """P2: in the same step as the others: whoever hears of a change finds it there."""
    one = host.create("db-1")
    index.refresh()
    index.add_index("owner", owner)
    host.create("db-2")
    index.refresh()
    assert [d.name for d in index.by("owner", "db")] == ["db-1", "db-2"]
    host.rename(one, "web-1")
    index.refresh()
    assert [d.name for d in index.by("owner", "db")] == ["db-2"]
    assert [d.name for d in index.by("owner", "web")] == ["web-1"]
    host.destroy(one)
    index.refresh()
    assert index.by("owner", "web") == ()


def test_no_change_comes_in_between_while_an_index_is_made(index: Index) -> None:
    """P2: a domain that came after the walk over all and before the index counts is in no group."""
    lock, could = index._body.picture.lock, list[bool]()

    def look() -> None:
        could.append(lock.acquire(blocking=False))
        if could[-1]:
            lock.release()

    def key_of(_: Domain) -> int:
        thread = threading.Thread(target=look)  # as the watcher would, to take a change in
        thread.start()
        thread.join(LIMIT)
        return 1

    index.add_index("all", key_of)
    assert could == [False] * len(index)
    assert [*index.by("all", 1)] == [*index]


def test_an_index_of_the_caller_s_may_be_there_before_the_first_look(host: SimulatedHost) -> None:
    """Then its function is asked once for each, and no domain is missed."""
    asked: list[str | None] = []

    def key_of(domain: Domain) -> str | None:
        asked.append(domain.name)
        return owner(domain)

    host.create("db-1")
    with Index(host, CALM) as index:
        index.add_index("owner", key_of)
        with pytest.raises(NotLive):
            index.by("owner", "db")
        index.start(LIMIT)
        assert [d.name for d in index.by("owner", "db")] == ["db-1"]
        assert sorted(asked, key=str) == ["Domain-0", "db-1"]


@pytest.mark.parametrize("key_of", [lambda _: 1 // 0, lambda _: {}], ids=["raises", "no key"])
def test_a_function_that_fails_harms_nothing_else(
    host: SimulatedHost, index: Index, key_of: Callable[[Domain], Any]
) -> None:
    """The index goes on, live, with every event; another one of the caller's too."""
    index.add_index("bad", key_of)
    index.add_index("owner", owner)
    heard: list[object] = []
    with index.subscribe(heard.append, replay=False) as subscription:
        host.create("db-1")
        index.refresh()
        assert subscription.drain(LIMIT)
    assert len(heard) == 3
    assert [d.name for d in index.by("owner", "db")] == ["db-1"]
    assert index.by("bad", 1) == ()
    assert index.live


@pytest.mark.parametrize(
    "fatal",
    [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, asyncio.CancelledError],
)
def test_nothing_that_a_function_raises_ends_the_watcher(
    host: SimulatedHost, index: Index, fatal: type[BaseException]
) -> None:
    """P9: nobody would notice that it hears nothing any more."""
    failing = False

    def fail(domain: Domain) -> int:
        if failing:
            raise fatal
        return 1

    index.add_index("bad", fail)
    failing = True
    host.create("web")
    index.refresh()
    failing = False
    host.create("db")
    index.refresh()
    assert index.by_name("web")
    assert [domain.name for domain in index.by("bad", 1)] == ["Domain-0", "db"]
    assert index.live


def test_an_index_that_was_interrupted_as_it_was_made_is_not_there(
    host: SimulatedHost, index: Index
) -> None:
    """P9: Ctrl-C in the caller's thread ends the call, and it may be made again."""
    asked: list[Domain] = []

    def interrupted(domain: Domain) -> int:
        asked.append(domain)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return 1

    host.create("web")
    index.refresh()
    with pytest.raises(KeyboardInterrupt):
        index.add_index("mine", interrupted)
    with pytest.raises(InvalidKey):
        index.by("mine", 1)
    index.add_index("mine", interrupted)
    assert len(index.by("mine", 1)) == 2


def test_a_function_that_changes_its_mind_is_believed_the_first_time(
    host: SimulatedHost, index: Index
) -> None:
    """Until the record changes."""
    mood = ["a"]
    web = host.create("web")
    index.refresh()
    index.add_index("mood", lambda _: mood[0])
    mood[0] = "b"
    assert len(index.by("mood", "a")) == 2
    host.rename(web, "www")
    index.refresh()
    assert [d.name for d in index.by("mood", "b")] == ["www"]


def test_what_cannot_be_an_index_or_a_key_is_refused(index: Index) -> None:
    """A second one of the same name; one that is not there; a key that has no hash."""
    index.add_index("owner", owner)
    with pytest.raises(ValueError, match="owner"):
        index.add_index("owner", owner)
    for name, key in (("nobody", "db"), ("owner", [])):
        with pytest.raises(InvalidKey):
            index.by(name, key)  # type: ignore[arg-type]
