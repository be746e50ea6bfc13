"""Questions about several domains: by name, by type, by what the caller thinks of, in the past."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domindex import direct
from domindex.core.ended import KEPT
from domindex.core.table import DomainTable
from domindex.domain import Domain, OSType, Role, ShutdownReason
from domindex.errors import Closed, InvalidKey, NotLive
from domindex.index import Index
from domindex.options import Stale
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
    index._picture.commit([(None, life(number, name)) for number, name in enumerate(wanted)])
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
        index._picture.commit([(None, domain)])
        index._picture.commit([(domain, None)])
    assert len(index.recent()) == KEPT


# -- while the line is down, and after the end -----------------------------------------------


@pytest.fixture
def down(host: SimulatedHost) -> Iterator[Index]:
    """An index whose line is down, with one domain "web"."""
    host.create("web")
    with host.connect(timing=SHARP) as index:
        index.add_index("owner", lambda domain: domain.name)
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
    lambda index: index.add_index("x", str),
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


def test_no_change_comes_amid_a_walk_through_the_table(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1: whoever walks has the lock, so that all that is found is of one generation."""
    owned: list[bool] = []
    lock: Any = index._picture.lock
    for name in ("named", "between", "grouped"):
        walk = getattr(DomainTable, name)

        def look(*args: Any, walk: Callable[..., object] = walk) -> object:
            owned.append(lock._is_owned())
            return walk(*args)

        monkeypatch.setattr(DomainTable, name, look)
    index.add_index("owner", lambda domain: domain.name)
    assert len({index.find(), index.range(), index.by("owner", "Domain-0")}) == 1
    assert owned == [True] * 3


@pytest.mark.parametrize("stale", [None, "serve"])
def test_a_snapshot_that_still_holds_waits_for_nobody(index: Index, stale: Stale | None) -> None:
    """P11: it is given without the lock, which the watcher has for as long as a change takes."""
    taken = index.snapshot()
    with ThreadPoolExecutor(1) as another, index._picture.lock:
        assert another.submit(index.snapshot, stale).result(LIMIT) is taken


# -- types, and what is in an index ------------------------------------------------------------


def test_a_type_may_be_given_by_its_word(host: SimulatedHost, index: Index) -> None:
    """As `os_type` compares; what is no type is refused, not silently nowhere."""
    web = host.create("web", type="pvh")
    index.refresh()
    assert index.find(type="pvh") == index.find(type=OSType.PVH) == (index.by_id(web),)
    for wrong in ("pvx", "PVH", "", 7):
        with pytest.raises(InvalidKey, match="pv, hvm, pvh, unknown"):
            index.find(type=wrong)  # type: ignore[arg-type]


def test_a_record_is_in_the_index_while_that_life_is(host: SimulatedHost, index: Index) -> None:
    """P3: another life on its domid is another domain; a rename makes none."""
    web = host.create("web")
    index.refresh()
    record = index.by_id(web)
    host.rename(web, "www")
    index.refresh()
    assert record in index
    host.destroy(web)
    host.create("web", domid=web)
    index.refresh()
    assert record not in index
    assert index.by_id(web) in index


@pytest.mark.parametrize("key", ["web", b"web", 1, UUID(int=1), None], ids=repr)
def test_a_key_is_not_looked_for_in_the_index_itself(index: Index, key: object) -> None:
    """It says where to ask: False would be believed."""
    with pytest.raises(TypeError, match=r"index\.names"):
        key in index  # noqa: B015


def test_bounds_and_beginnings_keep_their_nuls(host: SimulatedHost, index: Index) -> None:
    """Only a whole name loses those at its end."""
    host.create("a")
    host.create("b")
    index.refresh()
    assert [domain.name for domain in index.range("a", "a\0")] == ["a"]
    assert index.find(prefix="a\0") == ()
    assert index.by_name("a\0").name == index.resolve("a\0").name == "a"


def test_a_filter_that_is_to_be_awaited_is_refused(index: Index) -> None:
    """As a coroutine it would be true of every domain."""

    async def where(_: object) -> bool:
        return False

    for call in (index.find, index.wait_for):
        with pytest.raises(TypeError, match="plain function"):
            call(where=where)


# -- roles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("unique_ids", [True, False])
def test_domains_have_roles(unique_ids: bool) -> None:
    """What Xen says of each life, from its first record on, without a call of its own."""
    host = SimulatedHost(unique_ids=unique_ids)
    dom0 = Role.CONTROL | Role.HARDWARE
    host.create("store", domid=1, roles=Role.XENSTORE)
    host.create("web", domid=2)
    with host.connect() as index:
        host.create("control", domid=3, roles=Role.CONTROL)
        index.refresh()
        assert [domain.roles for domain in index] == [
            dom0,
            Role.XENSTORE,
            Role(0),
            Role.CONTROL if unique_ids else Role(0),
        ]
        controls = index.find(role=Role.CONTROL)
        assert [domain.domid for domain in controls] == ([0, 3] if unique_ids else [0])
        assert [domain.domid for domain in index.find(role=dom0)] == [0]
        assert [domain.name for domain in index.find(prefix="st", role=Role.XENSTORE)] == ["store"]
        assert len(index.find(role=Role(0))) == 4
        host.rename(1, "xenstore")
        host.crash(2)
        index.refresh()
        assert index.by_id(1).roles is Role.XENSTORE
        assert index.by_id(2).roles is Role(0)
        host.destroy(1)
        host.create("web", domid=1)
        index.refresh()
        assert index.by_id(1).roles is Role(0)
    with direct.open(host) as look_ups:
        assert look_ups.by_id(0).roles == (None if unique_ids else dom0)


def test_roles_that_a_policy_hides_are_not_known() -> None:
    """And not found; the others are."""
    host = SimulatedHost(unique_ids=True)
    host.create("web", domid=1)
    host.refuse_state(1)
    with host.connect() as index:
        assert index.by_id(1).roles is None
        assert [domain.domid for domain in index.find(role=Role(0))] == [0]
        not_one: Any = "control"
        with pytest.raises(InvalidKey, match="Role"):
            index.find(role=not_one)


def test_a_control_domain_need_not_be_domid_0() -> None:
    """On hyperlaunch hosts."""
    host = SimulatedHost(unique_ids=True, dom0=False)
    domid = host.create("control", roles=Role.CONTROL | Role.HARDWARE)
    with host.connect() as index:
        assert [domain.domid for domain in index.find(role=Role.CONTROL)] == [domid]
