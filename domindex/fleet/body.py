"""What is under both coats of a fleet's reader: the engine, the picture, and the thread.

`Fleet` (fleet.py) and `AsyncFleet` (aio.py) have one each.

Read after following.py and wanted.py; next fleet.py.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from domindex import forking
from domindex.domain import Domain
from domindex.errors import Closed, TimedOut
from domindex.fleet.answers import HostIsLive, NoSuchHost
from domindex.fleet.errors import EngineDenied, EngineError, Fenced, UnfitEngine
from domindex.fleet.following import Following
from domindex.fleet.moves import Moves
from domindex.fleet.picture import FleetPicture
from domindex.fleet.ports import Engine
from domindex.fleet.records import HostRecord, Unreadable, unpack_host
from domindex.fleet.states import Found, HostState
from domindex.fleet.wanted import FleetWanted
from domindex.limits import as_count, as_seconds
from domindex.listening.listeners import MailboxOptions
from domindex.listening.mailbox import Delay
from domindex.listening.signal import Condition
from domindex.liveness import Down
from domindex.stats import ListenerStats

_HOPELESS: Final = (EngineDenied, UnfitEngine)
_STEP: Final = 60.0  # seconds; no step needs to be longer


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
    """As `MailboxOptions`. move_grace: seconds for halves of migrations. answer: see `Moves`."""

    move_grace: float = field(kw_only=True)
    answer: Callable[[str, Domain], Found] = field(kw_only=True)

    def delay(self) -> Delay[Any] | None:
        """What holds events back for this listener; None if nothing does."""
        if not (self.move_grace or self.reboot_grace):
            return None
        return Moves(self.move_grace, self.reboot_grace, self.answer)


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
        self.rest: contextlib.ExitStack[bool | None] = contextlib.ExitStack()
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
                now = -1 if table is None else table.generation
                if table is not None and now >= wanted:
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


def mailbox_options(
    picture: FleetPicture,
    wanted: FleetWanted,
    replay: bool,
    queue: int,
    move_grace: float,
    reboot_grace: float,
    name: str | None,
) -> FleetMailboxOptions:
    """The options of one listener. Raises ValueError, TypeError."""
    if as_seconds(move_grace, "move_grace") != move_grace:
        raise ValueError(f"move_grace is seconds from 0, not {move_grace!r}")
    return FleetMailboxOptions(
        replay,
        queue,
        reboot_grace,
        name,
        move_grace=move_grace if wanted.moves else 0.0,
        answer=picture.answer,
    )
