"""What can be waited for: a domain, its stop, its end, a line that works, a generation, a refresh.

Each function makes a `Condition` (listening/signal.py) of a picture. Both coats wait for the same
conditions: a thread with `ChangeSignal.wait_for`, a task of asyncio in its own way (aio.py).
fleet/conditions.py has those of a fleet.

Read after picture.py; next index.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple
from uuid import UUID

from domindex.domain import Domain, ShutdownReason
from domindex.errors import (
    AccessDenied,
    Ambiguous,
    Closed,
    HostError,
    InvalidKey,
    NoSuchDomain,
    NotControlDomain,
    NotLive,
    TimedOut,
    UnknownXen,
)
from domindex.events import Removed
from domindex.keys import as_domid, as_name, as_record, as_uuid
from domindex.limits import as_count
from domindex.listening.callbacks import check_callable
from domindex.listening.signal import Condition
from domindex.liveness import Liveness
from domindex.picture import Down, Ended, Picture
from domindex.requests import Reading

_NO_SECOND_TRY = (AccessDenied, NotControlDomain, UnknownXen)
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 1.0


class Keys(NamedTuple):
    """What is asked of a domain. None: nothing."""

    name: str | None
    uuid: UUID | None
    domid: int | None
    ready: bool

    @classmethod
    def of(
        cls, name: str | bytes | None, uuid: UUID | str | bytes | None, domid: object, ready: bool
    ) -> Keys:
        """As a caller gave them. Raises InvalidKey."""
        return cls(
            None if name is None else as_name(name),
            None if uuid is None else as_uuid(uuid),
            None if domid is None else as_domid(domid),
            ready,
        )

    def fit(self, domain: Domain) -> bool:
        """Whether it has all of them."""
        return (
            self.name in (None, domain.name)
            and self.uuid in (None, domain.uuid)
            and self.domid in (None, domain.domid)
            and (domain.ready or not self.ready)
        )


def found(
    picture: Picture,
    *,
    name: str | bytes | None,
    uuid: UUID | str | bytes | None,
    domid: int | None,
    domain: Domain | None,
    where: Callable[[Domain], object] | None,
    ready: bool,
    timeout: float | None,
) -> Condition[Domain]:
    """One domain has all these keys, and `where` holds of it. Of `domain` the life is the key."""
    if (name, uuid, domid, domain, where) == (None,) * 5:
        raise InvalidKey("wait_for needs a name, a uuid, a domid, domain= or where=")
    if where is not None:
        check_callable("where=", where)
    keys = Keys.of(name, uuid, domid, ready)
    called, handle, number, _ = keys
    record = None if domain is None else as_record(domain)
    by_key = (number, called, handle, record) != (None,) * 4
    table = picture.table

    def holders() -> list[Domain]:
        if number is not None:
            held = table.domids.holders(number)
        elif called is not None:
            held = table.names.holders(called)
        elif handle is not None:
            held = table.uuids.holders(handle)
        else:
            return list(table)
        return [domain for _, domain in sorted(held.items())]

    def condition(last: bool) -> Domain | None:
        with picture.lock:
            picture.check_open()
            one = None if record is None else [picture.holds(record)]  # raises once it has ended
            if picture.too_old():
                if last:
                    raise picture.not_live()
                return None
            domains = one or holders()
        matching = [
            domain for domain in domains if keys.fit(domain) and (where is None or where(domain))
        ]
        if matching and (len(matching) == 1 or not by_key):
            return matching[0]
        if not last:
            return None
        if matching:
            what, key = ("name", called) if called is not None else ("uuid", handle)
            raise Ambiguous(what, key, tuple(matching))
        if called is not None and picture.unreadable and picture.live:
            raise picture.name_unreadable()
        raise _too_late(picture, "no such domain came", timeout)

    return condition


def ended(picture: Picture, domain: Domain, timeout: float | None) -> Condition[Removed]:
    """The life that this record is of has ended."""
    as_record(domain)

    def condition(last: bool) -> Removed | None:
        with picture.lock:
            picture.check_open()
            if picture.held(domain) is None:
                generation = picture.table.generation
                return picture.ended_lives.end_of(domain.life) or Removed(
                    domain, domain.shutdown, True, generation=generation
                )
        if last:
            still = f"domain {domain.domid} ({domain.printable}) still runs"
            raise _too_late(picture, still, timeout)
        return None

    return condition


def stopped(picture: Picture, domain: Domain, timeout: float | None) -> Condition[ShutdownReason]:
    """The life that this record is of has shut down, or has ended for a reason that is known."""
    has_ended = ended(picture, domain, timeout)
    return stopped_or(has_ended, picture.lock, lambda: picture.held(domain))


def stopped_or(
    has_ended: Condition[Removed], lock: threading.RLock, held: Callable[[], Domain | None]
) -> Condition[ShutdownReason]:
    """The same of a life whose end is waited for so, and whose record `held` gives."""

    def condition(last: bool) -> ShutdownReason | None:
        with lock:
            now = held()
            if now is not None and now.shutdown is not None:
                return now.shutdown
            removed = has_ended(last)
        if removed is None:
            return None
        if removed.reason is None:
            raise NoSuchDomain("life", removed.domain.life)
        return removed.reason

    return condition


def looks(domain: Domain, deadline: float) -> Iterator[float]:
    """Seconds to wait after each look at whether Xen has freed that domain. No event tells of it.

    Usually it takes milliseconds; where a page of it is still mapped it takes as long as that.

    Raises:
        TimedOut: After the look that was made at the deadline.
    """
    pause = _FIRST_PAUSE
    while (left := deadline - time.monotonic()) > 0:
        yield min(pause, left)
        pause = min(2 * pause, _LONGEST_PAUSE)
    yield 0.0
    raise TimedOut(f"domain {domain.domid} ({domain.printable}) has ended, but still holds memory")


def never(picture: Picture) -> Condition[bool]:
    """Nothing: to let time pass, unless the index is closed."""

    def condition(last: bool) -> bool | None:
        picture.check_open()
        return last or None

    return condition


def live(picture: Liveness) -> Condition[bool]:
    """The picture is up to date."""

    def condition(last: bool) -> bool | None:
        picture.check_open()
        if last and not picture.live:
            raise picture.not_live()
        return picture.live or None

    return condition


def generation(picture: Picture, wanted: int, timeout: float | None) -> Condition[int]:
    """The index is at this generation, or beyond it."""
    as_count(wanted, "a generation")

    def condition(last: bool) -> int | None:
        picture.check_open()
        now = picture.table.generation
        if now < wanted and last:
            raise _too_late(picture, f"the index is at generation {now}", timeout)
        return now if now >= wanted else None

    return condition


def refreshed(picture: Picture, ticket: int, timeout: float | None) -> Condition[int]:
    """The refresh with this ticket (`Watcher.request_refresh`) is done."""

    def condition(last: bool) -> int | None:
        picture.check_open()
        if picture.refreshed >= ticket:
            return picture.table.generation
        if last:
            raise _too_late(picture, "the refresh was not done", timeout)
        return None

    return condition


def read(
    picture: Picture, reading: Reading, timeout: float | None
) -> Condition[dict[str, bytes | None]]:
    """Nodes were read once (`Watcher.request_reading`)."""

    def condition(last: bool) -> dict[str, bytes | None] | None:
        picture.check_open()
        if reading.values is not None:
            return reading.result()
        if last:
            raise _too_late(picture, "the nodes were not read", timeout)
        return None

    return condition


def opened(picture: Picture, timeout: float | None) -> Condition[bool]:
    """The first pass is done. Raises at once what a second try would not mend."""

    def condition(last: bool) -> bool | None:
        state = picture.state
        if isinstance(state, Ended):
            raise Closed("this index was closed before it had seen the host")
        if isinstance(state, Down):
            cause = state.cause
            unseen = isinstance(cause, NotLive)  # no try has failed yet
            hopeless = isinstance(cause, _NO_SECOND_TRY) or not isinstance(cause, HostError)
            if not unseen and (last or hopeless):
                raise cause
            if last:
                raise TimedOut(f"the first look at the host took longer than {timeout} s")
        return picture.live or None

    return condition


def _too_late(picture: Picture, what: str, timeout: float | None) -> Exception:
    return TimedOut(f"{what} within {timeout} s") if picture.live else picture.not_live()
