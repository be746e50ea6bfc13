"""The reader of a fleet for programs with threads: look-ups, and what waits or listens.

Each method is a step to one of the parts: lookups.py answers, following.py keeps the picture true,
listening/ tells events. Made by `domindex.fleet.connect`.

Read after body.py; next publishing.py, the other end of the store.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final, Self
from uuid import UUID

from domindex import conditions
from domindex.domain import Domain, ShutdownReason
from domindex.events import Removed
from domindex.fleet import conditions as fleet_conditions
from domindex.fleet.body import FleetBody, FleetStats, mailbox_options
from domindex.fleet.errors import Fenced
from domindex.fleet.events import FleetEvent
from domindex.fleet.lookups import FleetLookUps
from domindex.fleet.records import pack_host
from domindex.fleet.states import Found
from domindex.fleet.wanted import FleetKinds, FleetWanted
from domindex.listening.mailbox import QUEUE
from domindex.listening.stream import Stream
from domindex.listening.subscription import ErrorHook, Subscription
from domindex.options import Stale

MOVE_GRACE: Final = 10.0
"""Seconds that half of a live migration waits for the other half, unless a listener says
otherwise."""
_WAIT: Final = 10.0  # seconds for which stale="wait" waits


class FleetStream(Stream[FleetEvent]):
    """The events of a fleet. Made by `Fleet.events`."""


class Fleet(FleetLookUps[Stale]):
    """Every domain of every host by name and uuid, kept true by following a store.

    Made by `domindex.fleet.connect()`. Safe from any thread, handlers of events included. It
    writes nothing, but for `forget` and `declare_offline`.
    """

    def __init__(self, body: FleetBody, stale: Stale) -> None:
        self._body = body
        super().__init__(body.picture, stale, _WAIT)

    def close(self, timeout: float | None = 10.0) -> None:
        """End the thread and every listener. Afterwards each call raises Closed.

        Leaves no thread. May be called from any thread and twice.

        Args:
            timeout: seconds to wait for handlers under way, None for as long as they take.
        """
        self._body.close(timeout)

    def on_close(self, rest: contextlib.ExitStack) -> None:
        """Have this end with it, too. For `of`."""
        self._body.rest = rest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        picture = self._body.picture
        state = type(picture.state).__name__.lower()
        return f"<Fleet: {len(picture.hosts)} hosts, {state}>"

    # -- barriers ----------------------------------------------------------------------------

    def refresh(self, timeout: float | None = 5.0) -> int:
        """Return once everything is held that was written to the store before this call.

        What a host's index knows and its publisher has not written yet is not: for that see
        `Publisher.flush` there, or `wait_generation` here.

        Returns:
            The generation of the picture.

        Raises:
            NotLive, TimedOut, LineLost: it was not done in time.
            Closed: the reader was closed.

        Cost:
            One round trip by quorum.
        """
        condition = self._body.refreshing(timeout)
        return self._picture.changed.wait_for(condition, timeout)

    def wait_generation(self, host: str, generation: int, timeout: float | None = 30.0) -> int:
        """Wait until all is held that the index of `host` held at `generation`.

        Raises:
            NoSuchHost: after `timeout` seconds, if there is no such host.
            TimedOut, NotLive: after `timeout` seconds, else.
            Closed: the reader was closed.
        """
        condition = self._body.generation(host, generation, timeout)
        return self._picture.changed.wait_for(condition, timeout)

    def wait_live(self, timeout: float | None = 30.0) -> None:
        """Wait until the reader is live. Raises NotLive after `timeout` seconds, Closed."""
        self._picture.changed.wait_for(conditions.live(self._picture), timeout)

    # -- waiting -----------------------------------------------------------------------------

    def wait_for(
        self,
        *,
        name: str | bytes | None = None,
        uuid: UUID | str | bytes | None = None,
        found: Found | None = None,
        where: Callable[[Found], object] | None = None,
        ready: bool = False,
        host: str | None = None,
        among: Collection[str] | None = None,
        timeout: float | None = 30.0,
    ) -> Found:
        """Wait until there is one domain that has all these keys and of which `where` holds.

        Args:
            name: its name.
            uuid: its uuid.
            found: what a look-up of this reader gave: only the life that it is of will do, on its
                host. A migration ends that life.
            where: a function that is called with a `Found`, in this thread, after each change. It
                may look at `state`: without it the last word of a lost host will do, as for
                `by_name`. Without a key the first domain by host and domid is taken.
            ready: wait until it is `Domain.ready`, too. Of the two ends of a migration that leaves
                one.
            host: on this host, which may be unknown as yet.
            among: on one of these.
            timeout: seconds to wait, None for as long as it takes.

        Returns:
            It, as it is now.

        Raises:
            NoSuchDomain: only with `found`: that life has ended, see `wait_gone`. At once.
            SeveralFound: after `timeout` seconds, if several domains have the key.
            HostsSilent: after `timeout` seconds, if a host that was asked cannot tell.
            NotLive: after `timeout` seconds, if the reader's own line is down.
            NoSuchHost: after `timeout` seconds, if a host that was named is not known.
            TimedOut: after `timeout` seconds, else.
            InvalidKey, InvalidHost: no key and no `where`, or one that cannot be such a key.
            Closed: the reader was closed.

        Cost:
            A look at each change of the picture; without a key at every domain of the hosts that
            are asked.
        """
        condition = fleet_conditions.found(
            self._picture,
            self._body.following.reconciler.name_now,
            name=name,
            uuid=uuid,
            found=found,
            where=where,
            ready=ready,
            host=host,
            among=among,
            timeout=timeout,
        )
        return self._picture.changed.wait_for(condition, timeout)

    def wait_gone(self, found: Found, timeout: float | None = 30.0) -> Removed:
        """Wait until the life that this is of has ended on its host, a migration included.

        Only its host says so, or `forget`. A host that is lost or offline has not said anything.

        Args:
            found: what a look-up of this reader gave.
            timeout: seconds to wait, None for as long as it takes.

        Returns:
            The `Removed` of that end. If it was so long ago that it is forgotten, one with the
            given record, and `inferred`.

        Raises:
            TimedOut: it still runs after `timeout` seconds.
            HostsSilent, NoSuchHost: after `timeout` seconds, if its host cannot tell.
            NotLive: after `timeout` seconds, if the reader's own line is down.
            InvalidKey: it is no `Found`.
            Closed: the reader was closed.

        Cost:
            A look at each change of the picture.
        """
        condition = fleet_conditions.ended(
            self._picture, self._body.following.reconciler.name_now, found, timeout
        )
        return self._picture.changed.wait_for(condition, timeout)

    def wait_stopped(self, found: Found, timeout: float | None = 30.0) -> ShutdownReason:
        """Wait until the life that this is of has shut down, been saved or crashed.

        As `Index.wait_stopped`: its domain may exist for some time afterwards.

        Raises:
            NoSuchDomain: it has ended, and no reason was seen.
            TimedOut, HostsSilent, NoSuchHost, NotLive, InvalidKey, Closed: as `wait_gone`.
        """
        condition = fleet_conditions.stopped(
            self._picture, self._body.following.reconciler.name_now, found, timeout
        )
        return self._picture.changed.wait_for(condition, timeout)

    # -- listening ---------------------------------------------------------------------------

    def subscribe(
        self,
        handler: Callable[[FleetEvent], object],
        *,
        events: FleetKinds | None = None,
        where: Callable[[Domain], object] | None = None,
        among: Collection[str] | None = None,
        replay: bool = True,
        queue: int = QUEUE,
        move_grace: float = MOVE_GRACE,
        reboot_grace: float = 0.0,
        on_error: ErrorHook[FleetEvent] | None = None,
        threaded: bool = True,
        name: str | None = None,
    ) -> Subscription:
        """Call `handler(event)` for every event from now on, in order, in a thread of its own.

        The first events are for each host an `Added` for each domain, each followed by its
        `Ready` if it is ready, and the state of the host; then `Synced`, then `Lost` if the
        reader is not live at this moment.

        Args:
            handler: called with each event.
            events: only these types: of fleets, such as `(HostLost, Moved)`, or of
                `domindex.events` for what is within hosts, such as `Removed`.
            where: as for `Index.subscribe`; called with a Domain.
            among: only events of these hosts, or of none.
            replay: as for `Index.subscribe`.
            queue: as for `Index.subscribe`.
            move_grace: seconds for which half of a live migration is held back for the other
                half, so that `Moved` comes in place of both. 0, or `events` without `Moved`,
                tells both as they come. Without a `reboot_grace` the end of a domain that does
                not look like a migration is told at once.
            reboot_grace: as for `Index.subscribe`, on one host: `Rebooted` comes in a `HostEvent`.
                An end that may be half of a reboot or of a migration is held back for the longer
                of the two times, and whichever comes ends that.
            on_error: as for `Index.subscribe`.
            threaded: as for `Index.subscribe`.
            name: as for `Index.subscribe`.

        Raises:
            ValueError, TypeError: an argument is out of its range, or cannot be called.
            Closed: the reader was closed.
        """
        wanted = FleetWanted(events, where, among)
        options = mailbox_options(
            self._picture, wanted, replay, queue, move_grace, reboot_grace, name
        )
        return self._picture.hub.subscribe(
            handler, wanted, options, on_error=on_error, threaded=threaded
        )

    def events(
        self,
        *,
        events: FleetKinds | None = None,
        where: Callable[[Domain], object] | None = None,
        among: Collection[str] | None = None,
        replay: bool = True,
        queue: int = QUEUE,
        move_grace: float = MOVE_GRACE,
        reboot_grace: float = 0.0,
        name: str | None = None,
    ) -> FleetStream:
        """The events of `subscribe`, to iterate over. Arguments and errors are the same."""
        wanted = FleetWanted(events, where, among)
        options = mailbox_options(
            self._picture, wanted, replay, queue, move_grace, reboot_grace, name
        )
        return self._picture.hub.stream_of(FleetStream, wanted, options)

    def fileno(self) -> int:
        """A descriptor that is readable when `dispatch` has something to do. See `Index`."""
        return self._picture.hub.loop().fd

    def dispatch(self) -> int:
        """Call the handlers made with `threaded=False`. See `Index.dispatch`."""
        return self._picture.hub.loop().dispatch()

    # -- an operator's words -----------------------------------------------------------------

    def declare_offline(self, host: str, reason: str = "", timeout: float | None = 5.0) -> None:
        """Say that a host is off: until it returns by itself it counts as holding nothing.

        Needs the right to write that host's keys.

        Raises:
            HostIsLive: somebody publishes it. Nothing was written.
            NoSuchHost: it is not known.
            Fenced: the store says otherwise by now than this reader knew. Try again.
            EngineError: the store refuses, or does not answer.
        """
        position = self._body.replace(
            host, lambda record: pack_host(replace(record, state="offline", why=reason))
        )
        self._reached(position, timeout)

    def forget(self, host: str, timeout: float | None = 5.0) -> None:
        """Delete a host that nobody publishes, with all of its domains. Its return undoes this.

        Bound to what this reader knows: if the host has returned meanwhile nothing is deleted.

        Raises: as `declare_offline`.
        """
        try:
            position = self._body.replace(host, lambda record: None)
        except Fenced:
            if not self._is_in_store(host):
                self._body.following.reconciler.forget(host)  # the store lost it, and it is gone
                return
            raise
        self._reached(position, timeout)

    def _is_in_store(self, host: str) -> bool:
        return any(True for _ in self._body.engine.load([host]).pairs)

    def _reached(self, position: int, timeout: float | None) -> None:
        picture = self._picture
        self._body.following.wake()
        picture.changed.wait_for(
            lambda last: picture.has_ended or picture.position >= position or last or None, timeout
        )

    @property
    def stats(self) -> FleetStats:
        """The counters now."""
        return self._body.stats
