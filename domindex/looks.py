"""What a pass asks the hypervisor: the rows of a scope, and what it calls their lives.

Read after core/reconcile.py; next following.py, whose passes look at the host with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from domindex.complaints import Complaints
from domindex.core.reconcile import Reconciler
from domindex.core.scope import Scope
from domindex.errors import HypercallFailed
from domindex.ports import Hypervisor, Row
from domindex.stats import Counters


class Looks:
    """Looks at the domains that the reconciler is to compare."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        reconciler: Reconciler,
        counters: Counters,
        complaints: Complaints,
    ) -> None:
        self._hypervisor = hypervisor
        self._reconciler = reconciler
        self._counters = counters
        self._complaints = complaints

    def rows(self, scope: Scope) -> Sequence[Row]:
        """All that there is of `scope`. Raises HypercallFailed if it cannot be had whole."""
        if scope is Scope.ALL:
            return self._list()
        return [row for d in sorted(scope.domids) if (row := self._hypervisor.get(d)) is not None]

    def _list(self) -> Sequence[Row]:
        """Every domain. Raises if what it lacks is still there: removals need a whole list."""
        for _ in range(2):
            self._counters.lists += 1
            rows = self._hypervisor.list()
            missing = self._reconciler.unlisted(rows)
            there = [row for d in missing if (row := self._hypervisor.get(d)) and not row.dying]
            if not there:
                return rows
            # Or it is another life, born since: then the second list has it.
        raise HypercallFailed(f"the list of domains lacks {there[0].domid}, which exists")

    def unique_ids(self, rows: Sequence[Row], *, thorough: bool) -> dict[int, int | None]:
        """What the hypervisor calls the lives in doubt; without those that it refuses to tell."""
        ids: dict[int, int | None] = {}
        if self._hypervisor.has_unique_ids:
            for domid in self._reconciler.suspects(rows, thorough=thorough):
                try:
                    ids[domid] = self._hypervisor.unique_id(domid)
                except HypercallFailed as error:
                    if error.errno is None:
                        raise
                    self._complaints.refused(b"the state of domain %d" % domid, error)
        return ids
