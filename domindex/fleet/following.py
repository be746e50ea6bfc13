"""Following a store: load it, take in what its feed brings, and begin again after what breaks.

`step` does one thing and returns. The reader's thread calls it in a loop, and so may a test.

Read after reconcile.py; next fleet.py.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
from collections.abc import Callable
from typing import Final

from domindex.errors import Closed, DomindexError
from domindex.fleet.errors import EngineError, TooOld
from domindex.fleet.layout import EPOCH
from domindex.fleet.picture import FleetPicture
from domindex.fleet.ports import Batch, Engine, Feed, Progress
from domindex.fleet.reconcile import FleetReconciler

log: logging.Logger = logging.getLogger("domindex")

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_AUDIT: Final = 30.0
"""Seconds between two looks at whether as many domains are held as the hosts say. A host that
lacks one is loaded anew, for which the whole store is: it happens after a fault of the store."""


class Following:
    """What the reader's thread does. Only `wake` and `close` are for other threads.

    counters: loads, resumed (a new feed from where the last one broke), batches, audits that
    found something missing.
    """

    def __init__(self, engine: Engine, picture: FleetPicture) -> None:
        self.loads: int = 0
        self.resumed: int = 0
        self.batches: int = 0
        self.drift: int = 0
        self._engine = engine
        self._picture = picture
        self.reconciler: FleetReconciler = FleetReconciler(picture)
        self._feed: Feed | None = None
        self._loaded = False  # what the picture holds can be gone on from
        self._epoch: str | None = None
        self._pause = 0.0
        self._audit_at = -math.inf
        self._audited: list[str] = []  # what the last load has not mended
        self._closed = False

    def step(self, timeout: float, wait: Callable[[float], object]) -> None:
        """Take in one thing, or wait for at most `timeout` seconds.

        wait: lets time pass; it is called with the seconds of a pause after a failure.
        """
        picture = self._picture
        self.reconciler.tick()
        try:
            if self._feed is None:
                self._open()
            feed = self._feed
            assert feed is not None
            found = feed.next(min(timeout, self.reconciler.next_tick))
            if isinstance(found, Batch):
                self.batches += 1
                for key, value in found.changes:
                    if key == EPOCH and value is not None and self._epoch is None:
                        self._epoch = value.decode("ascii", "backslashreplace")
                self.reconciler.take(found.changes, found.position)
            elif isinstance(found, Progress):
                self._pause = 0.0
                self.reconciler.confirm(found.position, found.age)
                picture.up()
                self._audit()
        except Closed as error:
            if not self._closed:
                raise
            picture.down(error)
        except TooOld as error:
            self._loaded = False
            self._lost(error)
        except (DomindexError, OSError) as error:
            self._lost(error)
            # At once where it had worked; then slower and slower, and each reader in its own time.
            if self._pause:
                wait(self._pause * random.uniform(0.5, 1.0))
            self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        self.reconciler.tick()

    def _open(self) -> None:
        picture = self._picture
        if not self._loaded:
            loaded = self._engine.load()
            self.loads += 1
            first = self.loads == 1
            other = not first and (
                loaded.epoch != self._epoch or loaded.position < picture.position
            )
            self.reconciler.load(loaded.pairs, loaded.position, other=other)
            self._epoch = loaded.epoch
            self._loaded = True
        else:
            self.resumed += 1
        self._feed = self._engine.follow(picture.position, self._epoch)
        if self._closed:
            self._feed.close()

    def _lost(self, error: BaseException) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            with contextlib.suppress(EngineError):
                feed.close()
        self._picture.down(error)

    def _audit(self) -> None:
        now = self._picture.clock()
        if now < self._audit_at:
            return
        self._audit_at = now + _AUDIT
        lacking = self.reconciler.lacking()
        if lacking and lacking != self._audited:
            self.drift += 1
            log.warning("not all domains of these hosts are held; loading anew: %s", lacking[:5])
            self._loaded = False
            self._lost(EngineError(f"a change was missed: {lacking[:5]}"))
        self._audited = lacking

    def wake(self) -> None:
        """Have progress told soon."""
        if (feed := self._feed) is not None:
            with contextlib.suppress(EngineError, Closed):
                feed.ask()

    def close(self) -> None:
        """End the current and each later step."""
        self._closed = True
        if (feed := self._feed) is not None:
            with contextlib.suppress(EngineError, Closed):
                feed.close()
