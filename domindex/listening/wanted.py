"""Which events a listener asked for, and what of each event it gets.

Read after events.py; next subscription.py and stream.py, which ask it for each event.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final, TypeAlias, get_args

from domindex.domain import Domain, Life
from domindex.events import Event, Ready, Rebooted, Removed, Resync, ShutDown, Synced, about
from domindex.listening.callbacks import check_callable

log: logging.Logger = logging.getLogger("domindex")

Kinds: TypeAlias = Collection[type[Event]] | type[Event]
"""Types of events, or one of them."""

_KINDS: Final = {kind for kinds in get_args(Event) for kind in get_args(kinds) or (kinds,)}


class Wanted:
    """Which events a listener asked for. For one thread at a time, the listener's own.

    Args:
        kinds: Their types, None for all. A `Resync` is always wanted.
        where: Called with a domain, and may be slow or raise. An event is wanted if this holds
            for any domain it is about, or if it is about none. Once an event of a life was
            wanted, that life's stop and end are wanted whatever `where` says by then. `Ready` is
            wanted once, when it holds of a ready record of that life for the first time.

    Raises:
        ValueError: For kinds that are not types of events.
        TypeError: For a `where` that cannot be called.
    """

    def __init__(self, kinds: Kinds | None, where: Callable[[Domain], object] | None) -> None:
        self._kinds = None if kinds is None else (*_as_types(kinds), Resync)
        if where is not None:
            check_callable("where=", where)
        self._where = where
        self._let_in: set[Life] = set()  # chosen by `where` once, and not yet ended
        self._were_ready: set[Life] = set()  # the same while they were ready
        self._began = 0  # the generation in which the listener began, or began anew

    def __call__(self, event: Event) -> Event | None:
        """The event as the listener is to get it, None if it is not wanted.

        Raises what `where` raises, except for a `Resync`: that comes without the domains on
        which `where` fails, as the listener would otherwise keep a picture that is wrong.
        """
        if isinstance(event, (Synced, Resync)):
            self._began = event.generation
        where = self._where
        if where is None:
            if isinstance(event, Ready) and event.ceased > self._began:
                return None  # it was ready before, and the listener knows
            return event if self._kinds is None or isinstance(event, self._kinds) else None
        let_in = self._let_in
        if isinstance(event, (Removed, Rebooted)):
            self._were_ready.discard(about(event)[0].life)
        if self._kinds is not None and not isinstance(event, self._kinds):
            match event:  # not wanted, but the life has ended: keep no memory of it
                case Removed(domain) | Rebooted(domain):
                    let_in.discard(domain.life)
            return None
        match event:
            case Resync(domains):
                domains = tuple(filter(self._holds, domains))
                self._were_ready.clear()
                let_in.clear()
                let_in.update(domain.life for domain in domains)
                return replace(event, domains=domains)
            case Ready(domain):
                if not self._is_news(event, where):
                    return None
                domains = (domain,)
            case Removed(domain):
                if domain.life in let_in:
                    let_in.remove(domain.life)
                    return event
                return event if where(domain) else None
            case Rebooted(domain) | ShutDown(domain) if domain.life in let_in:
                domains = about(event)
            case _:
                domains = about(event)
                if domains and not any(map(where, domains)):
                    return None
        let_in.update(domain.life for domain in domains)
        if isinstance(event, Rebooted):
            let_in.discard(event.old.life)
        return event

    def _is_news(self, event: Ready, where: Callable[[Domain], object]) -> bool:
        """Whether `where` holds of a ready record of this life for the first time.

        What was over before the listener began does not count. What it left out by `replay=False`
        does.
        """
        life, before = event.domain.life, event.before
        if life in self._were_ready:
            return False
        known = before is not None and event.ceased > self._began and self._holds(before)
        if known or where(event.domain):
            self._were_ready.add(life)
            return not known
        return False

    def _holds(self, domain: Domain) -> object:
        assert self._where is not None
        return holds(self._where, domain)


def holds(where: Callable[[Domain], object], domain: Domain) -> object:
    """What `where` says of a domain. If it fails, that is logged and counts as no."""
    try:
        return where(domain)
    except Exception:
        with contextlib.suppress(Exception):
            log.exception("where= of a listener failed on domain %d", domain.domid)
        return False


def _as_types(kinds: Kinds) -> tuple[type[Event], ...]:
    try:
        found = (kinds,) if isinstance(kinds, type) else tuple(kinds)
        if _KINDS.issuperset(found):
            return found
    except TypeError:  # nothing to iterate over, or what has no hash
        pass
    raise ValueError(f"events= takes types of events, as (Added, Removed), not {kinds!r}")
