"""What other threads ask of the one that follows the host.

Read before following.py, which does it, and watcher.py, which takes it from the callers.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from domindex.core.nodes import Node
from domindex.domain import Life


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
