"""Small ways to break the rules of reconcile.py, and the script that shows each.

A test that has never failed proves nothing. Each of these leaves out one thought of the code, as
a careless change would, and some order of the named script breaks a promise then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from domindex.core.lives import UNREAD, Tracked
from domindex.core.nodes import Node, Nodes
from domindex.core.reconcile import Reconciler
from domindex.core.table import Change
from domindex.ports import Row, Store
from domindex.watcher import Watcher


class Mutant(NamedTuple):
    """`of.name` becomes `instead`, and `script` on that `kind` of host notices."""

    of: type
    name: str
    instead: Any
    script: str
    kind: str


heard, take, confirm = Reconciler.heard, Reconciler.take, Reconciler._confirm
read, events = Watcher._read, Watcher._events
born, node_heard = Tracked.__init__, Nodes.heard


def believed_without_a_look(self: Reconciler, names: Iterable[Any], nodes: Any = ()) -> None:
    asked = [*names]
    heard(self, asked, nodes)
    for domid, _ in asked:
        self._believe(domid, self._lives[domid])


def told_without_a_look(self: Nodes, node: Node, value: Any) -> None:
    node_heard(self, node, value)
    self.confirm(node.domid)


def answered_before_it_fired(
    self: Watcher, store: Store, names: Sequence[int], nodes: Sequence[Node]
) -> None:
    read(self, store, names, nodes)
    store.events()  # what has come since the read was sent


def fit_from_birth(self: Tracked, row: Row, unique_id: int | None, first_seen: float) -> None:
    born(self, row, unique_id, first_seen)
    self.believed = True


def old_one_first(self: Reconciler) -> list[Change]:
    gone: list[Change] = []
    for domid in self._touched:
        old, tracked = self._held.get(domid), self._lives.get(domid)
        if old and tracked and not tracked.believed and not tracked.is_of(old.life):
            gone.append((old, None))
    return gone + take(self)


def forgets_what_fires_meanwhile(
    self: Watcher, store: Store, names: Sequence[int], nodes: Sequence[Node]
) -> None:
    """Of a newborn, read before its watch is set."""
    if not nodes and all(self._reconciler._lives[domid].token is None for domid in names):
        store.events()
    read(self, store, names, nodes)


def suspects(without: str) -> Callable[..., list[int]]:
    """As in the code, but one reason is missing."""

    def some(self: Reconciler, rows: Iterable[Row], *, thorough: bool) -> list[int]:
        def suspect(row: Row) -> bool:
            known = self._lives.get(row.domid)
            if known is None or thorough:
                return True
            reasons = {
                "event": row.domid in self._dirty or row.domid in self._told_of,
                "name read": known.heard is not UNREAD,
                "node read": known.heard is UNREAD and row.domid in self._unconfirmed,
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
    self: Watcher, store: Store, *, arrived: bool = False, late: bool = False
) -> set[int] | None:
    scope = events(self, store, arrived=arrived, late=late)
    return set() if late else scope


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


def gone_if_unlisted(self: Watcher) -> Sequence[Row]:
    return self._hypervisor.list()


def refreshed_already(self: Watcher, store: Store) -> None:
    self._picture.refreshed = self._asked
    self._picture.commit(())


def only_a_sign_of_life(self: Watcher, store: Store) -> None:
    store.barrier()


MUTANTS = {
    "rule 1: a name is believed at once": Mutant(
        Reconciler, "heard", believed_without_a_look, "reused after a release", "plain"
    ),
    "rule 1: a node is believed at once": Mutant(
        Nodes, "heard", told_without_a_look, "a node of the next life", "plain"
    ),
    "rule 2: an answer comes before its event": Mutant(
        Watcher, "_read", answered_before_it_fired, "renames", "plain"
    ),
    "rule 3: a life comes without its name": Mutant(
        Tracked, "__init__", fit_from_birth, "reused twice", "plain"
    ),
    "rule 3: the old life goes first": Mutant(
        Reconciler, "take", old_one_first, "reused by XAPI", "ids"
    ),
    "rule 4: a name outlives a handle": Mutant(
        Reconciler, "_confirm", name_stays_heard, "names about a handle", "ids"
    ),
    "a newborn's events are lost": Mutant(
        Watcher, "_read", forgets_what_fires_meanwhile, "names swapped", "depth"
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
        Watcher,
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
        Watcher, "_probe", only_a_sign_of_life, "a silent birth", "plain"
    ),
    "P4: half a list is a whole one": Mutant(
        Watcher, "_list", gone_if_unlisted, "a list cut in half", "plain"
    ),
    "P6: a refresh looks at nothing": Mutant(
        Watcher, "_refresh", refreshed_already, "refresh of what is silent", "plain"
    ),
}
