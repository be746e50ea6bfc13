"""What one list of the hypervisor says of all domains, each decoded when it is asked for.

Read after domain.py; next errors.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from domindex.domain import DomainInfo


class Infos(Mapping[int, DomainInfo]):
    """State, memory and times of domains by domid, lowest first: all of one moment, for good.

    To decode an entry takes ten times as long as Xen takes to list it. So that is done when an
    entry is asked for, and who wants a few of many domains pays for these. `dict(infos)` decodes
    all of them.

    Args:
        entries: By domid, lowest first, what `decode` makes a `DomainInfo` of.
        dying: Those of these domids that have ended.
    """

    __slots__ = ("_decode", "_entries", "dying")

    def __init__(
        self,
        entries: Mapping[int, Any],
        decode: Callable[[Any], DomainInfo],
        dying: tuple[int, ...] = (),
    ) -> None:
        self._entries = entries
        self._decode = decode
        self.dying: tuple[int, ...] = dying

    def __getitem__(self, domid: int) -> DomainInfo:
        return self._decode(self._entries[domid])

    def __iter__(self) -> Iterator[int]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, domid: object) -> bool:
        return domid in self._entries

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[type[dict[int, DomainInfo]], tuple[dict[int, DomainInfo]]]:
        return dict, (dict(self),)

    def chosen(self, *, dying: bool) -> Infos:
        """Those that run; with `dying` all."""
        if dying or not self.dying:
            return self
        running = {domid: of for domid, of in self._entries.items() if domid not in self.dying}
        return Infos(running, self._decode)
