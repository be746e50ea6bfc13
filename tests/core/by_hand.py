"""The reconciler driven by hand: rows, events and answers as a test chooses them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from domindex.core.lives import name_path
from domindex.core.nodes import Value
from domindex.core.reconcile import Reconciler
from domindex.core.scope import Scope
from domindex.core.table import Change
from domindex.domain import Domain, OSType, ShutdownReason
from domindex.ports import Row, Watch


def row(
    domid: int,
    uuid: int = 0,
    *,
    type: OSType = OSType.PVH,
    shutdown: ShutdownReason | None = None,
    dying: bool = False,
    cpu_time: int = 0,
    frame: int | None = None,
) -> Row:
    handle = UUID(int=uuid or 100 + domid).bytes
    return Row(domid, handle, type, shutdown, dying, cpu_time, frame)


class Watcher:
    """Does by hand what the watcher's thread does, so that each answer can be chosen."""

    def __init__(self) -> None:
        self.held: dict[int, Domain] = {}
        self.reconciler = Reconciler(self.held)
        self.now = 0.0
        self.watches: dict[bytes, Watch] = {}  # set now, by path
        self.unwatched: list[Watch] = []

    def see(
        self,
        *rows: Row,
        scope: Collection[int] | None = None,
        ids: Mapping[int, int | None] | None = None,
        now: float | None = None,
    ) -> list[Change]:
        """A list comes in; what is certain goes into the table and is returned."""
        self.now = self.now + 1 if now is None else now
        self.reconciler.see(
            rows, now=self.now, scope=Scope.ALL if scope is None else Scope(scope), unique_ids=ids
        )
        return self.take()

    def take(self) -> list[Change]:
        changes = self.reconciler.certain_changes()
        for old, _ in changes:
            if old is not None:
                assert self.held.pop(old.domid) == old
        for _, new in changes:
            if new is not None:
                assert new.domid not in self.held
                self.held[new.domid] = new
        return changes

    def ask(self) -> tuple[list[Watch], list[Watch]]:
        unwatch, watch = self.reconciler.nodes.pending_watches()
        for old in unwatch:
            self.unwatched.append(old)
            if self.watches.get(old.path) == old:
                del self.watches[old.path]
        self.watches |= {new.path: new for new in watch}
        return unwatch, watch

    def read(self, **names: Value) -> list[int]:
        """Answer what is unread, `d7=b"web"` for domid 7; those not given have no node."""
        unread = self.reconciler.nodes.unread()
        self.reconciler.nodes.on_values((name, names.get(f"d{name.domid}")) for name in unread)
        return [name.domid for name in unread]

    def unread(self) -> list[int]:
        """Domids whose names are to be read now."""
        return [name.domid for name in self.reconciler.nodes.unread()]

    def newborn(self) -> list[int]:
        """Domids of lives of which nothing is known."""
        return [life.domid for life in self.reconciler.newborn()]

    def answer_newborn(self, name: bytes) -> None:
        """The name of the only newborn life is read, before its watch is set."""
        (life,) = self.reconciler.newborn()
        self.reconciler.nodes.on_values([(life, name)])

    def fire(self, *domids: int) -> Scope:
        return self.reconciler.on_watch_events([self.watches[name_path(d)] for d in domids])

    def settle(
        self, *rows: Row, ids: Mapping[int, int | None] | None = None, **names: Value
    ) -> None:
        """One whole pass over a host at rest."""
        self.see(*rows, ids=ids)
        self.ask()
        self.read(**names)
        self.see(*rows, ids=ids)
        assert {domain.domid for domain in self.held.values()} == {
            row.domid for row in rows if not row.dying
        }


def names(watcher: Watcher) -> dict[int, str | None]:
    return {domid: domain.name for domid, domain in watcher.held.items()}
