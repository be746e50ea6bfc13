"""What only a hypercall tells of a domain: state, memory, times. Kept for as long as a caller says.

Read after picture.py; used by both coats, index.py and aio.py.
"""

from __future__ import annotations

import time

from domindex.domain import DomainInfo, Life
from domindex.errors import NoSuchDomain
from domindex.keys import as_domid
from domindex.limits import as_seconds
from domindex.picture import Picture
from domindex.ports import Hypervisor


class Facts:
    """Asks the hypervisor, and keeps each answer with the life that it is of."""

    def __init__(self, hypervisor: Hypervisor, picture: Picture) -> None:
        self._hypervisor = hypervisor
        self._picture = picture
        self._known: dict[int, tuple[float, Life, DomainInfo]] = {}

    def info(self, domid: int, max_age: float) -> DomainInfo:
        """See `Index.info`."""
        self._picture.check_open()
        domid = as_domid(domid)
        max_age = as_seconds(max_age, "max_age")
        held = self._picture.table.get(domid)
        if max_age > 0 and held is not None and (known := self._known.get(domid)) is not None:
            asked, life, info = known
            if life == held.life and time.monotonic() - asked <= max_age:
                return info
        now = time.monotonic()
        found = self._hypervisor.info(domid)
        if found is None:
            raise NoSuchDomain("domid", domid)
        if held is not None:
            self._keep(domid, (now, held.life, found))
        return found

    def _keep(self, domid: int, known: tuple[float, Life, DomainInfo]) -> None:
        self._known[domid] = known
        if len(self._known) > 2 * len(self._picture.table) + 16:  # most are of ended lives
            for old in [old for old in self._known if self._picture.table.get(old) is None]:
                self._known.pop(old, None)
