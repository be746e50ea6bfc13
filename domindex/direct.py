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

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Final, Self
from uuid import UUID

from domindex.connect import XenHost
from domindex.core.reconcile import name_path
from domindex.domain import NIL_UUID, Domain, Life, OSType
from domindex.errors import Ambiguous, Closed, NoSuchDomain, NotLive, StoreError
from domindex.forking import register
from domindex.keys import as_domid, as_name, as_uuid, decode_name
from domindex.ports import Host, Row, Store

log = logging.getLogger("domindex")

_TRIES: Final = 8
"""Looks at one domid before it is said to change too fast."""


def open(host: Host | None = None, *, timeout: float = 5.0) -> Direct:
    """Direct look-ups on this host. Close it, or use it in a `with`.

    timeout: seconds for the connection to xenstore and for each request.
    Raises NotControlDomain, AccessDenied, UnknownXen, HypercallFailed, StoreLost.
    """
    return Direct(XenHost() if host is None else host, timeout)


class Direct:
    """Made by `domindex.direct.open()`. Safe from any thread, one look-up at a time.

    A look-up within another of the same thread, as in a signal's handler, opens a line of its own
    for that time. Every call may also raise InvalidKey, HypercallFailed, StoreLost, AccessDenied
    for such a line, and Closed after `close` and in a forked child. After a StoreLost it is of no
    more use; open another.
    """

    def __init__(self, host: Host, timeout: float) -> None:
        self._host, self._timeout = host, timeout
        self._lock = threading.RLock()
        self._busy = False  # a look-up is amid its use of the line
        self._inner: list[Store] = []  # lines of look-ups within look-ups
        self._unreadable: set[int] = set()  # domids that were logged for it
        self._ended = ""  # why every call is refused from now on
        self._forked = False
        self._hypervisor = host.open_hypervisor()
        try:
            self._store = host.open_store(timeout)
        except BaseException:
            self._hypervisor.close()
            raise
        register(self)

    def by_id(self, domid: int, *, confirm: bool = True) -> Domain:
        """Raises NoSuchDomain; NotLive if that number passes from domain to domain all the while.

        If xenstore refuses its name the record has none, and that is logged once.
        Cost: one hypercall, one read, one hypercall to confirm.
        """
        domid = as_domid(domid)
        with self._line() as store:
            for _ in range(_TRIES):
                row = self._hypervisor.get(domid)
                if row is None or row.dying:
                    raise NoSuchDomain("domid", domid)
                if found := self._confirmed([row], self._names(store, [row]), confirm=confirm):
                    return found[0]
                # Another domain has that number now: look again.
        raise NotLive(f"cannot tell: domid {domid} is another domain each time it is looked at")

    def by_uuid(self, uuid: UUID | str | bytes, *, confirm: bool = True) -> Domain:
        """Raises NoSuchDomain, Ambiguous; the nil uuid is nobody's.

        If xenstore refuses its name the record has none, and that is logged once.
        Cost: one hypercall for the list, one read, one hypercall to confirm.
        """
        uuid = as_uuid(uuid)
        with self._line() as store:
            rows = [row for row in self._rows() if row.handle == uuid.bytes != NIL_UUID.bytes]
            found = self._confirmed(rows, self._names(store, rows), confirm=confirm)
        return _only("uuid", uuid, found)

    def by_name(self, name: str | bytes, *, confirm: bool = True) -> Domain:
        """Raises NoSuchDomain, Ambiguous; NotLive if none has it of those that could be read.

        Cost: one hypercall for the list, a read for every domain, one hypercall per holder, and
        on a miss one for each domain whose name xenstore refuses.
        """
        name = as_name(name)
        with self._line() as store:
            rows = self._rows()
            names = self._names(store, rows)
            called = [row for row in rows if names[row.domid] == name]
            found = self._confirmed(called, names, confirm=confirm)
            if not found:
                refused = [row for row in rows if isinstance(names[row.domid], StoreError)]
                for domain in self._confirmed(refused, names, confirm=confirm):
                    cause = names[domain.domid]
                    assert isinstance(cause, StoreError)
                    raise NotLive(
                        f"cannot tell: the name of domain {domain.domid} cannot be read", cause
                    ) from cause
        return _only("name", name, found)

    def all(self) -> tuple[Domain, ...]:
        """Every domain in domid order; without its name where xenstore refuses it.

        Cost: two hypercalls and a read for every domain.
        """
        with self._line() as store:
            rows = self._rows()
            names = self._names(store, rows)
            still = {row.domid: row for row in self._rows()}
            return tuple(
                self._domain(row, names)
                for row in rows
                if (now := still.get(row.domid)) is not None and now.handle == row.handle
            )

    def os_type(self, domid: int) -> OSType:
        """PV, HVM, PVH or UNKNOWN. Raises NoSuchDomain. Cost: one hypercall."""
        domid = as_domid(domid)
        self._check()
        row = self._hypervisor.get(domid)
        if row is None or row.dying:
            raise NoSuchDomain("domid", domid)
        return row.type

    def close(self, timeout: float = 5.0) -> None:
        """Leaves no descriptor. May be called twice; ends a look-up in another thread.

        It waits for that one at most `timeout` seconds; what is stuck in the hypervisor for
        longer gives the descriptors back as it returns.
        """
        if self._forked:  # the descriptors are given back already, the rest is the parent's
            return
        self._ended = self._ended or "these look-ups are closed; direct.open() opens new ones"
        for store in (self._store, *self._inner):
            store.interrupt()
        if self._lock.acquire(timeout=min(max(0.0, timeout), threading.TIMEOUT_MAX)):
            try:
                self._give_back()
            finally:
                self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _line(self) -> Iterator[Store]:
        """The line, for one look-up.

        One within another of the same thread, in a signal's handler or a `__del__`, has a line of
        its own: the replies of two in one line would be mistaken for each other.
        """
        with self._lock:
            self._check()
            if self._busy:
                with contextlib.closing(self._host.open_store(self._timeout)) as store:
                    self._inner.append(store)
                    try:
                        yield store
                    finally:
                        self._inner.remove(store)
                return
            self._busy = True
            try:
                yield self._store
            finally:
                self._busy = False
                if self._ended:  # whoever closed it may not have waited for us
                    self._give_back()

    def _check(self) -> None:
        if self._ended:
            raise Closed(self._ended)

    def _give_back(self) -> None:
        self._store.close()
        self._hypervisor.close()

    def _after_fork(self) -> None:
        """In a child: the line is the parent's, and the lock may be held by nobody."""
        self._lock = threading.RLock()
        self._forked = True
        self._ended = "these look-ups belong to the parent process; direct.open() in the child"

    def _rows(self) -> list[Row]:
        return [row for row in self._hypervisor.list() if not row.dying]

    def _names(self, store: Store, rows: list[Row]) -> dict[int, str | StoreError | None]:
        """What xenstore says of each, by domid."""
        values = store.read([name_path(row.domid) for row in rows])
        return {
            row.domid: decode_name(value) if isinstance(value, bytes) else value
            for row, value in zip(rows, values, strict=True)
        }

    def _confirmed(
        self, rows: list[Row], names: dict[int, str | StoreError | None], *, confirm: bool
    ) -> list[Domain]:
        """Those of `rows` that still run, now that their names were read."""
        found = []
        for row in rows:
            now = self._hypervisor.get(row.domid) if confirm else row
            if now is not None and not now.dying and now.handle == row.handle:
                found.append(self._domain(now, names))
        return found

    def _domain(self, row: Row, names: dict[int, str | StoreError | None]) -> Domain:
        # Not the unique id: it would cost a hypercall more, and one look has no earlier to tell
        # it from.
        now, uuid = time.time(), UUID(bytes=row.handle)
        life = Life(row.domid, None, uuid, now)
        name = names[row.domid]
        if isinstance(name, StoreError):
            if row.domid not in self._unreadable:
                self._unreadable.add(row.domid)
                log.warning("the name of domain %d cannot be read: %s", row.domid, name)
            name = None
        return Domain(row.domid, uuid, name, row.type, life, now, row.shutdown)


def _only(what: str, key: object, found: list[Domain]) -> Domain:
    if not found:
        raise NoSuchDomain(what, key)
    if len(found) > 1:
        raise Ambiguous(what, key, tuple(found))
    return found[0]
