"""Other nodes of a domain that are followed beside its name: which, and what they hold. No I/O.

The same rules as for names (reconcile.py): a value is believed only if the hypervisor still
lists the life after the read, and a read sent before an event never answers that event.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias, cast

from domindex.errors import StoreError
from domindex.ports import Watch

_UNREAD: Final = object()
Value: TypeAlias = bytes | StoreError | None
"""What a node holds: None where there is no such node, or why it may not be read."""


class Node(NamedTuple):
    """A path of xenstore, and the domain to whose life it belongs."""

    domid: int
    path: bytes


class _Followed:
    __slots__ = ("heard", "refused", "token")

    def __init__(self) -> None:
        self.token: bytes | None = None  # of its watch on the present line
        self.refused = False  # that watch; it is read at each probe instead
        self.heard: object = _UNREAD  # a value not yet confirmed


class Nodes:
    """The nodes followed, for lives that the reconciler knows. Driven by its thread."""

    def __init__(self) -> None:
        self._followed: dict[Node, _Followed] = {}
        self._of: dict[int, set[Node]] = {}  # by domid
        self._tokens: dict[bytes, Node] = {}  # of the watches now set
        self._unwatch: list[Watch] = []
        self._dirty: set[Node] = set()  # not watched yet, or with an event since the last read
        self._values: list[tuple[Node, Value]] = []
        self._serial = 0

    def follow(self, node: Node) -> None:
        """From now on, or read it again if it is followed already."""
        if node not in self._followed:
            self._followed[node] = _Followed()
            self._of.setdefault(node.domid, set()).add(node)
        self._dirty.add(node)

    def drop(self, node: Node) -> None:
        """No longer."""
        followed = self._followed.pop(node, None)
        if followed is None:
            return
        self._dirty.discard(node)
        self._of[node.domid].discard(node)
        if not self._of[node.domid]:
            del self._of[node.domid]
        if followed.token is not None:
            del self._tokens[followed.token]
            self._unwatch.append(Watch(node.path, followed.token))

    def ended(self, domid: int) -> None:
        """The life is over, and what was followed of it."""
        for node in tuple(self._of.get(domid, ())):
            self.drop(node)

    def new_line(self) -> None:
        """All watches are gone with the old line, and events may have been missed."""
        self._tokens.clear()
        self._unwatch.clear()
        for followed in self._followed.values():
            followed.token = None
            followed.heard = _UNREAD
        self.doubt()

    def doubt(self) -> None:
        """Read every node again, as if each had changed, and ask for refused watches again."""
        for followed in self._followed.values():
            followed.refused = False
        self._dirty.update(self._followed)

    def doubt_unwatched(self) -> None:
        """Read those again whose watch was refused."""
        self._dirty.update(node for node, followed in self._followed.items() if followed.refused)

    def on_watch_event(self, token: bytes) -> int | None:
        """An event came. The domid, None if the token is nobody's."""
        node = self._tokens.get(token)
        if node is None:
            return None
        self._dirty.add(node)
        return node.domid

    def pending_watches(self) -> tuple[list[Watch], list[Watch]]:
        """What to unwatch and what to watch, once: the caller sends it or drops the line."""
        unwatch, self._unwatch = self._unwatch, []
        watch = []
        for node in self._dirty:
            followed = self._followed[node]
            if followed.token is None and not followed.refused:
                self._serial += 1
                followed.token = token = b"node/%d/%d" % (node.domid, self._serial)
                self._tokens[token] = node
                watch.append(Watch(node.path, token))
        return unwatch, watch

    def refused(self, token: bytes) -> Node | None:
        """The watch with that token is not set. Its node, None if the token is nobody's."""
        node = self._tokens.pop(token, None)
        if node is not None:
            self._followed[node].token = None
            self._followed[node].refused = True
        return node

    @property
    def dirty(self) -> bool:
        """There is something to read, or to watch first."""
        return bool(self._dirty)

    def unread(self) -> list[Node]:
        """What is to be read now, once all that `pending_watches` gave is acknowledged."""
        asked = sorted(
            node
            for node in self._dirty
            if (followed := self._followed[node]).token is not None or followed.refused
        )
        self._dirty.difference_update(asked)
        return asked

    def on_value(self, node: Node, value: Value) -> None:
        """The value of one that `unread` asked for."""
        self._followed[node].heard = value

    def confirm(self, domid: int) -> None:
        """The life is still there: so what was read of its nodes before is true."""
        for node in self._of.get(domid, ()):
            followed = self._followed[node]
            if followed.heard is not _UNREAD:
                self._values.append((node, cast(Value, followed.heard)))
                followed.heard = _UNREAD

    def certain_values(self) -> list[tuple[Node, Value]]:
        """The values that have become certain, once each."""
        values, self._values = self._values, []
        return values
