"""The watches of one line, and the events that wait to be taken. No I/O.

Read after packets.py; next polling.py and line.py.

Events are merged as they arrive, so that a storm of them takes bounded memory:

- A watch without depth covers a node and all below. Whatever changed there is one event, with the
  watch's own path: its holder reads the node again in any case. A guest may create any number of
  nodes below one that is watched.
- A watch with depth gives one event for each path that changed. If there are too many of them, they
  become one event with the watch's own path, which means "anything below may have changed".
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Final

from domindex.ports import Watch
from domindex.xen.packets import Garbage

_ROOM: Final = 1 << 14
"""Different paths kept of one watch with depth. The birth of a domain changes about fourteen."""
_LONGEST_PATH: Final = 3072
"""Bytes. xenstored allows no more; a longer path is not kept."""


class Watches:
    """Which watches are set, and their events.

    silent: tokens of the watches added last whose first event has not come yet.
    """

    def __init__(self) -> None:
        self._paths: dict[bytes, bytes] = {}  # by token
        self._deep: set[bytes] = set()  # tokens of the watches with depth
        # By token: the paths that changed, in order of arrival; None for the watch's own path.
        self._changed: dict[bytes, dict[bytes, None] | None] = {}
        self.silent: set[bytes] = set()

    def add(self, watches: Iterable[Watch], *, deep: bool) -> Set[bytes]:
        """Expect events of these watches.

        Returns:
            The tokens that were not in use. The others have a watch already, which stays as it is.
        """
        fresh = {token: path for path, token in watches if token not in self._paths}
        self._paths |= fresh
        if deep:
            self._deep |= fresh.keys()
        self.silent = {*fresh}
        return fresh.keys()

    def forget(self, token: bytes) -> None:
        """Drop a watch and its events, also those that are still on their way."""
        self._paths.pop(token, None)
        self._changed.pop(token, None)
        self._deep.discard(token)
        self.silent.discard(token)

    def on_event(self, event: bytes) -> None:
        """Keep one event until it is taken. Raises Garbage."""
        path, path_end, rest = event.partition(b"\0")
        token, token_end, _ = rest.partition(b"\0")
        if not path_end or not token_end:
            raise Garbage("an event without path and token")
        self.silent.discard(token)
        own_path = self._paths.get(token)
        if own_path is None:  # it was sent before xenstored had the UNWATCH
            return
        changed = self._changed.setdefault(token, {} if token in self._deep else None)
        if changed is None:
            return
        changed[path] = None
        if path == own_path or len(changed) > _ROOM or len(path) > _LONGEST_PATH:
            self._changed[token] = None

    @property
    def fired(self) -> bool:
        """Whether an event waits to be taken."""
        return bool(self._changed)

    def take(self) -> list[Watch]:
        """The events, which are removed from here."""
        taken, self._changed = self._changed, {}
        return [
            Watch(path, token)
            for token, changed in taken.items()
            for path in ((self._paths[token],) if changed is None else changed)
        ]
