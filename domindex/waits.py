"""What a program waits for: domains that come and go, a refresh, a line that works.

Each wait is a look that is repeated after each change of the index, and never in between; a loop
of asyncio repeats the same looks in its own way.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from domindex.answers import Answers
from domindex.domain import Domain
from domindex.errors import Ambiguous, InvalidKey, TimedOut
from domindex.events import Removed
from domindex.keys import as_domid, as_name, as_uuid
from domindex.listening.callbacks import check_callable
from domindex.listening.waiting import Look
from domindex.watcher import Watcher


class Waits(Answers):
    """The part of `Index` that waits. No call waits longer than it is told to."""

    _watcher: Watcher

    def refresh(self, timeout: float = 5.0, *, names: bool = False) -> int:
        """Return once every change that was complete on the host before the call is held.

        names: read every name again too, in case xenstored lost an event (it has no cause to).
        Returns the generation. Raises NotLive or TimedOut after `timeout` seconds, Closed.
        Cost: one xenstore round trip and one hypercall for the list, then what has changed. On
        Xen >= 4.21 one small hypercall more for each domain, to tell its life.
        """
        return self._bell.wait_for(self._refresher(timeout, names), timeout)

    def wait_for(
        self,
        *,
        name: str | bytes | None = None,
        uuid: UUID | str | bytes | None = None,
        domid: int | None = None,
        where: Callable[[Domain], object] | None = None,
        ready: bool = False,
        timeout: float = 30.0,
    ) -> Domain:
        """The one domain that has all these keys and of which `where` holds, once there is one.

        where: called with a record, in this thread, after each change. Without a key the domain
            with the lowest domid that passes is taken.
        ready: wait also until it runs under its final name: not still unnamed or migrating in
            (`NAME--incoming`) or away (`migrating-NAME`), not shut down or saved.

        Raises after `timeout` seconds: Ambiguous if several carry the key, NotLive if the line is
        down, else TimedOut. Raises Closed, InvalidKey. Cost: a look at each change, none between.
        """
        look = self._finder(name, uuid, domid, where, ready, timeout)
        return self._bell.wait_for(look, timeout)

    def wait_gone(self, domain: Domain, timeout: float = 30.0) -> Removed:
        """How `domain`, a record of this index, ended: waits until that very life has.

        Another life on its domid is not mistaken for it. The `Removed` is that of `recent`, or one
        made up, with `inferred`, if it ended so long ago that `recent` forgot it.

        Raises TimedOut or NotLive after `timeout` seconds, Closed.
        """
        return self._bell.wait_for(self._end_finder(domain, timeout), timeout)

    def wait_live(self, timeout: float = 30.0) -> None:
        """Return once the index is live. Raises NotLive after `timeout` seconds, Closed."""
        self._bell.wait_for(self._is_live, timeout)

    def wait_generation(self, generation: int, timeout: float = 30.0) -> int:
        """The generation, once it is at least that. Raises TimedOut or NotLive, Closed."""
        return self._bell.wait_for(self._reacher(generation, timeout), timeout)

    # -- what is waited for ---------------------------------------------------------------------

    def _refresher(self, timeout: float, names: bool) -> Look[int]:
        """What `refresh` waits for. Making it asks the watcher."""
        self._check_open()
        ticket = self._watcher.ask(names=names)

        def look(last: bool) -> int | None:
            self._check_open()
            if self._watcher.answered >= ticket:
                return self.generation
            if last:
                raise self._too_late("the refresh was not done", timeout)
            return None

        return look

    def _finder(
        self,
        name: str | bytes | None,
        uuid: UUID | str | bytes | None,
        domid: int | None,
        where: Callable[[Domain], object] | None,
        ready: bool,
        timeout: float,
    ) -> Look[Domain]:
        """What `wait_for` waits for."""
        if name is None and uuid is None and domid is None and where is None:
            raise InvalidKey("wait_for needs a name, a uuid, a domid or where=")
        if where is not None:
            check_callable("where=", where)
        called = None if name is None else as_name(name)
        handle = None if uuid is None else as_uuid(uuid)
        number = None if domid is None else as_domid(domid)

        def look(last: bool) -> Domain | None:
            with self._lock:
                self._check_open()
                if self._stale != "serve" and not self.live:
                    if last:
                        raise self._not_live()
                    return None
                if number is not None:
                    holders = self._table.domids.holders(number)
                elif called is not None:
                    holders = self._table.names.holders(called)
                elif handle is not None:
                    holders = self._table.uuids.holders(handle)
                else:
                    holders = {domain.domid: domain for domain in self._table}
            found = [
                domain
                for _, domain in sorted(holders.items())
                if (called is None or domain.name == called)
                and (handle is None or domain.uuid == handle)
                and (not ready or is_ready(domain))
                and (where is None or where(domain))
            ]
            by_key = (number, called, handle) != (None, None, None)
            if len(found) > 1 and by_key:
                if last:
                    raise Ambiguous(*_key(called, handle), tuple(found))
                return None
            if found:
                return found[0]
            if last and called is not None and self.live and self.unreadable:
                raise self._no_proof()
            if last:
                raise self._too_late("no such domain came", timeout)
            return None

        return look

    def _end_finder(self, domain: Domain, timeout: float) -> Look[Removed]:
        def look(last: bool) -> Removed | None:
            with self._lock:
                self._check_open()
                now = self._table.get(domain.domid)
                if now is not None and now.life == domain.life:
                    still = f"domain {domain.domid} ({domain.printable}) still runs"
                    if last:
                        raise self._too_late(still, timeout)
                    return None
                ended = self._past.end_of(domain.life)
            return ended or Removed(domain, domain.shutdown, True, generation=self.generation)

        return look

    def _is_live(self, last: bool) -> bool | None:
        self._check_open()
        if last and not self.live:
            raise self._not_live()
        return self.live or None

    def _reacher(self, generation: int, timeout: float) -> Look[int]:
        def look(last: bool) -> int | None:
            self._check_open()
            if self.generation >= generation:
                return self.generation
            if last:
                raise self._too_late(f"the index is at generation {self.generation}", timeout)
            return None

        return look

    def _too_late(self, what: str, timeout: float) -> Exception:
        return TimedOut(f"{what} within {timeout} s") if self.live else self._not_live()


def is_ready(domain: Domain) -> bool:
    """It has its final name and runs: not being made or migrated in, not stopped or migrated away.

    While xl migrates, the new domain is called NAME--incoming, and the old one NAME--migratedaway
    once it is of no more use (tools/xl/xl_migrate.c). XenD called the old one migrating-NAME.
    """
    name = domain.name
    return (
        domain.shutdown is None
        and bool(name)
        and not (name or "").endswith(("--incoming", "--migratedaway"))
        and not (name or "").startswith("migrating-")
    )


def _key(name: str | None, uuid: UUID | None) -> tuple[str, object]:
    return ("name", name) if name is not None else ("uuid", uuid)
