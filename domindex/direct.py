"""The same look-ups without an index: no thread, no watch, nothing kept between calls.

For a command line or a one-off question. This is the algorithm proposed on the libvirt list
in August 2007: the hypervisor knows domid, uuid and type, xenstore knows the name, and only
finding a domain *by name* has to scan. A name is believed if the hypervisor still lists its
domain after the read: that is a second hypercall. `confirm=False` leaves it out, as the mail
did; then the name may be of a domain that had the number just before or has it just after.

| call | hypercalls | without `confirm` | xenstore reads |
|---|---|---|---|
| by_id | 2 | 1 | 1 |
| by_uuid | 2 | 1 | 1 |
| by_name | 1, and 1 for each holder | 1 | as many as domains, pipelined |
| os_type | 1 | 1 | 0 |
"""

from __future__ import annotations

import threading
import time
from typing import Self
from uuid import UUID

from domindex.connect import XenHost
from domindex.core.reconcile import name_path
from domindex.domain import NIL_UUID, Domain, Life, OSType, as_domid, as_name, as_uuid, decode_name
from domindex.errors import Ambiguous, NoSuchDomain
from domindex.ports import Host, Row


def open(host: Host | None = None, *, timeout: float = 5.0) -> Direct:
    """Direct look-ups on this host. Close it, or use it in a `with`.

    timeout: seconds for the connection to xenstore and for each request.
    Raises NotControlDomain, AccessDenied, UnknownXen, HypercallFailed, StoreLost.
    """
    return Direct(XenHost() if host is None else host, timeout)


class Direct:
    """Made by `domindex.direct.open()`. Safe from any thread, one look-up at a time.

    Every call may also raise InvalidKey, HypercallFailed, StoreError, and Closed after `close`.
    After a StoreLost it is of no more use; open another.
    """

    def __init__(self, host: Host, timeout: float) -> None:
        self._lock = threading.RLock()  # a signal's handler may close it amid a look-up
        self._hypervisor = host.open_hypervisor()
        try:
            self._store = host.open_store(timeout)
        except BaseException:
            self._hypervisor.close()
            raise

    def by_id(self, domid: int, *, confirm: bool = True) -> Domain:
        """Raises NoSuchDomain. Cost: one hypercall, one read, one hypercall to confirm."""
        domid = as_domid(domid)
        with self._lock:
            while (row := self._hypervisor.get(domid)) is not None and not row.dying:
                if found := self._named([row], confirm=confirm):
                    return found[0]
                # Another domain has that number now: look again.
        raise NoSuchDomain("domid", domid)

    def by_uuid(self, uuid: UUID | str | bytes, *, confirm: bool = True) -> Domain:
        """Raises NoSuchDomain, Ambiguous; the nil uuid is nobody's.

        Cost: one hypercall for the list, one read, one hypercall to confirm.
        """
        uuid = as_uuid(uuid)
        with self._lock:
            rows = [row for row in self._rows() if row.handle == uuid.bytes]
            found = [] if uuid == NIL_UUID else self._named(rows, confirm=confirm)
        return _only("uuid", uuid, found)

    def by_name(self, name: str | bytes, *, confirm: bool = True) -> Domain:
        """Raises NoSuchDomain, Ambiguous.

        Cost: one hypercall for the list, a read for every domain, one hypercall per holder.
        """
        name = as_name(name)
        with self._lock:
            found = self._named(self._rows(), name, confirm=confirm)
        return _only("name", name, found)

    def all(self) -> tuple[Domain, ...]:
        """Every domain in domid order. Cost: two hypercalls and a read for every domain."""
        with self._lock:
            rows = self._rows()
            names = self._store.read([name_path(row.domid) for row in rows])
            still = {row.domid: row for row in self._rows()}
            return tuple(
                self._domain(row, name)
                for row, name in zip(rows, names, strict=True)
                if (now := still.get(row.domid)) is not None and now.handle == row.handle
            )

    def os_type(self, domid: int) -> OSType:
        """PV, HVM, PVH or UNKNOWN. Raises NoSuchDomain. Cost: one hypercall."""
        domid = as_domid(domid)
        row = self._hypervisor.get(domid)
        if row is None or row.dying:
            raise NoSuchDomain("domid", domid)
        return row.type

    def close(self) -> None:
        """Leaves no descriptor. May be called twice; ends a look-up in another thread."""
        self._store.interrupt()
        with self._lock:
            self._store.close()
            self._hypervisor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self) -> list[Row]:
        return [row for row in self._hypervisor.list() if not row.dying]

    def _named(self, rows: list[Row], name: str | None = None, *, confirm: bool) -> list[Domain]:
        """Those of `rows` that are called `name`, or all, if they still run after the read."""
        found = []
        paths = [name_path(row.domid) for row in rows]
        for row, raw in zip(rows, self._store.read(paths), strict=True):
            if name is not None and (raw is None or decode_name(raw) != name):
                continue
            now = self._hypervisor.get(row.domid) if confirm else row
            if now is not None and not now.dying and now.handle == row.handle:
                found.append(self._domain(now, raw))
        return found

    @staticmethod
    def _domain(row: Row, name: bytes | None) -> Domain:
        # Not the unique id: it would cost a hypercall more, and one look has no earlier to tell
        # it from.
        now, uuid = time.time(), UUID(bytes=row.handle)
        life = Life(row.domid, None, uuid, now)
        text = None if name is None else decode_name(name)
        return Domain(row.domid, uuid, text, row.type, life, now, row.shutdown)


def _only(what: str, key: object, found: list[Domain]) -> Domain:
    if not found:
        raise NoSuchDomain(what, key)
    if len(found) > 1:
        raise Ambiguous(what, key, tuple(found))
    return found[0]
