"""An index of the caller's own: the domains by what a function of theirs says of each.

Read after key.py; table.py keeps each of them, `Index.add_index` makes one.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Hashable, Iterable

from domindex.domain import Domain

log: logging.Logger = logging.getLogger("domindex")


class Grouping:
    """Domains under `key_of(domain)`; under no key if that is None, or fails.

    The function is asked once for each record, and its answer kept: what it says later, or
    about a record that is leaving, does not count.
    """

    def __init__(self, key_of: Callable[[Domain], Hashable], present: Iterable[Domain]) -> None:
        self._key_of = key_of
        self._where: dict[int, tuple[Hashable, dict[int, Domain]]] = {}
        self._groups: dict[Hashable, dict[int, Domain]] = {}
        # In the caller's thread: what is to end the program does.
        self._apply((), present, Exception)

    def get(self, key: Hashable) -> tuple[Domain, ...]:
        """All under `key`, lowest domid first."""
        group = self._groups.get(key, {})
        return tuple(group[domid] for domid in sorted(group))

    def apply(self, leaving: Iterable[Domain], coming: Iterable[Domain]) -> None:
        """Take domains out and in. Never fails: it keeps the index true, for all others too."""
        self._apply(leaving, coming, BaseException)

    def _apply(
        self, leaving: Iterable[Domain], coming: Iterable[Domain], caught: type[BaseException]
    ) -> None:
        for domain in leaving:
            key, group = self._where.pop(domain.domid, (None, {}))
            group.pop(domain.domid, None)
            if key is not None and not group:
                with contextlib.suppress(caught):  # a key that is another one by now
                    del self._groups[key]
        for domain in coming:
            key, group = self._asked(domain, caught)
            if key is not None:
                group[domain.domid] = domain
                self._where[domain.domid] = key, group

    def clear(self) -> None:
        """Forget every domain."""
        self._where.clear()
        self._groups.clear()

    def _asked(
        self, domain: Domain, caught: type[BaseException]
    ) -> tuple[Hashable, dict[int, Domain]]:
        """The key of that domain, and the group there. (None, ...) for nowhere."""
        try:
            key = self._key_of(domain)
            return key, {} if key is None else self._groups.setdefault(key, {})
        except caught:
            with contextlib.suppress(caught):
                log.exception("the key function of an index failed on domain %d", domain.domid)
            return None, {}
