"""The nodes that are followed: the name of each life, and what else was asked for. No I/O.

Read after scope.py; next lives.py, whose lives are the names that are followed.

What happens to a node, in this order:

    pending_watches()   its watch is to be set; `refused` if xenstored does not set it
    unread()            it is to be read; then it is no longer dirty
    on_values()         its answer, which is not believed yet
    confirm()           the hypervisor still lists the life: the answer is true

An event makes the node dirty again at any time. So a read that was sent before an event never
answers that event, and an answer is never one that the next life on that domid gave. A node whose
watch is refused is read at each probe; the watch is asked for again at an audit and on a new line.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Final, NamedTuple, TypeAlias

from domindex.errors import StoreError
from domindex.ports import Watch

Value: TypeAlias = bytes | StoreError | None
"""What a node holds: None where there is no such node, or why it may not be read."""


class Unread(enum.Enum):
    """In place of an answer while there is none."""

    UNREAD = "unread"


UNREAD: Final = Unread.UNREAD


class Node(NamedTuple):
    """A path of xenstore, and the domain to whose life it belongs."""

    domid: int
    path: bytes


class NodeValue(NamedTuple):
    """What a node holds. fired: an event came since its last value, or may have been missed."""

    node: Node
    value: Value
    fired: bool


class Followed:
    """One node that is followed: a name (`lives.Tracked`) or another.

    token: of its watch on the present line, None while there is no watch.
    answer: what was read last, and is not confirmed yet.
    silent: no event came since the answer that was confirmed last, and its watch would have
        fired. So the node holds that value still.
    """

    __slots__ = ("answer", "silent", "token")

    token: bytes | None
    answer: Value | Unread
    silent: bool

    def __init__(self) -> None:
        self.token, self.answer, self.silent = None, UNREAD, False

    # Either kind has its own way to the next two: keeping them here would cost each life a slot.

    @property
    def domid(self) -> int:
        """To whose life it belongs."""
        raise NotImplementedError

    @property
    def path(self) -> bytes:
        """Where it is in xenstore."""
        raise NotImplementedError


class _Other(Followed):
    """A node that is not a name."""

    __slots__ = ("node",)

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node

    @property
    def domid(self) -> int:
        return self.node.domid

    @property
    def path(self) -> bytes:
        return self.node.path


class Nodes:
    """All nodes that are followed. Driven by the thread of the reconciler.

    names: the name of each life, by domid. The reconciler keeps it.
    """

    def __init__(self, names: Mapping[int, Followed]) -> None:
        self._names = names
        self._others: dict[int, dict[bytes, _Other]] = {}  # by domid and path
        self._tokens: dict[
            bytes, Followed
        ] = {}  # of the watches now set, but for that of all names
        self._token_of_names: bytes | None = None  # where one watch stands for all of them
        self._unwatch: list[Watch] = []
        self._values: list[NodeValue] = []  # of other nodes, confirmed
        self._serial = 0
        # A dict because it keeps the order: the first event is answered first.
        self.dirty: dict[Followed, None] = {}
        """Not watched yet, or with an event since the last read."""
        self.unwatchable: dict[Followed, StoreError] = {}
        """Those whose watch was refused, and why."""
        self.unconfirmed: set[int] = set()
        """Domids of which there are answers that are not confirmed."""

    def _all(self) -> Iterator[Followed]:
        others = (other for of_domain in self._others.values() for other in of_domain.values())
        return chain(self._names.values(), others)

    # -- which are followed --------------------------------------------------------------------

    def begin(self, name: Followed) -> None:
        """Follow the name of a life that has begun."""
        name.token = self._token_of_names
        self.dirty[name] = None

    def follow(self, node: Node) -> None:
        """Follow another node; if it is followed already, read it again."""
        of_domain = self._others.setdefault(node.domid, {})
        if node.path not in of_domain:
            of_domain[node.path] = _Other(node)
        self.dirty[of_domain[node.path]] = None

    def drop(self, node: Node) -> None:
        """Follow it no longer."""
        of_domain = self._others.get(node.domid, {})
        if (other := of_domain.pop(node.path, None)) is not None:
            self._forget(other)
            if not of_domain:
                del self._others[node.domid]

    def ended(self, name: Followed) -> None:
        """The life with this name is over: follow none of its nodes any longer."""
        domid = name.domid
        for followed in (name, *self._others.pop(domid, {}).values()):
            self._forget(followed)
        self.unconfirmed.discard(domid)

    def _forget(self, followed: Followed) -> None:
        self.dirty.pop(followed, None)
        self.unwatchable.pop(followed, None)
        if followed.token is not None and self._tokens.pop(followed.token, None) is not None:
            self._unwatch.append(Watch(followed.path, followed.token))

    # -- when to read again --------------------------------------------------------------------

    def new_line(self) -> None:
        """All watches are gone with the old line, and events may have been missed."""
        self._tokens.clear()
        self._token_of_names = None
        self._unwatch.clear()
        for followed in self._all():
            followed.token = None
            followed.answer = UNREAD
            followed.silent = False
        self.doubt()

    def one_watch(self, token: bytes) -> None:
        """On this line one watch, with this token, stands for those of all names."""
        self._token_of_names = token
        for name in self._names.values():
            name.token = token

    def doubt(self) -> None:
        """Read every node again, as if each had changed, and ask for refused watches again."""
        self.unwatchable.clear()
        self.dirty = dict.fromkeys(self._all())

    def doubt_unwatched(self, others: Iterable[Followed] = ()) -> None:
        """Read those again whose watch was refused, and these others."""
        self.dirty.update(dict.fromkeys(chain(self.unwatchable, others)))

    def on_watch_event(self, token: bytes) -> int | None:
        """An event came. Returns the domid, or None for the token of no node."""
        followed = self._tokens.get(token)
        if followed is None:
            return None
        self.dirty[followed] = None
        followed.silent = False
        return followed.domid

    def on_change(self, followed: Followed) -> None:
        """An event says that this node may have changed."""
        self.dirty[followed] = None
        followed.silent = False

    def read_again(self, followed: Followed) -> None:
        """Its answer, if there is one, is not to be believed."""
        followed.answer = UNREAD
        self.dirty[followed] = None

    # -- questions -----------------------------------------------------------------------------

    def unwatched(self) -> list[Followed]:
        """Those whose watch is to be set before they are read."""
        return [
            followed
            for followed in self.dirty
            if followed.token is None and followed not in self.unwatchable
        ]

    def pending_watches(self) -> tuple[list[Watch], list[Watch]]:
        """What to unwatch and what to watch, once: the caller sends it or drops the line."""
        unwatch, self._unwatch = self._unwatch, []
        watch = []
        for followed in self.unwatched():
            self._serial += 1
            followed.token = token = b"node/%d" % self._serial
            self._tokens[token] = followed
            watch.append(Watch(followed.path, token))
        return unwatch, watch

    def refused(self, watch: Watch, error: StoreError) -> None:
        """A watch that `pending_watches` gave is not set."""
        if (followed := self._tokens.pop(watch.token, None)) is not None:
            followed.token = None
            self.unwatchable[followed] = error

    def unread(self) -> list[Followed]:
        """What is to be read now, once all of `pending_watches` is answered."""
        later = dict.fromkeys(self.unwatched())  # those that are followed since
        asked = [followed for followed in self.dirty if followed not in later]
        self.dirty = later
        return asked

    # -- answers -------------------------------------------------------------------------------

    def on_values(self, values: Iterable[tuple[Followed, Value]]) -> None:
        """The answers to reads that were sent."""
        for followed, value in values:
            followed.answer = value
            self.unconfirmed.add(followed.domid)

    def believe(self, followed: Followed) -> Value | Unread:
        """What was read of this node is true; UNREAD if it was not read since."""
        value = followed.answer
        if value is not UNREAD:
            followed.answer = UNREAD
            if followed not in self.dirty and followed not in self.unwatchable:
                # A refusal says nothing about the value: what is known of it stays as it is.
                followed.silent |= not isinstance(value, StoreError)
        return value

    def confirm(self, domid: int) -> None:
        """The life is still listed. So what was read of its other nodes before is true."""
        self.unconfirmed.discard(domid)
        if not self.unconfirmed:
            self.unconfirmed.clear()  # a set that has shrunk keeps the room for all it ever had
        if domid in self._others:
            for other in self._others[domid].values():
                fired = not other.silent
                if (value := self.believe(other)) is not UNREAD:
                    self._values.append(NodeValue(other.node, value, fired))

    def certain_values(self) -> list[NodeValue]:
        """The values of other nodes that have become certain, once each."""
        values, self._values = self._values, []
        return values
