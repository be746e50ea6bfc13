"""What only a hypercall tells of a domain: state, memory, times. Kept for as long as a caller says.

Read after picture.py; used by both coats, index.py and aio.py, and by direct.py.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Final

from domindex.domain import Domain, DomainInfo, Life
from domindex.errors import HypercallFailed, NoSuchDomain, NotLive
from domindex.infos import Infos
from domindex.keys import as_domid
from domindex.limits import as_seconds
from domindex.picture import Picture
from domindex.ports import Hypervisor, unique_id_of

_TRIES: Final = 3
"""Answers that are not of the wanted life, while the index holds it, before `info` gives up."""


class Facts:
    """Asks the hypervisor, and keeps each answer with the life that it is of.

    refresh: brings the index up to date with the host.
    """

    def __init__(
        self, hypervisor: Hypervisor, picture: Picture, refresh: Callable[[], object]
    ) -> None:
        self._hypervisor = hypervisor
        self._picture = picture
        self._refresh = refresh
        self._known: dict[int, tuple[float, Life, DomainInfo]] = {}
        self._all: tuple[float, int, Infos] | None = None

    def info(self, domain: int | Domain, max_age: float) -> DomainInfo:
        """See `Index.info`."""
        record = domain if isinstance(domain, Domain) else None
        domid = as_domid(domain) if record is None else record.domid
        self._picture.check_open()
        max_age = as_seconds(max_age, "max_age")
        held = self._picture.table.get(domid) if record is None else self._holds(record)
        if max_age > 0 and held is not None and (known := self._known.get(domid)) is not None:
            asked, life, info = known
            if life == held.life and time.monotonic() - asked <= max_age:
                return info
        now = time.monotonic()
        found = self._hypervisor.info(domid) if record is None else self._of_life(record)
        if found is None:
            raise NoSuchDomain("domid", domid)
        if held is not None:
            self._keep(domid, (now, held.life, found))
        return found

    def infos(self, max_age: float, *, dying: bool) -> Infos:
        """See `Index.infos`."""
        self._picture.check_open()
        now, present = time.monotonic(), self._picture.table.generation
        max_age = as_seconds(max_age, "max_age")
        if max_age > 0 and self._all is not None:
            asked, generation, infos = self._all
            if generation == present and now - asked <= max_age:
                return infos.chosen(dying=dying)
        infos = self._hypervisor.infos()
        self._all = now, present, infos
        return infos.chosen(dying=dying)

    def dying(self) -> tuple[DomainInfo, ...]:
        """See `Index.dying`."""
        self._picture.check_open()
        infos = self._hypervisor.infos()
        return tuple(infos[domid] for domid in infos.dying)

    def is_freed(self, domain: Domain) -> bool:
        """Whether Xen has freed that life, which has ended for the index. One hypercall."""
        self._picture.check_open()
        row = self._hypervisor.get(domain.domid)
        if row is None or not row.dying:
            return True
        # The handle does not say whose the dying domain is: XAPI changes it before the end. But
        # if another life had the domid since, that one is dying, and this one was freed before.
        with self._picture.lock:
            ended = self._picture.ended_lives.find(lambda past: past.domid == domain.domid)
        return bool(ended) and ended[0].domain.life != domain.life

    def _of_life(self, domain: Domain) -> DomainInfo:
        """An answer that is proven to be of this life."""
        for _ in range(_TRIES):
            held = self._holds(domain)
            info = self._hypervisor.info(domain.domid)
            if info is None or info.dying:
                raise NoSuchDomain("life", domain.life)
            if is_of(self._hypervisor, info, held):
                return info
            self._refresh()  # another life, or one whose uuid was replaced: the index learns it
        raise NotLive(
            f"cannot tell: domid {domain.domid} was another domain's in each of {_TRIES} answers, "
            "but the index still holds this one; try again"
        )

    def _holds(self, domain: Domain) -> Domain:
        with self._picture.lock:
            self._picture.check_open()
            return self._picture.holds(domain)

    def _keep(self, domid: int, known: tuple[float, Life, DomainInfo]) -> None:
        self._known[domid] = known
        if len(self._known) > 2 * len(self._picture.table) + 16:  # most are of ended lives
            for old in [old for old in self._known if self._picture.table.get(old) is None]:
                self._known.pop(old, None)


def is_of(hypervisor: Hypervisor, info: DomainInfo, domain: Domain) -> bool:
    """Whether an answer, received before this call, is of the life that the record is of.

    Where the life has a unique id, that alone decides: it is asked for after the answer, and as
    none is given twice, one that still runs ran at the time of the answer. Else uuid and type
    decide, without a hypercall.
    """
    if domain.life.unique_id is not None and hypervisor.has_unique_ids:
        try:
            return unique_id_of(hypervisor, domain.domid) == domain.life.unique_id
        except HypercallFailed as error:
            if error.errno not in (errno.EACCES, errno.EPERM):  # a policy, about this domain
                raise
    return (info.uuid, info.type) == (domain.uuid, domain.type)
