"""Following a store: load it, take in what its feed brings, and begin again after what breaks.

`step` does one thing and returns. The reader's thread calls it in a loop, and so may a test.

Whether a store is still the one that was followed before, its epoch says. One in which nobody has
published has none: while its position is behind ours it is seen to be another one, and once it has
passed it nothing tells. So such a store is loaded anew after each line that broke. It is loaded
once more when its first epoch is told, unless nothing was in it: it may have become another one
between the load and the feed. What such a load does not have is lost and not gone: nobody said so.

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
from domindex.fleet.ports import NEW, Batch, Engine, Feed, Progress
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
        self._loaded_at = NEW  # where the last load was
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
                epoch = dict(found.changes).get(EPOCH) if self._epoch is None else None
                if epoch is not None and self._loaded_at > NEW:
                    self._drop_feed()
                    self._loaded = False  # the next step loads; the line works, so it stays live
                else:
                    self.batches += 1
                    if epoch is not None:
                        self._epoch = epoch.decode("ascii", "backslashreplace")
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
        if not self._loaded or self._epoch is None:
            loaded = self._engine.load()
            self.loads += 1
            same = self._epoch is not None and loaded.epoch == self._epoch
            other = picture.position > 0 and not (same and loaded.position >= picture.position)
            # Before the pairs: it is set up meanwhile, and keeps what comes.
            feed = self._engine.follow(loaded.position, loaded.epoch)
            try:
                self.reconciler.load(loaded.pairs, loaded.position, other=other)
            except BaseException:
                feed.close()
                raise
            self._epoch, self._loaded_at = loaded.epoch, loaded.position
            self._loaded = True
        else:
            self.resumed += 1
            feed = self._engine.follow(picture.position, self._epoch)
        self._feed = feed
        if self._closed:
            self._feed.close()

    def _lost(self, error: BaseException) -> None:
        self._picture.down(error)  # first: a feed may take seconds to end
        self._drop_feed()

    def _drop_feed(self) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            with contextlib.suppress(EngineError):
                feed.close()

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
