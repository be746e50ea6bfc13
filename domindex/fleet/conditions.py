"""What can be waited for in a fleet: a domain, its stop, its end.

The same as domindex/conditions.py says of one host, and made of its parts. Two things differ. A
host that is silent cannot tell, and so neither can a wait when its time is up. And a life has
ended only because its host says so, or because the host was forgotten: not because it is lost.

Read after lookups.py; next fleet.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias
from uuid import UUID

from domindex.conditions import Keys, stopped_or
from domindex.core.key import ordered
from domindex.domain import Domain, ShutdownReason
from domindex.errors import DomindexError, InvalidKey, NoSuchDomain, TimedOut
from domindex.events import Removed
from domindex.fleet.answers import HostsSilent, NoSuchHost, SeveralFound
from domindex.fleet.layout import check_host
from domindex.fleet.picture import FleetPicture
from domindex.fleet.states import Found, HostState
from domindex.listening.callbacks import check_callable
from domindex.listening.signal import Condition

NameNow: TypeAlias = Callable[[str], str]
"""What a host is called by now: `FleetReconciler.name_now`."""


def found(
    picture: FleetPicture,
    name_now: NameNow,
    *,
    name: str | bytes | None,
    uuid: UUID | str | bytes | None,
    found: Found | None,
    where: Callable[[Found], object] | None,
    ready: bool,
    host: str | None,
    among: Collection[str] | None,
    timeout: float | None,
) -> Condition[Found]:
    """One domain has all these keys, and `where` holds of it. Of `found` the life is the key."""
    if name is None and uuid is None and found is None and where is None:
        raise InvalidKey("wait_for needs a name, a uuid, found= or where=")
    if where is not None:
        check_callable("where=", where)
    keys = Keys.of(name, uuid, None, ready)
    if found is not None:
        as_found(found)
    hosts = _as_asked(host, among)

    def candidates() -> Sequence[Found]:
        if found is not None:
            if (now := held(picture, name_now, found)) is None:
                raise NoSuchDomain("life", found.life)
            return [now]
        if keys.name is not None:
            return ordered(picture.names.holders(keys.name))
        if keys.uuid is not None:
            return ordered(picture.uuids.holders(keys.uuid))
        if hosts is None:
            return picture.all_found()
        tables = [picture.hosts[name] for name in sorted(hosts & picture.hosts.keys())]
        return [one for table in tables if table.listed for _, one in sorted(table.founds.items())]

    def condition(last: bool) -> Found | None:
        with picture.lock:
            picture.check_open()
            try:
                ones = candidates()
            except (NoSuchHost, HostsSilent) as error:
                if last:
                    raise _unless_down(picture, error) from None
                return None
            if picture.too_old():
                if last:
                    raise picture.not_live()
                return None
        matching = [
            one
            for one in ones
            if (hosts is None or one.host in hosts)
            and one.state is not HostState.OFFLINE
            and keys.fit(one.domain)
            and (where is None or where(one))
        ]
        if matching and (len(matching) == 1 or (name is None and uuid is None)):
            return matching[0]
        if not last:
            return None
        if matching:
            what, key = ("name", keys.name) if keys.name is not None else ("uuid", keys.uuid)
            raise SeveralFound(what, key, tuple(matching))
        if found is not None:
            raise _too_late(picture, ones[0], "no such domain came", timeout)
        raise _none_came(picture, keys, where, hosts, timeout)

    return condition


def ended(
    picture: FleetPicture, name_now: NameNow, found: Found, timeout: float | None
) -> Condition[Removed]:
    """The life that this is of has ended: its host says so, or was forgotten."""
    domain = as_found(found).domain

    def condition(last: bool) -> Removed | None:
        with picture.lock:
            picture.check_open()
            try:
                now = held(picture, name_now, found)
            except (NoSuchHost, HostsSilent) as error:
                if last:
                    raise _unless_down(picture, error) from None
                return None
            if now is None:
                return _end_of(picture, domain)
            if last:
                still = f"domain {domain.domid} ({domain.printable}) on {now.host} still runs"
                raise _too_late(picture, now, still, timeout)
            return None

    return condition


def stopped(
    picture: FleetPicture, name_now: NameNow, found: Found, timeout: float | None
) -> Condition[ShutdownReason]:
    """The life that this is of has shut down, or has ended for a reason that is known."""

    def record() -> Domain | None:
        try:
            now = held(picture, name_now, found)
        except (NoSuchHost, HostsSilent):
            return None  # as the end says, which is asked next
        return None if now is None else now.domain

    return stopped_or(ended(picture, name_now, found, timeout), picture.lock, record)


def held(picture: FleetPicture, name_now: NameNow, found: Found) -> Found | None:
    """What is known of the same life now, None if it has ended. The lock is held.

    Raises:
        NoSuchHost, HostsSilent: It cannot be told.
    """
    boot, life = found.status.boot, found.domain.life
    host = picture.hosts.get(name_now(found.host))
    if host is not None and boot and host.status.boot not in ("", boot):
        # It has booted since. Or another machine has its name by now, and it has another one.
        for other in picture.hosts.values():
            one = other.founds.get(life.domid) if other.status.boot == boot else None
            if one is not None and (one.domain.life, one.domain.uuid) == (life, found.domain.uuid):
                return one
        return None
    if host is None:
        if found.status.reader is picture:
            return None  # it was known to this reader, and is forgotten
        raise NoSuchHost(found.host)
    one = host.founds.get(life.domid)
    if one is not None and one.domain.life == life:
        return one
    if host.generation < 0:  # it has come, or come back, and has not said yet what it has
        raise HostsSilent("life", found.life, {host.name: host.status.state})
    return None


def as_found(found: object) -> Found:
    """What a caller gave as one. Raises InvalidKey."""
    if not isinstance(found, Found):
        raise InvalidKey(f"{found!r} is no Found: give what a look-up of the fleet gave")
    return found


def _as_asked(host: str | None, among: Collection[str] | None) -> frozenset[str] | None:
    """The hosts that are asked, known or not; None: all."""
    if isinstance(among, str) or not isinstance(among, (Collection, type(None))):
        raise InvalidKey(f"among is several names of hosts, as ('xen1', 'xen2'), not {among!r}")
    asked = None if among is None else frozenset(map(check_host, among))
    if host is not None:
        asked = frozenset({check_host(host)}) & (frozenset({host}) if asked is None else asked)
    if asked is not None and not asked:
        raise InvalidKey("no host is asked: among is empty, or does not have the host")
    return asked


def _end_of(picture: FleetPicture, domain: Domain) -> Removed:
    """How it ended, as far as that is remembered. Of other hosts the lives may look the same."""
    ends = picture.ended_lives.find(
        lambda ended: (ended.life, ended.first_seen) == (domain.life, domain.first_seen)
    )
    if ends:
        return ends[0]
    return Removed(domain, domain.shutdown, True, generation=picture.generation)


def _unless_down(picture: FleetPicture, error: DomindexError) -> DomindexError:
    """This error, or that the reader's own line is down: then it may be of the past."""
    return error if picture.live else picture.not_live()


def _too_late(picture: FleetPicture, now: Found, what: str, timeout: float | None) -> DomindexError:
    if now.state is not HostState.LIVE:
        silent = HostsSilent("life", now.life, {now.host: now.state})
        return _unless_down(picture, silent)
    return _unless_down(picture, TimedOut(f"{what} within {timeout} s"))


def _none_came(
    picture: FleetPicture,
    keys: Keys,
    where: object,
    hosts: frozenset[str] | None,
    timeout: float | None,
) -> DomindexError:
    with picture.lock:
        if not picture.live:
            return picture.not_live()
        if unknown := sorted((hosts or frozenset()) - picture.hosts.keys()):
            return NoSuchHost(unknown[0])
        silent = {
            name: state
            for name, state in sorted(picture.silent.items())
            if hosts is None or name in hosts
        }
    if not silent:
        return TimedOut(f"no such domain came within {timeout} s")
    if keys.name is None and keys.uuid is None:
        return HostsSilent("a domain that fits", where, silent)
    what, key = ("name", keys.name) if keys.name is not None else ("uuid", keys.uuid)
    fitting = "a domain that fits, of " if where is not None or keys.ready else ""
    return HostsSilent(fitting + what, key, silent)
