"""One key of the table: which domain carries it alone, and which domains share it. No I/O.

Read after domain.py; next table.py, which joins three of these.
"""

from __future__ import annotations

from collections.abc import (
    Callable,
    Hashable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    ValuesView,
)
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeAlias, TypeVar

from domindex.domain import Domain

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
V = TypeVar("V")


class View(dict[K, Domain]):
    """A live, read-only mapping from one key to its domain, at the speed of a dict.

    Holds the keys that exactly one domain carries. `view[key]` raises what the look-up by that
    key raises (NoSuchDomain, Ambiguous, NotLive, Closed); `get` and `in` answer None and
    False to all of these. Iterating walks over a copy made at that moment; for a dict use
    `copy()`, as `dict(view)` asks key by key and meets those that have gone meanwhile.
    """

    __slots__ = ("_missing",)

    def __init__(self, missing: Callable[[K], Domain]) -> None:
        super().__init__()
        self._missing = missing

    def __missing__(self, key: K) -> Domain:
        return self._missing(key)

    def __iter__(self) -> Iterator[K]:
        return iter(self.copy())

    def __reversed__(self) -> Iterator[K]:
        return reversed(self.copy())

    # A dict gives views of itself here; these are of a copy, as the writer waits for no reader.
    def keys(self) -> KeysView[K]:  # type: ignore[override]
        """The keys held now."""
        return self.copy().keys()

    def values(self) -> ValuesView[Domain]:  # type: ignore[override]
        """The domains held now."""
        return self.copy().values()

    def items(self) -> ItemsView[K, Domain]:  # type: ignore[override]
        """The pairs held now."""
        return self.copy().items()

    def copy(self) -> dict[K, Domain]:
        """A plain dict of what is held now."""
        while True:
            try:
                # The list first: hashing a key may let the writer in, building a list does not.
                return dict(list(super().items()))
            except RuntimeError:  # the writer does not wait for us: it grew; take it again
                continue

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def _refuse(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise TypeError("a view of the index is read-only; copy() gives a dict to change")

    if not TYPE_CHECKING:  # to a type checker it is a `ReadOnly`, which has none of these
        __setitem__ = __delitem__ = __ior__ = _refuse
        clear = update = setdefault = pop = popitem = _refuse
        __hash__ = None

    def __reduce__(self) -> tuple[type[dict[K, Domain]], tuple[dict[K, Domain]]]:
        return dict, (self.copy(),)


if TYPE_CHECKING:

    class ReadOnly(Mapping[K, Domain]):
        """What a `View` is to the type checker of a program: it has nothing that changes it."""

        def copy(self) -> dict[K, Domain]:
            """A plain dict of what is held now."""

        def __reversed__(self) -> Iterator[K]: ...
        def __or__(self, other: Mapping[T, V]) -> dict[K | T, Domain | V]: ...
        def __ror__(self, other: Mapping[T, V]) -> dict[K | T, Domain | V]: ...


class KeyIndex(Generic[K]):
    """All domains by one key: those that carry it alone, and those that share it.

    what: the name of the key, for errors. key_of: makes such a key of what a caller gives, or
        raises InvalidKey.
    view: what readers see without a lock.
    unique: the keys that one domain carries, and that domain. The very same dict as the view,
        unless that is hidden.
    shared: the keys that several domains carry, and these by domid.
    """

    __slots__ = ("key_of", "shared", "unique", "view", "what")

    def __init__(self, what: str, key_of: Callable[[Any], K], missing: Missing) -> None:
        self.what: str = what
        self.key_of: Callable[[Any], K] = key_of
        self.view: View[K] = View(partial(missing, self))
        self.unique: dict[K, Domain] = self.view
        self.shared: dict[K, dict[int, Domain]] = {}

    def holders(self, key: K) -> dict[int, Domain]:
        """All that carry `key`, by domid, as a copy."""
        if (shared := self.shared.get(key)) is not None:
            return shared.copy()
        only = self.unique.get(key)
        return {} if only is None else {only.domid: only}

    def all_shared(self) -> list[tuple[K, tuple[Domain, ...]]]:
        """The keys with several holders, and these by domid."""
        return [(key, ordered(holders)) for key, holders in self.shared.items()]

    def hide(self) -> None:
        """Have the view hold nothing, so that every reader without a lock comes to ask."""
        if self.unique is self.view:
            self.unique = self.view.copy()
            dict.clear(self.view)

    def show(self) -> None:
        """Undo `hide`."""
        if self.unique is not self.view:
            dict.update(self.view, self.unique)
            self.unique = self.view

    def apply(
        self, leaving: Iterable[tuple[K | None, Domain]], coming: Iterable[tuple[K | None, Domain]]
    ) -> list[tuple[K, tuple[Domain, ...]]]:
        """Take domains out and in, each under its key; None is no key.

        Returns the keys that more domains share than before, with all of them by domid.
        """
        after: dict[K, dict[int, Domain]] = {}
        fresh: dict[K, Domain] = {}  # keys that no domain had: nearly all of them
        for key, domain in leaving:
            if key is not None:
                if key not in after:
                    after[key] = self.holders(key)
                del after[key][domain.domid]
        for key, domain in coming:
            if key is None:
                continue
            if key not in after:
                if key not in fresh and key not in self.unique and key not in self.shared:
                    fresh[key] = domain
                    continue
                other = fresh.pop(key, None)
                after[key] = self.holders(key) if other is None else {other.domid: other}
            after[key][domain.domid] = domain
        joined = []
        dict.update(self.unique, fresh)
        for key, holders in after.items():
            if len(holders) == 1:
                (only,) = holders.values()
                dict.__setitem__(self.unique, key, only)
                self.shared.pop(key, None)
            elif holders:
                lives = {domain.life for domain in self.holders(key).values()}
                if any(domain.life not in lives for domain in holders.values()):
                    joined.append((key, ordered(holders)))
                self.shared[key] = holders
                dict.pop(self.unique, key, None)
            else:  # an empty entry per dead key would be a slow leak
                dict.pop(self.unique, key, None)
                self.shared.pop(key, None)
        return joined

    def clear(self) -> None:
        self.shared.clear()
        dict.clear(self.unique)
        self.show()


Missing: TypeAlias = Callable[[KeyIndex[Any], Any], Domain]
"""Answers for a key that the view of an index does not hold: by raising, or with a domain."""


def ordered(holders: dict[int, Domain]) -> tuple[Domain, ...]:
    """By domid."""
    return tuple(holders[domid] for domid in sorted(holders))
