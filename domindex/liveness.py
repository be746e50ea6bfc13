"""Whether a picture is up to date: its state, who is told of it, and the one lock.

`Picture` (picture.py) is the one of a host, and `FleetPicture` (fleet/picture.py) that of many.
What each of them holds, and what it tells, is its own.

Read after listening/listeners.py; next picture.py.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from domindex import forking
from domindex.errors import Closed, HostError, NotLive
from domindex.events import Lost, Recovered
from domindex.listening.listeners import Listeners
from domindex.listening.signal import ChangeSignal


@dataclass(frozen=True, slots=True)
class Live:
    """Every change that an event told of is held, and the line was lately known to work."""


@dataclass(frozen=True, slots=True)
class Down:
    """Changes may be missing. cause: why, as last seen. since: time.monotonic() of the loss."""

    cause: BaseException
    since: float


@dataclass(frozen=True, slots=True)
class Ended:
    """Every call is refused, and `why` says so."""

    why: str


State: TypeAlias = Live | Down | Ended


class Liveness:
    """The state of a picture. A subclass holds the picture, and is its `Source` for the hub.

    patience: seconds without a sign of the thread that follows after which the picture counts as
    out of date. max_age: the age in seconds up to which look-ups are answered from it while it is
    out of date, below 0 for never. After that `hide` empties the views until it is live again, so
    that each look-up has to look closer. Nothing has to look at the time for a look-up that hits.
    followed: what the thread follows, for error texts. clock: gives seconds that never go back.
    """

    hub: Listeners[Any]
    """Everyone who listens. Set by the subclass."""

    def __init__(
        self,
        *,
        patience: float,
        max_age: float = math.inf,
        followed: str = "host",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Held to change anything here, or to see it whole.
        self.lock: threading.RLock = forking.rlock()
        self.changed: ChangeSignal = ChangeSignal(self.lock)
        self.max_age: float = max_age
        self.clock: Final = clock
        self.followed: Final = followed
        self.state: State = Down(NotLive(f"the index has not seen the {followed} yet"), clock())
        self.confirmed: float = -math.inf
        """clock() at which it was last confirmed that the picture is whole."""
        self.got_on: float = math.inf
        """clock() at which the thread that follows last showed that it is not held up."""
        self.patience = patience
        self._untold: BaseException | None = None  # the cause of a loss that is still to be told

    # -- what a subclass has -----------------------------------------------------------------

    @property
    def generation(self) -> int:
        """A number that grows with each change of the picture."""
        raise NotImplementedError

    def clear(self) -> None:
        """Forget everything that is held."""
        raise NotImplementedError

    def hide(self, state: State) -> bool:
        """Empty the views or fill them again, as `max_age` wants it; whether all are empty."""
        raise NotImplementedError

    # -- for the thread that follows ---------------------------------------------------------

    def up(self) -> None:
        """Become live. Tells `Recovered`, if it was down."""
        with self.lock:
            if isinstance(self.state, Ended) or (self.state == Live() and self._untold is None):
                return
            now = self.clock()
            since = self.state.since if isinstance(self.state, Down) else now
            lost = [Lost(self._untold)] if self._untold is not None else []
            self._untold = None
            self.tell(self.stamped([*lost, Recovered(now - since)]), Live())

    def down(self, cause: BaseException) -> None:
        """Become out of date. Tells `Lost` once, whatever is called how often until `up`."""
        with self.lock:
            match self.state:
                case Live():
                    # First, as it takes no memory: if the rest fails for lack of it, the picture
                    # is not live all the same, and a later call tells.
                    self._untold = cause
                    self.state = Down(cause, self.clock())
                case Down(since=since):
                    self.state = Down(cause, since)
                case Ended():
                    return
            lost = [Lost(self._untold)] if self._untold is not None else []
            self.tell(self.stamped(lost))
            self._untold = None

    def end(self, why: str) -> None:
        """Refuse every call from now on, with this sentence."""
        with self.lock:
            self.state = Ended(why)
            self.clear()  # a hit looks at the views alone: they must be empty at once
            self.changed.notify()

    def tell(self, events: Sequence[Any], state: State | None = None) -> None:
        """Put events into the mailboxes, and be in this state. The lock is held."""
        state = state or self.state
        if self.max_age < math.inf:
            self.hide(state)
        self.hub.tell(events)
        self.state = state  # last: who sees Live finds all events in the mailboxes
        self.changed.notify()

    def stamped(self, events: Sequence[Any]) -> list[Any]:
        """These events with the generation and the time of now."""
        now, generation = time.time(), self.generation
        return [replace(event, generation=generation, time=now) for event in events]

    def about_all(self, event: Any) -> list[Any]:
        """An event that tells of the whole picture, and `Lost` if it is not live."""
        lost = [Lost(self.state.cause)] if isinstance(self.state, Down) else []
        return self.stamped([event, *lost])

    # -- for everyone ------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """Whether it is up to date.

        A thread that is held up (stopped, or in a hypercall that does not return) cannot say so
        itself. Whoever asks finds out by its last sign, and tells it in its place.
        """
        if not isinstance(self.state, Live) or self._untold is not None:
            return False
        silent = self.clock() - self.got_on
        if silent <= self.patience:
            return True
        self.down(
            HostError(f"the thread that follows the {self.followed} is held up for {silent:.1f} s")
        )
        return False

    @property
    def age(self) -> float:
        """Seconds since it was last confirmed that the picture is whole."""
        return max(0.0, self.clock() - self.confirmed)

    def too_old(self) -> bool:
        """Whether it is out of date for longer than old answers are wanted.

        Time alone makes it too old, so whoever asks empties the views: the thread that follows
        while it looks for a line, and, should that be held up, each look-up that misses.
        """
        if self.max_age == math.inf or self.live:
            return False
        with self.lock:
            return self.hide(self.state)

    @property
    def has_ended(self) -> bool:
        """Whether every call is refused."""
        return isinstance(self.state, Ended)

    def check_open(self) -> None:
        """Raises Closed once it has ended."""
        if isinstance(self.state, Ended):
            raise Closed(self.state.why)

    def not_live(self) -> NotLive:
        """What to raise where it is out of date."""
        cause = self.state.cause if isinstance(self.state, Down) else None
        return NotLive(f"cannot tell: the line to the {self.followed} is down", cause)
