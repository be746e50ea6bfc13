"""The reader of a fleet for programs with threads: look-ups, and what waits or listens.

Each method is a step to one of the parts: lookups.py answers, following.py keeps the picture true,
listening/ tells events. Made by `domindex.fleet.connect`.

Read after following.py and wanted.py; next publishing.py, the other end of the store.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from domindex import conditions, forking
from domindex.domain import Domain
from domindex.errors import Closed, TimedOut
from domindex.fleet.answers import HostIsLive, NoSuchHost
from domindex.fleet.errors import (
    EngineDenied,
    EngineError,
    Fenced,
    UnfitEngine,
)
from domindex.fleet.events import FleetEvent
from domindex.fleet.following import Following
from domindex.fleet.lookups import FleetLookUps
from domindex.fleet.moves import Moves
from domindex.fleet.picture import FleetPicture
from domindex.fleet.ports import Engine
from domindex.fleet.records import HostRecord, Unreadable, pack_host, unpack_host
from domindex.fleet.states import Found, HostState
from domindex.fleet.wanted import FleetKinds, FleetWanted
from domindex.limits import as_count, as_seconds
from domindex.listening.listeners import MailboxOptions
from domindex.listening.mailbox import QUEUE, Delay
from domindex.listening.signal import Condition
from domindex.listening.stream import Stream
from domindex.listening.subscription import ErrorHook, Subscription
from domindex.liveness import Down
from domindex.options import Stale
from domindex.stats import ListenerStats

MOVE_GRACE: Final = 10.0
"""Seconds that half of a live migration waits for the other half, unless a listener says
otherwise."""
_WAIT: Final = 10.0  # seconds for which stale="wait" waits
_HOPELESS: Final = (EngineDenied, UnfitEngine)
_STEP: Final = 60.0


@dataclass(frozen=True, slots=True)
class FleetStats:
    """Counters since the reader was opened, and sizes now.

    hosts, silent: known, and of these those that cannot tell. domains, names, uuids: held; names
    and uuids count those with a single holder. position: of the store. batches: transactions of
    the store taken in. loads: times the whole store was read. resumed: lines that broke and were
    gone on from without a load. drift: times a change had been missed. bad_values: values that
    could not be read. strange_keys: keys of no known meaning. listeners, overflows,
    listener_errors: as in `Stats`.
    """

    hosts: int
    silent: int
    domains: int
    names: int
    uuids: int
    generation: int
    live: bool
    age: float
    position: int
    batches: int
    loads: int
    resumed: int
    drift: int
    bad_values: int
    strange_keys: int
    listeners: tuple[ListenerStats, ...]
    overflows: int
    listener_errors: int


@dataclass(frozen=True, slots=True)
class FleetMailboxOptions(MailboxOptions):
    """As `MailboxOptions`; reboot_grace holds halves of migrations back. answer: see `Moves`."""

    answer: Callable[[str, Domain], Found] | None = field(default=None, kw_only=True)

    def delay(self) -> Delay[Any] | None:
        """What holds events back for this listener; None if nothing does."""
        if not self.reboot_grace or self.answer is None:
            return None
        return Moves(self.reboot_grace, self.answer)


class FleetStream(Stream[FleetEvent]):
    """The events of a fleet. Made by `Fleet.events`."""


class FleetBody:
    """What is under both coats: the engine, the picture, and the thread that follows."""

    def __init__(
        self,
        engine: Engine,
        *,
        max_age: float,
        clock: Callable[[], float] = time.monotonic,
        owns_engine: bool = True,
    ) -> None:
        self.engine = engine
        self.picture: FleetPicture = FleetPicture(max_age=max_age, clock=clock)
        self.following: Following = Following(engine, self.picture)
        self._owns_engine = owns_engine
        self.rest = contextlib.ExitStack()
        """What ends with it."""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        forking.register(self._after_fork)

    def start(self, timeout: float | None, *, wait: bool) -> None:
        """Begin to follow the store. With `wait`, return once all of it is held."""
        try:
            seconds = as_seconds(timeout)
            self._thread = threading.Thread(target=self._run, name="domindex-fleet", daemon=True)
            self._thread.start()
            if wait:
                self.picture.changed.wait_for(self._opened(timeout), seconds)
        except BaseException:
            self.close()
            raise

    def close(self, timeout: float | None = 10.0) -> None:
        """See `Fleet.close`."""
        seconds = as_seconds(timeout)
        deadline = time.monotonic() + seconds
        if not self.picture.has_ended:
            self.picture.end("this reader is closed; connect() opens a new one")
        self._stop.set()
        self.following.close()
        self.picture.hub.cut_off()
        if self._owns_engine:
            with contextlib.suppress(EngineError, Closed):
                self.engine.close()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))
        self.picture.hub.close(max(0.0, deadline - time.monotonic()))
        self.rest.close()

    def _after_fork(self) -> None:
        self._thread = None
        self.picture.end("this reader belongs to the parent process; connect() in the child")

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.following.step(_STEP, self._stop.wait)
                self.picture.hub.warn_of_late()
            except Closed:
                return
            except BaseException as error:  # the thread cannot end before close()
                self.picture.down(error)
                self._stop.wait(1.0)

    def _opened(self, timeout: float | None) -> Condition[bool]:
        """The store was taken in. Raises at once what a second try would not mend."""

        def condition(last: bool) -> bool | None:
            state = self.picture.state
            self.picture.check_open()
            if isinstance(state, Down):
                cause = state.cause
                if isinstance(cause, _HOPELESS) or (last and isinstance(cause, EngineError)):
                    raise cause
                if last:
                    raise TimedOut(f"no store has answered within {timeout} s: {cause}")
            return self.picture.live or None

        return condition

    # -- barriers ----------------------------------------------------------------------------

    def refreshing(self, timeout: float | None) -> Condition[int]:
        """Ask the store where it is; the condition that all of that is held."""
        self.picture.check_open()
        position = self.engine.position(as_seconds(timeout))
        self.following.wake()

        def condition(last: bool) -> int | None:
            self.picture.check_open()
            if self.picture.position >= position and self.picture.live:
                return self.picture.generation
            if last:
                raise self._too_late("the refresh was not done", timeout)
            return None

        return condition

    def generation(self, host: str, wanted: int, timeout: float | None) -> Condition[int]:
        """All that this host's index held at that generation is held."""
        as_count(wanted, "a generation")
        picture = self.picture

        def condition(last: bool) -> int | None:
            with picture.lock:
                picture.check_open()
                table = picture.hosts.get(host)
                now = -1 if table is None else picture.view(table).generation
                if table is not None and table.is_whole and now >= wanted:
                    return now
            if last:
                if table is None:
                    raise NoSuchHost(host)
                raise self._too_late(f"host {host} is at generation {now}", timeout)
            return None

        return condition

    def _too_late(self, what: str, timeout: float | None) -> Exception:
        picture = self.picture
        return TimedOut(f"{what} within {timeout} s") if picture.live else picture.not_live()

    # -- an operator's words -----------------------------------------------------------------

    def replace(self, host: str, change: Callable[[HostRecord], bytes | None]) -> int:
        """Write the record of a host that nobody publishes; the position of that."""
        with self.picture.lock:
            self.picture.check_open()
            if (table := self.picture.hosts.get(host)) is None:
                raise NoSuchHost(host)
            if table.alive is not None:
                raise HostIsLive(host, table.status.state)
            raw = table.raw
        if raw is None:
            raise NoSuchHost(host)
        try:
            record = unpack_host(raw)
        except Unreadable:
            record = HostRecord("", -1, 0, whole=False, state="ended")
        try:
            return self.engine.replace(host, raw, change(record))
        except Fenced as error:
            if error.holder is not None:
                raise HostIsLive(host, HostState.SYNCING) from error
            raise

    @property
    def stats(self) -> FleetStats:
        """The counters now."""
        picture, following = self.picture, self.following
        with picture.lock:
            return FleetStats(
                hosts=len(picture.hosts),
                silent=len(picture.silent),
                domains=sum(len(host.founds) for host in picture.hosts.values()),
                names=len(picture.names.unique),
                uuids=len(picture.uuids.unique),
                generation=picture.generation,
                live=picture.live,
                age=picture.age,
                position=picture.position,
                batches=following.batches,
                loads=following.loads,
                resumed=following.resumed,
                drift=following.drift,
                bad_values=following.reconciler.bad_values,
                strange_keys=following.reconciler.strange_keys,
                listeners=picture.hub.listeners,
                overflows=picture.hub.overflows,
                listener_errors=picture.hub.errors,
            )


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
                tells both as they come. The end of a domain that does not look like a
                migration is told at once in any case.
            on_error: as for `Index.subscribe`.
            threaded: as for `Index.subscribe`.
            name: as for `Index.subscribe`.

        Raises:
            ValueError, TypeError: an argument is out of its range, or cannot be called.
            Closed: the reader was closed.
        """
        wanted = FleetWanted(events, where, among)
        options = mailbox_options(self._picture, wanted, replay, queue, move_grace, name)
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
        name: str | None = None,
    ) -> FleetStream:
        """The events of `subscribe`, to iterate over. Arguments and errors are the same."""
        wanted = FleetWanted(events, where, among)
        options = mailbox_options(self._picture, wanted, replay, queue, move_grace, name)
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


def mailbox_options(
    picture: FleetPicture,
    wanted: FleetWanted,
    replay: bool,
    queue: int,
    move_grace: float,
    name: str | None,
) -> FleetMailboxOptions:
    """The options of one listener. Raises ValueError, TypeError."""
    if as_seconds(move_grace, "move_grace") != move_grace:
        raise ValueError(f"move_grace is seconds from 0, not {move_grace!r}")
    grace = move_grace if wanted.moves else 0.0
    return FleetMailboxOptions(replay, queue, grace, name, answer=picture.answer)
