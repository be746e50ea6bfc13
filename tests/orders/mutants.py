"""Small ways to break the rules of reconcile.py, and the script that shows each.

A test that has never failed proves nothing. Each of these leaves out one thought of the code, as
a careless change would, and some order of the named script breaks a promise then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from domindex.core.lives import Tracked
from domindex.core.nodes import UNREAD, Followed, Nodes, Value
from domindex.core.reconcile import NAMES, Reconciler
from domindex.core.scope import Scope
from domindex.core.table import Change
from domindex.following import Following
from domindex.looks import Looks
from domindex.ports import Row


class Mutant(NamedTuple):
    """`of.name` becomes `instead`, and `script` on that `kind` of host notices."""

    of: type
    name: str
    instead: Any
    script: str
    kind: str


certain, confirm = Reconciler.certain_changes, Reconciler._confirm
read, events = Following._read, Following._events
born, on_values = Tracked.__init__, Nodes.on_values


def believed_without_a_look(self: Following, nodes: Sequence[Followed]) -> None:
    read(self, nodes)
    for name in nodes:
        if isinstance(name, Tracked):
            self._reconciler._believe(name.domid, name)


def published_without_a_look(self: Nodes, values: Iterable[tuple[Followed, Value]]) -> None:
    answers = [*values]
    on_values(self, answers)
    for followed, _ in answers:
        if not isinstance(followed, Tracked):
            self.confirm(followed.domid)


def answered_before_it_fired(self: Following, nodes: Sequence[Followed]) -> None:
    read(self, nodes)
    self._store.events()  # what has come since the read was sent


def fit_from_birth(self: Tracked, row: Row, unique_id: int | None, first_seen: float) -> None:
    born(self, row, unique_id, first_seen)
    self.believed = True


def old_one_first(self: Reconciler) -> list[Change]:
    gone: list[Change] = []
    for domid in self._touched:
        old, tracked = self._records.get(domid), self._lives.get(domid)
        if old and tracked and not tracked.believed and not tracked.is_of(old.life):
            gone.append((old, None))
    return gone + certain(self)


def forgets_what_fires_meanwhile(self: Following, nodes: Sequence[Followed]) -> None:
    """Before a read of names that have no watch of their own: yet, or as one stands for all."""
    if all(node.token in (None, NAMES.token) for node in nodes):
        self._store.events()
    read(self, nodes)


def suspects(without: str) -> Callable[..., list[int]]:
    """As in the code, but one reason is missing."""

    def some(self: Reconciler, rows: Iterable[Row], *, thorough: bool) -> list[int]:
        def suspect(row: Row) -> bool:
            known = self._lives.get(row.domid)
            if known is None or thorough:
                return True
            reasons = {
                "event": known in self.nodes.dirty or row.domid in self._announced.named,
                "name read": known.answer is not UNREAD,
                "node read": known.answer is UNREAD and row.domid in self.nodes.unconfirmed,
                "stopped": row.shutdown is not known.row.shutdown,
                "nameless": known.name is None,
                "handle": row.handle != known.row.handle,
            }
            return any(holds for reason, holds in reasons.items() if reason != without)

        return [row.domid for row in rows if not row.dying and suspect(row)]

    return some


def no_barrier(self: Reconciler, rows: Sequence[Row], scope: Any) -> bool:
    return False


def events_of_the_barrier_lost(
    self: Following, *, arrived: bool = False, after_list: bool = False
) -> Scope:
    scope = events(self, arrived=arrived, after_list=after_list)
    return Scope() if after_list else scope


def name_stays_heard(self: Reconciler, tracked: Tracked, row: Row) -> None:
    """A changed handle says nothing about a name."""
    if row.handle != tracked.row.handle:
        self._touched.add(row.domid)
        tracked.row = row
    confirm(self, tracked, row)


def always_silent(self: Reconciler, tracked: Tracked, row: Row, ids: Any) -> bool:
    unique_id = ids.get(row.domid)
    return unique_id is None or unique_id == tracked.unique_id


def never_silent(self: Reconciler, tracked: Tracked, row: Row, ids: Any) -> bool:
    return always_silent(self, tracked, row, ids) and row.handle == tracked.row.handle


def gone_if_unlisted(self: Looks) -> Sequence[Row]:
    return self._hypervisor.list()


def read_after_the_look(self: Following) -> None:
    readings = tuple(self._requests.readings)
    self._pass(Scope(reading.life.domid for reading in readings), thorough=True)
    for reading in readings:
        reading.runs = self._reconciler.follows(reading.life)
        reading.values = self._ask(reading.nodes)
        del self._requests.readings[reading]
    self._show_result()


def refreshed_already(self: Following) -> None:
    self._picture.refreshed = self._requests.refresh
    self._picture.commit(())


def only_a_sign_of_life(self: Following) -> None:
    self._store.barrier()
    self._probed = self._picture.got_on


MUTANTS = {
    "rule 1: a name is believed at once": Mutant(
        Following, "_read", believed_without_a_look, "reused after a release", "plain"
    ),
    "rule 1: a node is believed at once": Mutant(
        Nodes, "on_values", published_without_a_look, "a node of the next life", "plain"
    ),
    "rule 2: an answer comes before its event": Mutant(
        Following, "_read", answered_before_it_fired, "renames", "plain"
    ),
    "rule 3: a life comes without its name": Mutant(
        Tracked, "__init__", fit_from_birth, "reused twice", "plain"
    ),
    "rule 3: the old life goes first": Mutant(
        Reconciler, "certain_changes", old_one_first, "reused by XAPI", "ids"
    ),
    "rule 4: a name outlives a handle": Mutant(
        Reconciler, "_confirm", name_stays_heard, "names about a handle", "ids"
    ),
    "events before a read are lost": Mutant(
        Following, "_read", forgets_what_fires_meanwhile, "names swapped", "depth"
    ),
    **{
        f"suspects: {reason}": Mutant(Reconciler, "suspects", suspects(reason), script, "ids")
        for reason, script in (
            ("name read", "same uuid by libxl"),
            ("node read", "a node of the next, same uuid"),
            ("stopped", "reborn to stop, by XAPI"),
            ("nameless", "same uuid, nameless"),
        )
    },
    "a silent watch: no barrier": Mutant(
        Reconciler, "shows_new_handle", no_barrier, "names about two handles", "plain"
    ),
    "a silent watch: events of the barrier are lost": Mutant(
        Following,
        "_events",
        events_of_the_barrier_lost,
        "refresh of a handle, another beside",
        "plain",
    ),
    "a silent watch: not asked for": Mutant(
        Reconciler, "_same", always_silent, "reused by XAPI", "plain"
    ),
    "a silent watch: proves nothing": Mutant(
        Reconciler, "_same", never_silent, "a handle", "plain"
    ),
    "P2: a probe does not list": Mutant(
        Following, "_probe", only_a_sign_of_life, "a silent birth", "plain"
    ),
    "P1: a node is read after the look": Mutant(
        Following, "_read_once", read_after_the_look, "a read of the next life", "plain"
    ),
    "P4: half a list is a whole one": Mutant(
        Looks, "_list", gone_if_unlisted, "a list cut in half", "plain"
    ),
    "P6: a refresh looks at nothing": Mutant(
        Following, "_refresh", refreshed_already, "refresh of what is silent", "plain"
    ),
}
