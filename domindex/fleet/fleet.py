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

from domindex import conditions
from domindex.domain import Domain
from domindex.fleet.body import FleetBody, FleetStats, mailbox_options
from domindex.fleet.errors import Fenced
from domindex.fleet.events import FleetEvent
from domindex.fleet.lookups import FleetLookUps
from domindex.fleet.records import pack_host
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
