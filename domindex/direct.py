"""The same look-ups without an index: no thread, no watch, nothing kept between calls.

For a command line, or a single look-up. The algorithm was proposed on the libvirt list in August
2007: the hypervisor knows domid, uuid and type, xenstore knows the name, and only a look-up *by
name* has to scan. After the name was read, a second hypercall confirms that the domain still
exists. `confirm=False` leaves that out, as the proposal did. Then the name may be that of another
domain, which had the domid just before or has it just after.

| call | hypercalls | with `confirm=False` | xenstore reads |
|---|---|---|---|
| by_id | 2 | 1 | 1 |
| by_uuid | 1, and 1 for each domain found | 1 | 1 for each domain found |
| by_name | 1, and 1 for each domain found | 1 | 1 for each domain, pipelined |
| resolve | as by_id, by_uuid or by_name | | the same |
| all | 2 | 2 | 1 for each domain, pipelined |
| os_type | 1 | 1 | 0 |
| info, infos, dying | 1 | 1 | 0 |
| read | 1 | | 1 for each path, pipelined |

>>> from domindex import direct
>>> from domindex.testing import SimulatedHost
>>> host = SimulatedHost()
>>> web = host.create("web")
>>> with direct.open(host) as look_ups:  # on a real host: direct.open()
...     look_ups.by_name("web").domid == web
True

Read after ports.py.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Final, Self
from uuid import UUID

from domindex.core.lives import name_path
from domindex.domain import NIL_UUID, Domain, DomainInfo, Life, OSType
from domindex.errors import Ambiguous, Closed, NoSuchDomain, NotLive, StoreError
from domindex.facts import is_of
from domindex.forking import register, rlock
from domindex.keys import as_domid, as_name, as_typed, as_uuid, decode_name
from domindex.limits import as_seconds
from domindex.opening import XenHost
from domindex.ports import Host, Row, Store, check_host, unique_id_of
from domindex.requests import Reading

log: logging.Logger = logging.getLogger("domindex")

_TRIES: Final = 8
"""Attempts of `by_id` before it raises NotLive."""


def open(host: Host | None = None, *, timeout: float | None = 5.0) -> Direct:
    """Open this host for direct look-ups. Close the result, or use it in a `with`.

    Args:
        host: A `XenHost` with other than the usual paths, or a `SimulatedHost`. None is this host.
        timeout: Time limit in seconds, of the connection to xenstore and of each request. None is
            no limit.

    Returns:
        The look-ups.

    Raises:
        NotControlDomain: There is no Xen here, or this is a guest.
        AccessDenied: This process has no access; usually it is not root.
        UnknownXen: This package does not know this version of Xen.
        HypercallFailed: The hypervisor refuses the calls.
        StoreLost: xenstored cannot be reached.

    Cost:
        A few hypercalls that find out the version of Xen, and one connection to xenstored.
    """
    return Direct(XenHost() if host is None else host, timeout)


class Direct:
    """Look-ups on one host, made by `domindex.direct.open()`. Safe to use from any thread.

    One look-up runs at a time. One that interrupts another of the same thread, as in a signal
    handler, opens a connection of its own for as long as it runs.

    Raises:
        InvalidKey: By every look-up, if the argument cannot be a key.
        HypercallFailed: By every look-up, if the hypervisor refuses a call.
        StoreLost: By every look-up that reads xenstore, if the connection fails. After that, close
            this object and open another.
        AccessDenied: By a look-up that interrupts another, if it may not open its connection.
        Closed: By every call after `close`, and in a forked child.
    """

    def __init__(self, host: Host, timeout: float | None) -> None:
        check_host(host)
        self._host, self._timeout = host, as_seconds(timeout)
        self._lock = rlock()
        self._busy = False  # a look-up is using the line
        self._inner: list[Store] = []  # lines of look-ups that interrupted another one
        self._unreadable: set[int] = set()  # domids whose unreadable name was logged
        self._ended = ""  # once closed: the text of Closed
        self._forked = False
        self._hypervisor = host.open_hypervisor()
        try:
            self._store = host.open_store(self._timeout)
        except BaseException:
            self._hypervisor.close()
            raise
        register(self._after_fork)

    def by_id(self, domid: int, *, confirm: bool = True) -> Domain:
        """The domain with this domid.

        If xenstore refuses to give its name, the record has none, and a warning is logged once.

        Args:
            domid: An int, 0 to 0x7FEF.
            confirm: False leaves out the hypercall that confirms the answer.

        Returns:
            Its record.

        Raises:
            NoSuchDomain: No domain has it.
            NotLive: Each of eight attempts found another domain under this domid.

        Cost:
            One hypercall, one read, and one hypercall to confirm.
        """
        domid = as_domid(domid)
        with self._line() as store:
            for _ in range(_TRIES):
                row = self._hypervisor.get(domid)
                if row is None or row.dying:
                    raise NoSuchDomain("domid", domid)
                if found := self._confirmed([row], self._names(store, [row]), confirm=confirm):
                    return found[0]
                # The domain was replaced while its name was read: look again.
        raise NotLive(
            f"cannot tell: domid {domid} was given to another domain during each of {_TRIES} "
            "attempts; try again"
        )

    def by_uuid(self, uuid: UUID | str | bytes, *, confirm: bool = True) -> Domain:
        """The one domain with this uuid.

        If xenstore refuses to give its name, the record has none, and a warning is logged once.

        Args:
            uuid: A UUID, text in any form that `uuid.UUID` reads, or 16 bytes. No domain is found
                by the nil uuid: it is the handle of dom0 and of domains made without one.
            confirm: False leaves out the hypercall that confirms the answer.

        Returns:
            Its record.

        Raises:
            NoSuchDomain: No domain has it.
            Ambiguous: Several domains have it.

        Cost:
            One hypercall for the list, and for each domain with this uuid one read and one
            hypercall to confirm.
        """
        uuid = as_uuid(uuid)
        with self._line() as store:
            rows = [row for row in self._rows() if row.handle == uuid.bytes != NIL_UUID.bytes]
            found = self._confirmed(rows, self._names(store, rows), confirm=confirm)
        return _only("uuid", uuid, found)

    def by_name(self, name: str | bytes, *, confirm: bool = True) -> Domain:
        """The one domain with this name.

        Args:
            name: A str, or the bytes as they are in xenstore.
            confirm: False leaves out the hypercalls that confirm the answer.

        Returns:
            Its record.

        Raises:
            NoSuchDomain: No domain has it.
            Ambiguous: Several domains have it.
            NotLive: No domain was found, but xenstore refuses to give the name of some domain,
                which may be the one.

        Cost:
            One hypercall for the list, one read for every domain (pipelined), and one hypercall
            for each domain found. If none is found, one hypercall for each domain whose name
            xenstore refuses to give.
        """
        name = as_name(name)
        with self._line() as store:
            rows = self._rows()
            names = self._names(store, rows)
            called = [row for row in rows if names[row.domid] == name]
            found = self._confirmed(called, names, confirm=confirm)
            if not found:
                self._refuse_unreadable(rows, names, confirm=confirm)
        return _only("name", name, found)

    def resolve(self, text: str) -> Domain:
        """The domain that a user means who types `text`: for command lines.

        `id:7`, `uuid:...` and `name:web` mean just that. Any other text may be a name; digits may
        be a domid as well, and what reads as a uuid may be a uuid. `Index.resolve` has the same
        rules.

        Args:
            text: What was typed.

        Returns:
            Its record.

        Raises:
            NoSuchDomain: No domain is meant.
            Ambiguous: Several are: one is called "7", another has domid 7.
            NotLive: As `by_name`, or as `by_id`.
            InvalidKey: `text` is no str, or `id:` or `uuid:` begins it and none follows.

        Cost:
            That of `by_id`, `by_uuid` or `by_name`. For text that may mean several of them, that
            of `by_name`.
        """
        name, uuid, domid = as_typed(text)
        if name is None:
            return self.by_id(as_domid(domid)) if uuid is None else self.by_uuid(uuid)
        if uuid is None and domid is None:
            return self.by_name(name)
        handle = uuid.bytes if uuid is not None and uuid != NIL_UUID else None
        for _ in range(_TRIES):
            with self._line() as store:
                rows = self._rows()
                names = self._names(store, rows)
                meant = [
                    row
                    for row in rows
                    if names[row.domid] == name or row.domid == domid or row.handle == handle
                ]
                found = self._confirmed(meant, names, confirm=True)
                if not meant:
                    self._refuse_unreadable(rows, names, confirm=True)
            if len(found) == len(meant):  # else one was replaced while names were read
                return _only("name, uuid or domid", text, found)
        raise NotLive(
            f"cannot tell: a domain that {text!r} may mean was replaced during each of {_TRIES} "
            "attempts; try again"
        )

    def all(self) -> tuple[Domain, ...]:
        """Every domain.

        Returns:
            The records, lowest domid first. If xenstore refuses to give the name of a domain, its
            record has none, and a warning is logged once.

        Cost:
            Two hypercalls for the list, and one read for every domain (pipelined).
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
        """How the guest with this domid is virtualised.

        Args:
            domid: An int, 0 to 0x7FEF.

        Returns:
            PV, HVM, PVH, or UNKNOWN where the hypervisor does not say.

        Raises:
            NoSuchDomain: No domain has it.

        Cost:
            One hypercall.
        """
        domid = as_domid(domid)
        self._check()
        row = self._hypervisor.get(domid)
        if row is None or row.dying:
            raise NoSuchDomain("domid", domid)
        return row.type

    def info(self, domain: int | Domain) -> DomainInfo:
        """State, memory and times of a domain, as the hypervisor has them now.

        Args:
            domain: A domid, or a record of these look-ups or of an index. Then the numbers are of
                the domain with that uuid and type; where the record has a unique id, of that life.

        Returns:
            What the hypervisor says.

        Raises:
            NoSuchDomain: There is no such domain, or another one has the domid of the record.

        Cost:
            One hypercall. For a record with a unique id two.
        """
        self._check()
        if not isinstance(domain, Domain):
            found = self._hypervisor.info(as_domid(domain))
            if found is None:
                raise NoSuchDomain("domid", domain)
            return found
        found = self._hypervisor.info(domain.domid)
        if found is None or found.dying or not is_of(self._hypervisor, found, domain):
            raise NoSuchDomain("life", domain.life)
        return found

    def infos(self, *, dying: bool = False) -> Mapping[int, DomainInfo]:
        """The same of every domain, by domid, lowest first. `dying` adds what `dying()` returns.

        Cost:
            One hypercall for each 1,024 domains.
        """
        self._check()
        return self._hypervisor.infos().chosen(dying=dying)

    def dying(self) -> tuple[DomainInfo, ...]:
        """Domains that have ended, but still hold their domid and some memory, by domid.

        Cost:
            One hypercall for each 1,024 domains.
        """
        self._check()
        infos = self._hypervisor.infos()
        return tuple(infos[domid] for domid in infos.dying)

    def read(self, domain: Domain, *paths: str) -> dict[str, bytes | None]:
        """The values of xenstore nodes of a domain.

        Args:
            domain: A record, of these look-ups or of an index.
            paths: Below /local/domain/N, such as "memory/target".

        Returns:
            By path the bytes, or None if there is no such node.

        Raises:
            NoSuchDomain: That domain was gone, or had another uuid, once they were read.
            StoreError: xenstored refuses a node; `path` says which. The first one, if several.
            InvalidKey: `domain` is no record, or a path is none.

        Cost:
            One read for each path (pipelined), and one hypercall to confirm; two for a record of
            an index on Xen >= 4.21, which knows the life.
        """
        reading = Reading(domain, paths)
        unique_id = domain.life.unique_id
        with self._line() as store:
            reading.values = store.read(reading.nodes)
            now = self._hypervisor.get(domain.domid)
            reading.runs = (
                now is not None
                and not now.dying
                and now.handle == domain.uuid.bytes
                and (unique_id is None or unique_id == unique_id_of(self._hypervisor, domain.domid))
            )
        return reading.result()

    def close(self, timeout: float | None = 5.0) -> None:
        """Close the connection and every descriptor. May be called twice.

        A look-up in another thread ends with StoreLost. If that thread is in a hypercall for
        longer than `timeout`, it closes the descriptors itself when the hypercall returns.

        Args:
            timeout: How long to wait for such a look-up, in seconds; None is without a limit.
        """
        limit = as_seconds(timeout)
        if self._forked:  # the descriptors are closed already; the rest belongs to the parent
            return
        self._ended = self._ended or "these look-ups were closed; call direct.open() again"
        for store in (self._store, *self._inner):
            store.interrupt()
        if self._lock.acquire(timeout=limit):
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

        A look-up that interrupts another of the same thread (in a signal handler or `__del__`)
        gets a line of its own: on one line, each would read replies meant for the other.
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
                if self._ended:  # `close` may have given up waiting for this look-up
                    self._give_back()

    def _check(self) -> None:
        if self._ended:
            raise Closed(self._ended)

    def _give_back(self) -> None:
        self._store.close()
        self._hypervisor.close()

    def _after_fork(self) -> None:
        """In a forked child the line belongs to the parent."""
        self._forked = True
        self._ended = "these look-ups belong to the parent process; call direct.open() in the child"

    def _rows(self) -> list[Row]:
        return [row for row in self._hypervisor.list() if not row.dying]

    def _names(self, store: Store, rows: list[Row]) -> dict[int, str | StoreError | None]:
        """By domid: the name, None if there is none, or why xenstore refuses to give it."""
        values = store.read([name_path(row.domid) for row in rows])
        return {
            row.domid: decode_name(value) if isinstance(value, bytes) else value
            for row, value in zip(rows, values, strict=True)
        }

    def _confirmed(
        self, rows: list[Row], names: dict[int, str | StoreError | None], *, confirm: bool
    ) -> list[Domain]:
        """Records of those of `rows` that are still the same domain after their names were read."""
        found = []
        for row in rows:
            now = self._hypervisor.get(row.domid) if confirm else row
            if now is not None and not now.dying and now.handle == row.handle:
                found.append(self._domain(now, names))
        return found

    def _refuse_unreadable(
        self, rows: list[Row], names: dict[int, str | StoreError | None], *, confirm: bool
    ) -> None:
        """Raises NotLive if one of `rows` still runs and has a name that cannot be read."""
        refused = [row for row in rows if isinstance(names[row.domid], StoreError)]
        for domain in self._confirmed(refused, names, confirm=confirm):
            cause = names[domain.domid]
            assert isinstance(cause, StoreError)
            raise NotLive(
                f"cannot tell: the name of domain {domain.domid} cannot be read", cause
            ) from cause

    def _domain(self, row: Row, names: dict[int, str | StoreError | None]) -> Domain:
        # The unique id is left out. It would cost one more hypercall, and is of use only to
        # compare with an earlier look.
        now, uuid = time.time(), UUID(bytes=row.handle)
        life = Life(row.domid, None, uuid, now)
        name = names[row.domid]
        if isinstance(name, StoreError):
            if row.domid not in self._unreadable:
                self._unreadable.add(row.domid)
                log.warning("the name of domain %d cannot be read: %s", row.domid, name)
            name = None
        return Domain(row.domid, uuid, name, row.type, life, now, row.shutdown, row.roles)


def _only(what: str, key: object, found: list[Domain]) -> Domain:
    if not found:
        raise NoSuchDomain(what, key)
    if len(found) > 1:
        raise Ambiguous(what, key, tuple(found))
    return found[0]
