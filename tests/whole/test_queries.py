"""Questions about several domains: by name, by type, by what the caller thinks of, in the past."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domindex.domain import Domain, OSType, ShutdownReason
from domindex.errors import Closed, InvalidKey, NotLive
from domindex.index import Index
from domindex.past import KEPT
from domindex.testing import SimulatedHost
from tests.core.lives import life
from tests.whole.helpers import CALM, LIMIT, SHARP, eventually


@pytest.fixture
def host() -> SimulatedHost:
    """One kind will do: what differs between them is below all this."""
    return SimulatedHost(idle=True)


ODD: list[str | bytes | None] = [
    *("", "a", "a*b", "a[b", "a]b", "ab", "aB", "a\nb", "b", "42", "wéb", "\U0010ffff"),
    *(b"a\xff", b"\xff\xfe", b"a\xc3", None, None),
]
"""Names that a query might trip over."""


@pytest.fixture
def odd(host: SimulatedHost, index: Index) -> list[Domain]:
    """Domains with these names, of each type in turn."""
    for number, name in enumerate(ODD):
        host.create(name, type=("pv", "pvh", "hvm")[number % 3])
    host.create("ab", type="pv")
    index.refresh()
    return list(index)


def in_order(domains: list[Domain]) -> list[int]:
    """By name, then by domid; those without a name last."""
    ordered = sorted(domains, key=lambda d: (d.name is None, d.name or "", d.domid))
    return [domain.domid for domain in ordered]


def domids(found: tuple[Domain, ...]) -> list[int]:
    return [domain.domid for domain in found]


def test_without_a_wish_all_are_found_in_name_order(index: Index, odd: list[Domain]) -> None:
    """Those without a name last."""
    assert domids(index.find()) == in_order(odd)
    assert [domain.name for domain in index.find()][-2:] == [None, None]


@pytest.mark.parametrize(
    "glob", ["a*", "*b", "a?b", "a[*]b", "a[[]b", "[!a]*", "a[b", "", "*", "A*"]
)
def test_a_glob_is_of_the_whole_name(index: Index, odd: list[Domain], glob: str) -> None:
    """As shells have them; case counts; a domain without a name matches none, not even *."""
    expected = [d for d in odd if d.name is not None and fnmatch.fnmatchcase(d.name, glob)]
    assert domids(index.find(glob=glob)) == in_order(expected)
    assert index.find(glob=glob.encode()) == index.find(glob=glob)


@pytest.mark.parametrize("regex", ["b", "^a", "b$", "", re.compile("AB", re.IGNORECASE), "\udcff"])
def test_a_regex_is_found_anywhere_in_the_name(
    index: Index, odd: list[Domain], regex: str | re.Pattern[str]
) -> None:
    """Text or compiled, with its flags."""
    expected = [d for d in odd if d.name is not None and re.search(regex, d.name)]
    assert domids(index.find(regex=regex)) == in_order(expected)


@pytest.mark.parametrize("prefix", ["", "a", "ab", "a*", b"a\xff", b"\xff", "z"])
def test_a_prefix_is_how_the_name_starts(
    index: Index, odd: list[Domain], prefix: str | bytes
) -> None:
    """Byte for byte; it is no pattern."""
    text = prefix if isinstance(prefix, str) else prefix.decode("utf-8", "surrogateescape")
    expected = [d for d in odd if d.name is not None and d.name.startswith(text)]
    if not prefix:
        expected = odd
    assert domids(index.find(prefix=prefix)) == in_order(expected)


def test_types_and_a_function_of_the_caller_s_narrow_it(index: Index, odd: list[Domain]) -> None:
    """The function is asked only of those that passed the rest, and what it raises is raised."""
    asked: list[int] = []

    def where(domain: Domain) -> bool:
        asked.append(domain.domid)
        return domain.domid % 2 == 0

    pv = [d for d in odd if d.type is OSType.PV]
    assert domids(index.find(type=OSType.PV)) == in_order(pv)
    found = index.find(type=OSType.PV, where=where)
    assert domids(found) == in_order([d for d in pv if d.domid % 2 == 0])
    assert asked == in_order(pv)
    with pytest.raises(ZeroDivisionError):
        index.find(where=lambda _: 1 // 0)


names = st.text(st.sampled_from("ab*?[]\xe9\udcff"), max_size=3)
patterns = st.one_of(st.none(), names)


@settings(max_examples=300)
@given(wanted=st.lists(st.one_of(st.none(), names), max_size=8), data=st.data())
def test_find_equals_a_look_at_every_domain(wanted: list[str | None], data: st.DataObject) -> None:
    """Whatever is asked of whatever names, together."""
    index = queried(wanted)
    prefix, glob = data.draw(names), data.draw(patterns)
    regex = data.draw(st.sampled_from([None, "a", "^b", "b.$"]))
    type_ = data.draw(st.sampled_from([None, *OSType]))
    found = index.find(prefix=prefix, glob=glob, regex=regex, type=type_)
    asked_of_the_name = bool(prefix) or glob is not None or regex is not None
    expected = [
        domain
        for domain in index
        if (domain.name is not None or not asked_of_the_name)
        and (domain.name or "").startswith(prefix)
        and (glob is None or fnmatch.fnmatchcase(domain.name or "", glob))
        and (regex is None or re.search(regex, domain.name or ""))
        and (type_ is None or domain.type is type_)
    ]
    assert domids(found) == in_order(expected)
    first, end = data.draw(patterns), data.draw(patterns)
    assert domids(index.range(first, end)) == in_order(
        [
            domain
            for domain in index
            if domain.name is not None
            and (first is None or first <= domain.name)
            and (end is None or domain.name < end)
        ]
    )


def queried(wanted: list[str | None]) -> Index:
    """An index that holds domains of these names, and follows nothing."""
    index = Index(SimulatedHost())
    index._take([(None, life(number, name)) for number, name in enumerate(wanted)], (), False)
    return index


def test_a_range_is_from_one_name_to_another(host: SimulatedHost, index: Index) -> None:
    """As text or as bytes; what cannot be a name is refused."""
    for name in ("a", "b", "c", None):
        host.create(name)
    index.refresh()
    assert [d.name for d in index.range("a", "c")] == ["a", "b"]
    assert index.range(b"a", b"c") == index.range("a", "c")
    assert [d.name for d in index.range("b")] == ["b", "c"]
    assert [d.name for d in index.range(end="a")] == ["Domain-0"]
    with pytest.raises(InvalidKey):
        index.range(7)  # type: ignore[arg-type]


# -- an index of the caller's own ------------------------------------------------------------


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
    assert len(heard) == 2
    assert [d.name for d in index.by("owner", "db")] == ["db-1"]
    assert index.by("bad", 1) == ()
    assert index.live


def test_a_function_that_ends_threads_does_not_end_the_watcher(
    host: SimulatedHost, index: Index
) -> None:
    """P9: nobody would notice that it hears nothing any more."""

    def leave(domain: Domain) -> None:
        raise SystemExit(domain.domid)

    index.add_index("bad", leave)
    host.create("web")
    index.refresh()
    assert index.by_name("web")
    assert index.live


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


# -- the past --------------------------------------------------------------------------------


def test_those_that_ended_lately_are_remembered_by_each_key(
    host: SimulatedHost, index: Index
) -> None:
    """The latest first, with the reason; a domid that was used again is told of each life."""
    uuid = UUID(int=5)
    web = host.create("web", uuid=uuid)
    index.refresh()
    first = index.by_id(web)
    host.shutdown(web, ShutdownReason.CRASH)
    index.refresh()
    host.destroy(web)
    host.create("db", domid=web)
    index.refresh()
    second = index.by_id(web)
    host.destroy(web)
    index.refresh()
    ended = index.recent(domid=web)
    assert [event.domain.life for event in ended] == [second.life, first.life]
    assert [event.reason for event in ended] == [None, ShutdownReason.CRASH]
    assert index.recent() == ended
    assert index.recent(name="web") == index.recent(name=b"web") == ended[1:]
    assert index.recent(uuid=uuid) == index.recent(uuid=str(uuid)) == ended[1:]
    assert index.recent(domid=web, name="db") == ended[:1]
    assert index.recent(domid=web, name="web", uuid=second.uuid) == ()
    for wrong in ({"domid": "1"}, {"name": 1}, {"uuid": "x"}):
        with pytest.raises(InvalidKey):
            index.recent(**wrong)


def test_no_more_of_the_past_is_kept_than_is_promised() -> None:
    """However long a program runs."""
    index = queried([])
    for number in range(KEPT + 10):
        domain = life(number % 7 + 1, number=number)
        index._take([(None, domain)], (), False)
        index._take([(domain, None)], (), False)
    assert len(index.recent()) == KEPT


# -- while the line is down, and after the end -----------------------------------------------


@pytest.fixture
def down(host: SimulatedHost) -> Iterator[Index]:
    """An index whose line is down, with one domain "web"."""
    host.create("web")
    with host.connect(timing=SHARP) as index:
        index.add_index("owner", owner)
        host.stop_xenstored()
        eventually(lambda: not index.live)
        yield index


def test_what_was_last_known_is_served_and_nothing_is_proven_absent(down: Index) -> None:
    """P5: a tuple of some is an answer; where none says absent, it cannot tell."""
    assert [d.name for d in down.find(prefix="w")] == ["web"]
    assert [d.name for d in down.range("w")] == ["web"]
    assert [d.name for d in down.by("owner", "web")] == ["web"]
    assert len(down.snapshot()) == 2
    assert down.recent() == ()
    with pytest.raises(NotLive):
        down.by("owner", "db")


QUERIES: list[Callable[[Index], object]] = [
    lambda index: index.find(),
    lambda index: index.range(),
    lambda index: index.resolve("web"),
    lambda index: index.add_index("x", owner),
    lambda index: index.by("x", "y"),
    lambda index: index.snapshot(),
    lambda index: index.recent(),
]


@pytest.mark.parametrize("query", QUERIES)
def test_after_close_each_says_closed(
    host: SimulatedHost, query: Callable[[Index], object]
) -> None:
    """P9; also if nothing had changed since the last snapshot."""
    index = host.connect(timing=CALM)
    index.snapshot()
    index.close()
    with pytest.raises(Closed):
        query(index)
