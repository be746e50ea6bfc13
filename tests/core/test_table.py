"""The table: three keys, one truth; and its views, which others read while it changes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from domindex.core.key import View
from domindex.core.table import Change, DomainTable
from domindex.domain import NIL_UUID, Domain, Life, OSType, ShutdownReason
from domindex.events import Added, Changed, DomainEvent, Ready, Removed, Renamed, ShutDown


class Absent(KeyError):
    """What these tables say of a key they do not hold."""


def table_of(*domains: Domain) -> DomainTable:
    def absent(key: object) -> Domain:
        raise Absent(key)

    table = DomainTable(lambda _, key: absent(key))
    table.apply([(None, domain) for domain in domains])
    return table


def domain(domid: int, name: str | None = None, uuid: int | None = None, life: int = 0) -> Domain:
    handle = UUID(int=100 + domid if uuid is None else uuid)
    return Domain(
        domid, handle, name, OSType.PVH, Life(domid, life, None, None), first_seen=float(life)
    )


def swapped(table: DomainTable, one: Domain, other: Domain) -> list[DomainEvent]:
    return table.apply(
        [(one, replace(one, name=other.name)), (other, replace(other, name=one.name))]
    )


# -- events ----------------------------------------------------------------------------------


def test_a_domain_that_comes_is_found_by_all_three_keys() -> None:
    """One life, three keys, one generation."""
    table = table_of()
    web = domain(1, "web")
    assert table.apply([(None, web)]) == [Added(web), Ready(web)]
    assert table.domids.view[1] is table.names.view["web"] is table.uuids.view[web.uuid] is web
    assert table.generation == 1
    table.check()


def test_a_domain_that_goes_leaves_nothing_behind() -> None:
    """Neither a key nor an empty set: that would be a slow leak."""
    web, twin = domain(1, "web", 9), domain(2, "web", 9)
    table = table_of(web, twin)
    assert table.apply([(web, None), (twin, None)]) == [Removed(web), Removed(twin)]
    for keyed in (table.domids, table.names, table.uuids):
        assert len(keyed.view) == len(keyed.shared) == 0
    assert list(table) == list(table.named()) == []
    table.check()


def test_a_reused_domid_is_removed_then_added_in_one_generation() -> None:
    """P3: another life under the same domid, name and uuid is no change and no rename."""
    old, new = domain(1, "web", life=1), domain(1, "web", life=2)
    table = table_of(old)
    events = table.apply([(old, new)])
    assert events == [Removed(old), Added(new), Ready(new)]
    assert {event.generation for event in events} == {table.generation} == {2}
    table.check()


def test_everything_that_changed_of_one_life_is_told_step_by_step() -> None:
    """P8: each event starts where the last ended, and the last ends at the truth."""
    old = domain(1, "web")
    new = replace(old, name="db", uuid=UUID(int=5), shutdown=ShutdownReason.CRASH)
    renamed = replace(old, name="db")
    stopped = replace(renamed, shutdown=ShutdownReason.CRASH)
    assert table_of(old).apply([(old, new)]) == [
        Renamed(old, renamed),
        ShutDown(stopped, ShutdownReason.CRASH),
        Changed(stopped, new, ("uuid",)),
    ]


def test_a_resume_is_a_change() -> None:
    """A failed migration: the domain that was suspended runs again."""
    old = replace(domain(1, "web"), shutdown=ShutdownReason.SUSPEND)
    new = replace(old, shutdown=None)
    assert table_of(old).apply([(old, new)]) == [
        Changed(old, new, ("shutdown",)),
        Ready(new),
    ]


def test_a_life_that_is_ready_again_says_since_when_it_was_not() -> None:
    """P8: so that each listener gets Ready once a life. Nothing is kept beyond the life's end."""
    web = domain(1, "web")
    away, down = replace(web, name="web--migratedaway"), replace(web, shutdown=ShutdownReason(2))
    table = table_of(web)
    assert Ready(away) not in table.apply([(web, away)])
    assert Ready(down) not in table.apply([(away, down)])
    ready = table.apply([(down, web)])[-1]
    assert isinstance(ready, Ready)
    assert (ready.domain, ready.ceased, ready.generation) == (web, 2, 4)
    assert ready.before == replace(web, shutdown=None)
    renamed = replace(web, name="db")
    assert table.apply([(web, renamed)]) == [Renamed(web, renamed), Ready(renamed)]
    table.apply([(renamed, down)])
    new = domain(1, "web", life=2)
    ready = table.apply([(down, new)])[-1]
    assert isinstance(ready, Ready)
    assert (ready.domain, ready.ceased, ready.before) == (new, 0, None)
    assert table._ceased == {}


@pytest.mark.parametrize("change", [{"name": "db"}, {"uuid": UUID(int=5)}], ids=str)
def test_a_change_of_what_is_ready_is_ready_again(change: dict[str, Any]) -> None:
    """P8: for listeners of whose `where` it holds only now. All others know by `ceased`."""
    old = domain(1, "web")
    new = replace(old, **change)
    table = table_of(old)
    ready = table.apply([(old, new)])[-1]
    assert isinstance(ready, Ready)
    assert (ready.domain, ready.before, ready.ceased) == (new, old, table.generation)
    assert table._ceased == {}


def test_ready_is_the_last_event_of_its_change() -> None:
    """With the record as the table holds it; one that stopped at once was not ready."""
    old = domain(1, None)
    new = replace(old, name="web", uuid=UUID(int=5))
    events = table_of(old).apply([(old, new)])
    assert [type(event) for event in events] == [Renamed, Changed, Ready]
    assert events[-1] == Ready(new)
    stopped = replace(new, shutdown=ShutdownReason.CRASH)
    assert not [e for e in table_of(old).apply([(old, stopped)]) if isinstance(e, Ready)]


def test_a_removal_carries_the_last_reason_and_whether_it_was_inferred() -> None:
    """What stopped it, where that was seen; `inferred` is passed on to all of the batch."""
    crashed = replace(domain(1, "web"), shutdown=ShutdownReason.CRASH)
    running = domain(2, "db")
    table = table_of(crashed, running)
    assert table.apply([(crashed, None), (running, None)], inferred=True) == [
        Removed(crashed, ShutdownReason.CRASH, inferred=True),
        Removed(running, None, inferred=True),
    ]


def test_lives_that_only_go_are_told_before_those_that_come() -> None:
    """A listener that counts domains never counts one too many."""
    gone, came = domain(2, "web"), domain(1, "web")
    table = table_of(gone)
    told = table.apply([(None, came), (gone, None)])
    assert told == [Removed(gone), Added(came), Ready(came)]


def test_events_carry_generation_and_time() -> None:
    """Neither counts when events are compared."""
    web = domain(1, "web")
    events = table_of(domain(2)).apply([(None, web)], time=12.5)
    assert {(event.generation, event.time) for event in events} == {(2, 12.5)}
    assert events == [Added(web), Ready(web)]


def test_nothing_changed_is_no_generation() -> None:
    """The generation grows only with a change of the index."""
    web = domain(1, "web")
    table = table_of(web)
    assert table.apply([]) == table.apply([(web, web)]) == []
    assert table.generation == 1


# -- keys ------------------------------------------------------------------------------------


def test_swapped_names_are_two_renames_and_both_keys_stay() -> None:
    """In one batch: no reader ever sees both called the same."""
    a, b = domain(1, "a"), domain(2, "b")
    table = table_of(a, b)
    events = [event for event in swapped(table, a, b) if not isinstance(event, Ready)]
    assert events == [Renamed(a, replace(a, name="b")), Renamed(b, replace(b, name="a"))]
    assert (table.names.view["a"].domid, table.names.view["b"].domid) == (2, 1)
    table.check()


def test_each_key_goes_from_its_old_answer_to_its_new_one_in_one_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rule 3 of the file: a reader without a lock, at any point between two steps of the
    writer, gets the old or the new holder of a name that is never without one."""
    a, b = domain(1, "a"), domain(2, "b")
    table = table_of(a, b)
    answers: list[tuple[int | None, int | None]] = []

    def domid_of(found: Domain | None) -> int | None:
        return None if found is None else found.domid

    class Watched(dict[str, dict[int, Domain]]):
        def pop(self, key: str, *default: Any) -> Any:
            found_a, found_b = table.names.view.get("a"), table.names.view.get("b")
            answers.append((domid_of(found_a), domid_of(found_b)))
            return super().pop(key, *default)

    monkeypatch.setattr(table.names, "shared", Watched())
    swapped(table, a, b)
    assert answers == [(2, 2), (2, 1)]  # never None, never missing


def test_a_key_with_two_holders_is_in_no_view() -> None:
    """P5: it is ambiguous; `holders` has all; it comes back when one remains."""
    one, two = domain(1, "web", 9), domain(2, "web", 9)
    table = table_of(one, two)
    assert "web" not in table.names.view
    assert one.uuid not in table.uuids.view
    assert table.names.holders("web") == {1: one, 2: two}
    assert table.uuids.holders(one.uuid) == {1: one, 2: two}
    table.apply([(one, None)])
    assert table.names.view["web"] is table.uuids.view[one.uuid] is two
    table.check()


def test_three_holders_shrink_to_two_and_one() -> None:
    """The shared entry follows each step."""
    domains = [domain(n, "web") for n in (1, 2, 3)]
    table = table_of(*domains)
    table.apply([(domains[1], None)])
    assert table.names.holders("web") == {1: domains[0], 3: domains[2]}
    table.check()
    table.apply([(domains[0], replace(domains[0], name="db"))])
    assert table.names.view["web"] is domains[2]
    table.check()


def test_nothing_is_found_by_the_nil_uuid() -> None:
    """It names nothing: dom0 has it, and hand-made domains."""
    table = table_of(domain(0, "Domain-0", 0), domain(1, "hand-made", 0))
    assert NIL_UUID not in table.uuids.view
    assert table.uuids.holders(NIL_UUID) == {}
    table.check()


def test_the_empty_name_is_a_name_and_none_is_not() -> None:
    """xenstore may hold an empty name; a missing one is no key."""
    table = table_of(domain(1, ""), domain(2, None), domain(3, None))
    assert table.names.view[""].domid == 1
    assert len(table.names.view) == 1
    assert [d.domid for d in table.named()] == [1]
    table.check()


def test_domains_come_in_domid_order_and_names_in_name_order() -> None:
    """Whatever the order in which they came."""
    table = table_of(domain(3, "a"), domain(1, "c"), domain(2, "b"), domain(0, "b"))
    assert [d.domid for d in table] == [0, 1, 2, 3]
    assert [(d.name, d.domid) for d in table.named()] == [("a", 3), ("b", 0), ("b", 2), ("c", 1)]


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("", ["", "a", "a-", "ab", "b", "\udcff"]),
        ("a", ["a", "a-", "ab"]),
        ("a-", ["a-"]),
        ("b", ["b"]),
        ("c", []),
        ("\udcff", ["\udcff"]),
        ("\U0010ffff", []),
    ],
)
def test_a_prefix_finds_its_names_and_no_others(prefix: str, found: list[str]) -> None:
    """Byte for byte; the empty prefix finds every name, undecodable ones included."""
    names = ["b", "ab", "", "a-", "a", "\udcff"]
    table = table_of(*(domain(n, name) for n, name in enumerate(names)))
    assert [d.name for d in table.named(prefix)] == found


# -- batches that cannot be ------------------------------------------------------------------

WEB, DB = domain(1, "web"), domain(2, "db")


@pytest.mark.parametrize(
    "changes",
    [
        [(domain(3), None)],
        [(domain(3), domain(3, "x"))],
        [(replace(WEB, name="other"), None)],
        [(replace(WEB, name="other"), replace(WEB, name="x"))],
        [(None, domain(1, "x", life=5))],
        [(WEB, None), (WEB, None)],
        [(WEB, None), (WEB, replace(WEB, name="x"))],
        [(None, domain(3)), (None, domain(3, "x"))],
        [(WEB, replace(WEB, name="x")), (None, domain(1, "y", life=5))],
        [(WEB, None), (None, domain(2, "x", life=5))],
        [(None, domain(4)), (DB, None), (domain(3), None)],
    ],
)
def test_a_batch_that_cannot_be_raises_and_changes_nothing(changes: list[Change]) -> None:
    """Rule 3 of the file: the whole change or nothing at all."""
    table = table_of(WEB, DB)
    with pytest.raises(KeyError):
        table.apply(changes)
    table.check()
    assert list(table) == [WEB, DB]
    assert [d.name for d in table.named()] == ["db", "web"]
    assert table.generation == 1


def test_clear_forgets_everything() -> None:
    """Afterwards the views answer through `missing` alone."""
    table = table_of(WEB, DB, domain(3, "web"))
    table.clear()
    table.check()
    assert len(table) == 0
    with pytest.raises(Absent):
        table.domids.view[1]


# -- views -----------------------------------------------------------------------------------

CHANGES: Sequence[Callable[[Any], object]] = (
    lambda view: view.__setitem__("x", WEB),
    lambda view: view.__delitem__("web"),
    lambda view: view.clear(),
    lambda view: view.update({"x": WEB}),
    lambda view: view.setdefault("x", WEB),
    lambda view: view.pop("web"),
    lambda view: view.popitem(),
    lambda view: view.__ior__({"x": WEB}),
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_view_is_read_only(change: Callable[[Any], object]) -> None:
    """Only `apply` writes."""
    table = table_of(WEB, DB)
    with pytest.raises(TypeError, match="read-only"):
        change(table.names.view)
    table.check()
    assert len(table) == 2


def test_a_view_is_live() -> None:
    """It is the mapping itself, not a copy."""
    table = table_of(WEB)
    view = table.names.view
    table.apply([(None, DB)])
    assert set(view) == {"web", "db"}
    assert len(view) == 2


def test_a_view_answers_for_what_it_lacks() -> None:
    """`[]` asks `missing`; `get` and `in` answer None and False."""
    view = table_of(WEB).names.view
    with pytest.raises(Absent):
        view["db"]
    assert view.get("db") is None
    assert view.get("db", WEB) is WEB
    assert "db" not in view


def test_iterating_a_view_is_safe_while_the_table_changes() -> None:
    """Each walk is over what was held when it began."""
    table = table_of(WEB, DB)
    for walk in (
        iter(table.names.view),
        iter(table.names.view.keys()),
        iter(table.names.view.values()),
        iter(table.names.view.items()),
    ):
        next(walk)
        here = list(table)
        table.apply([(old, None) for old in here])
        assert len(list(walk)) == 1
        table.apply([(None, domain(n, f"vm-{n}")) for n in range(1, 3)])


def test_walking_a_view_backwards_is_safe_while_the_table_changes() -> None:
    """reversed() is iteration like any other."""
    table = table_of(WEB, DB)
    walk = reversed(table.names.view)
    assert next(walk) == "db"
    table.apply([(WEB, None)])
    assert list(walk) == ["web"]


def test_a_view_is_copied_and_pickled_as_a_plain_dict() -> None:
    """Whoever takes it elsewhere wants what is held, not the way to the index."""
    view = table_of(WEB).names.view
    for taken in (view.copy(), copy.copy(view), pickle.loads(pickle.dumps(view))):
        assert type(taken) is dict
        assert taken == {"web": WEB}


class SlowKey:
    """A key with a hash in Python, as UUID has: other threads run while it is worked out."""

    hook: Callable[[], None] | None = None

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        if self.number == 1 and SlowKey.hook is not None:
            hook, SlowKey.hook = SlowKey.hook, None
            hook()
        return self.number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SlowKey) and other.number == self.number


def test_a_copy_of_a_view_is_what_was_held_at_one_moment() -> None:
    """A writer that replaces one key by another while a copy is taken is seen wholly or not,
    and hides no third key."""

    def absent(key: SlowKey) -> Domain:
        raise KeyError(key)

    view: View[SlowKey, Domain] = View(absent)
    keys = [SlowKey(number) for number in range(6)]
    for key in keys[:5]:  # as many as the smallest dict holds: the next makes it grow
        dict.__setitem__(view, key, WEB)

    def write() -> None:
        dict.pop(view, keys[0])
        dict.__setitem__(view, keys[5], DB)

    SlowKey.hook = write
    try:
        taken = {key.number for key in view.copy()}
    finally:
        SlowKey.hook = None
    assert taken in ({0, 1, 2, 3, 4}, {1, 2, 3, 4, 5})


def test_a_table_that_was_cleared_knows_no_last_name() -> None:
    """P1: what begins anew begins with nothing."""
    web = domain(1, "web")
    nameless = replace(web, name=None)
    table = table_of(web)
    table.apply([(web, nameless)])
    table.clear()
    table.apply([(None, nameless)])
    (removed,) = table.apply([(nameless, None)])
    assert removed == Removed(nameless)


def test_a_table_that_was_cleared_has_no_groups() -> None:
    """An index that is closed keeps no records."""
    table = table_of(domain(1, "web"))
    table.group("all", lambda _: 1)
    assert table.grouped("all", 1) != ()
    table.clear()
    assert table.grouped("all", 1) == ()
