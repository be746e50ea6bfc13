"""An index of the caller's own: the domains by what a function of theirs says of each."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Hashable, Iterable

from domindex.domain import Domain

log = logging.getLogger("domindex")


class Grouping:
    """Domains under `key_of(domain)`; under no key if that is None, or fails.

    The function is asked once for each record, and its answer kept: what it says later, or
    about a record that is leaving, does not count.
    """

    def __init__(self, key_of: Callable[[Domain], Hashable], present: Iterable[Domain]) -> None:
        self._key_of = key_of
        self._keys: dict[int, Hashable] = {}
        self._groups: dict[Hashable, dict[int, Domain]] = {}
        self.apply((), present)

    def get(self, key: Hashable) -> tuple[Domain, ...]:
        """All under `key`, lowest domid first."""
        group = self._groups.get(key, {})
        return tuple(group[domid] for domid in sorted(group))

    def apply(self, leaving: Iterable[Domain], coming: Iterable[Domain]) -> None:
        """Take domains out and in."""
        for domain in leaving:
            key = self._keys.pop(domain.domid, None)
            if key is not None:
                group = self._groups[key]
                del group[domain.domid]
                if not group:
                    del self._groups[key]
        for domain in coming:
            key = self._asked(domain)
            if key is not None:
                self._keys[domain.domid] = key
                self._groups.setdefault(key, {})[domain.domid] = domain

    def clear(self) -> None:
        """Forget every domain."""
        self._keys.clear()
        self._groups.clear()

    def _asked(self, domain: Domain) -> Hashable:
        try:
            key = self._key_of(domain)
            hash(key)
        except Exception:  # a fault of the caller's, in the thread that keeps the index true
            with contextlib.suppress(Exception):
                log.exception("the key function of an index failed on domain %d", domain.domid)
            return None
        return key
