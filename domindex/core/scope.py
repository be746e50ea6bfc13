"""Which domains to look at: some domids, or all. No I/O.

Read before listed.py and reconcile.py. Watch events give a scope, and a pass works on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class Scope:
    """A set of domids. Never changed; an empty one is false.

    `Scope.ALL` stands for every domain, known or not: it asks for the whole list. What is
    joined to it is `Scope.ALL` again.
    """

    __slots__ = ("domids",)

    ALL: ClassVar[Scope]

    def __init__(self, domids: Iterable[int] = ()) -> None:
        self.domids: frozenset[int] = frozenset(domids)

    def __or__(self, other: Scope) -> Scope:
        if self is Scope.ALL or other is Scope.ALL:
            return Scope.ALL
        return Scope(self.domids | other.domids)

    def __bool__(self) -> bool:
        return self is Scope.ALL or bool(self.domids)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Scope) or self is Scope.ALL or other is Scope.ALL:
            return self is other
        return self.domids == other.domids

    def __hash__(self) -> int:
        return hash(self.domids)

    def __repr__(self) -> str:
        return "Scope.ALL" if self is Scope.ALL else f"Scope({sorted(self.domids)})"


Scope.ALL = Scope()
