"""What other threads ask of the one that follows the host.

Read before conditions.py, which waits for it, following.py, which does it, and watcher.py, which
takes it from the callers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from domindex.core.nodes import Node, Value
from domindex.domain import Domain, Life
from domindex.errors import NoSuchDomain, StoreError
from domindex.keys import as_node, as_record


class Reading:
    """Nodes of one life that a program wants to read once. Raises InvalidKey.

    values: of its `nodes`, None while they are not read. Set last.
    runs: whether the life still ran after they were read; else they may be of another one.
    """

    def __init__(self, domain: Domain, paths: Sequence[str]) -> None:
        self.life: Life = as_record(domain).life
        self.paths = paths
        self.nodes: list[bytes] = [as_node(domain.domid, path) for path in paths]
        self.runs = True
        self.values: Sequence[Value] | None = None

    def result(self) -> dict[str, bytes | None]:
        """The values by path. Raises NoSuchDomain, or the StoreError of the first one refused."""
        if not self.runs:
            raise NoSuchDomain("life", self.life)
        found: dict[str, bytes | None] = {}
        for path, value in zip(self.paths, self.values or (), strict=True):
            if isinstance(value, StoreError):
                raise value
            found[path] = value
        return found


@dataclass(slots=True)
class Requests:
    """Written under the watcher's lock, and read without: each field is replaced in one step."""

    closing: bool = False
    refresh: int = 0
    """The last ticket that was given out. A ticket is a number, one for each request."""
    names: int = 0
    """The last ticket for which every name is to be read again."""
    nodes: deque[tuple[Life | None, Node]] = field(default_factory=deque)
    """Nodes to follow, for that life; None: no longer."""
    readings: dict[Reading, None] = field(default_factory=dict)
    """Nodes to read once, the oldest request first. Taken out by whoever is first: the thread that
    has read them, or the caller that waits no longer."""
