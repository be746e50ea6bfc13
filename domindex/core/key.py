"""One key of the table: which domain carries it alone, and which domains share it. No I/O.

The records are `Domain`s here, and in `domindex.fleet` answers that name a host, too.

Read after domain.py; next table.py, which joins three of these.
"""

from __future__ import annotations

from collections.abc import (
    Callable,
    Hashable,
    ItemsView,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    ValuesView,
)
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, Protocol, TypeAlias, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
V = TypeVar("V")


class Record(Protocol):
    """What is kept under a key."""

    @property
    def life(self) -> Hashable:
        """Equal in two records exactly if they are of the same running domain."""


R = TypeVar("R", bound=Record)

Place: TypeAlias = Callable[[Any], Any]
_DOMID: Final[Place] = attrgetter("domid")


class View(dict[K, R], Generic[K, R]):
    """A live, read-only mapping from one key to its domain, at the speed of a dict.

    Holds the keys that exactly one domain carries. `view[key]` raises what the look-up by that
    key raises (NoSuchDomain, Ambiguous, NotLive, Closed); `get` and `in` answer None and
    False to all of these. Iterating walks over a copy made at that moment; for a dict use
    `copy()`, as `dict(view)` asks key by key and meets those that have gone meanwhile.
    """

    __slots__ = ("_missing",)

    def __init__(self, missing: Callable[[K], R]) -> None:
        super().__init__()
        self._missing = missing

    def __missing__(self, key: K) -> R:
        return self._missing(key)

    def __iter__(self) -> Iterator[K]:
        return iter(self.copy())

    def __reversed__(self) -> Iterator[K]:
        return reversed(self.copy())

    # A dict gives views of itself here; these are of a copy, as the writer waits for no reader.
    def keys(self) -> KeysView[K]:  # type: ignore[override]
        """The keys held now."""
        return self.copy().keys()

    def values(self) -> ValuesView[R]:  # type: ignore[override]
        """The domains held now."""
        return self.copy().values()

    def items(self) -> ItemsView[K, R]:  # type: ignore[override]
        """The pairs held now."""
        return self.copy().items()

    def copy(self) -> dict[K, R]:
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

    def __reduce__(self) -> tuple[type[dict[K, R]], tuple[dict[K, R]]]:
        return dict, (self.copy(),)


if TYPE_CHECKING:

    class ReadOnly(Mapping[K, R]):
        """What a `View` is to the type checker of a program: it has nothing that changes it."""

        def copy(self) -> dict[K, R]:
            """A plain dict of what is held now."""

        def __reversed__(self) -> Iterator[K]: ...
        def __or__(self, other: Mapping[T, V]) -> dict[K | T, R | V]: ...
        def __ror__(self, other: Mapping[T, V]) -> dict[K | T, R | V]: ...


class KeyIndex(Generic[K, R]):
    """All domains by one key: those that carry it alone, and those that share it.

    what: the name of the key, for errors. key_of: makes such a key of what a caller gives, or
        raises InvalidKey. key_in: the key that a record carries, None if it carries none.
    view: what readers see without a lock.
    unique: the keys that one domain carries, and that domain. The very same dict as the view,
        unless that is hidden.
    shared: the keys that several domains carry, and these by place.
    place: which one of several it is, in their order: the domid.
    """

    __slots__ = ("key_in", "key_of", "place", "shared", "unique", "view", "what")

    def __init__(
        self,
        what: str,
        key_of: Callable[[Any], K],
        key_in: Callable[[Any], K | None],
        missing: Missing[R],
        place: Place = _DOMID,
    ) -> None:
        self.what: str = what
        self.key_of: Callable[[Any], K] = key_of
        self.key_in: Callable[[Any], K | None] = key_in
        self.place: Place = place
        self.view: View[K, R] = View(partial(missing, self))
        self.unique: dict[K, R] = self.view
        self.shared: dict[K, dict[Any, R]] = {}

    def holders(self, key: K) -> dict[Any, R]:
        """All that carry `key`, by place, as a copy."""
        if (shared := self.shared.get(key)) is not None:
            return shared.copy()
        only = self.unique.get(key)
        return {} if only is None else {self.place(only): only}

    def all_shared(self) -> list[tuple[K, tuple[R, ...]]]:
        """The keys with several holders, and these in order."""
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

    def apply(self, leaving: Sequence[R], coming: Sequence[R]) -> list[tuple[K, tuple[R, ...]]]:
        """Take domains out and in, each under the key that it carries.

        Returns the keys that more domains share than before, with all of them by domid.
        """
        key_in, place, unique, shared = self.key_in, self.place, self.unique, self.shared
        # Two short ways. Keys are hashed as seldom as can be: Python hashes a UUID, and that is
        # most of the time that this takes.
        if not leaving and not shared:  # births only, as in the first list of a host
            births: dict[Any, R] = dict(zip(map(key_in, coming), coming, strict=True))
            if (
                len(births) == len(coming)
                and None not in births
                and (not unique or dict.keys(unique).isdisjoint(births.keys()))
            ):
                dict.update(unique, births)
                return []
        elif len(leaving) == len(coming):  # no key changes, as when a domain shuts down
            keys: list[Any] = list(map(key_in, leaving))
            if keys == list(map(key_in, coming)) and all(key in unique for key in keys):
                dict.update(unique, zip(keys, coming, strict=True))
                return []
        after: dict[K, dict[Any, R]] = {}
        fresh: dict[K, R] = {}  # keys that no domain had: nearly all of them
        for domain in leaving:
            if (key := key_in(domain)) is not None:
                if key not in after:
                    after[key] = self.holders(key)
                del after[key][place(domain)]
        for domain in coming:
            if (key := key_in(domain)) is None:
                continue
            if key not in after:
                if key not in fresh and key not in unique and key not in shared:
                    fresh[key] = domain
                    continue
                other = fresh.pop(key, None)
                after[key] = self.holders(key) if other is None else {place(other): other}
            after[key][place(domain)] = domain
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


Missing: TypeAlias = Callable[[KeyIndex[Any, R], Any], R]
"""Answers for a key that the view of an index does not hold: by raising, or with a record."""


def ordered(holders: dict[Any, R]) -> tuple[R, ...]:
    """By domid, or by whatever else is their place."""
    return tuple(holders[place] for place in sorted(holders))
