"""Faults that change nothing a program could see, and why: they are not made.

Each was looked at. What is sure by its kind alone is left out in kinds.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tests.measure.mutants.kinds import Mutant

_ONLY_WHEN_TO_TIDY: Final = "it says when what has ended is thrown away, which costs memory alone"
_ONLY_COMPARED: Final = "it counts events, and is only compared with what it was"
_AT_EXIT: Final = "it would close a stream when the interpreter ends, which nobody sees any more"
_TIDY: Final = "if len(self._known) > 2 * len(self._picture.table) + 16:"

_EQUIVALENT: Final[dict[tuple[str, str], str]] = {
    **{
        ("Facts._keep", f"-{_TIDY}\n+{_TIDY.replace(old, new)}"): _ONLY_WHEN_TO_TIDY
        for old, new in ((">", ">="), ("2 *", "3 *"), ("2 *", "2 +"), ("+ 16", "+ 17"))
    },
    **{
        (f"{stream}.__init__", f"-self._let_go.atexit = False\n+{change}"): _AT_EXIT
        for stream in ("Stream", "AsyncStream")
        for change in ("pass", "self._let_go.atexit = True")
    },
    ("Reconciler.__init__", "-self.specials: int = 0\n+self.specials: int = 1"): _ONLY_COMPARED,
    ("Reconciler.on_watch_events", "-self.specials += 1\n+self.specials += 2"): _ONLY_COMPARED,
    ("Following.__init__", "-self._specials = 0\n+self._specials = 1"): (
        "it is set again when the line begins"
    ),
    (
        "Following.__init__",
        "-self._probed = self._audited = 0.0\n+self._probed = self._audited = 1.0",
    ): "both are set before they are looked at",
    (
        "Matcher.__init__",
        "-self.start = _SPECIAL_IN_GLOB.split(pattern, maxsplit=1)[0]\n"
        "+self.start = _SPECIAL_IN_GLOB.split(pattern, maxsplit=2)[0]",
    ): "the first part is the same",
    (
        "Snapshot.diff",
        "-changes = [(was, now) for domid in sorted(self.keys() | older.keys()) if "
        "(was := older.get(domid)) is not (now := self.get(domid)) and was != now]\n"
        "+changes = [(was, now) for domid in sorted(self.keys() | older.keys()) if "
        "(was := older.get(domid)) is not (now := self.get(domid)) or was != now]",
    ): "no event comes of a change from a record to its equal",
    (
        "NodeWatch._put",
        "-self._fired += fired and self._every\n+self._fired -= fired and self._every",
    ): _ONLY_COMPARED,
    ("", "-_FEW: Final = 16\n+_FEW: Final = 17"): "it says from when on a list of all is cheaper",
    ("Announced.__init__", "-self.unnamed: bool = False\n+self.unnamed: bool = True"): (
        "the first list is of all, and every line begins with True"
    ),
    (
        "Reconciler._compare",
        "-changed = [row for row in after if (tracked := lives.get(row[0])) is None or "
        "tracked.row is not row]\n"
        "+changed = [row for row in after if (tracked := lives.get(row[1])) is None or "
        "tracked.row is not row]",
    ): "rows that have not changed are taken in as well: that costs time alone",
}
"""By the function and the lines of the difference."""


def why_equivalent(mutant: Mutant) -> str | None:
    """Why no test can notice it; None if one should."""
    return _EQUIVALENT.get(_key(mutant))


def out_of_date(made: Iterable[Mutant]) -> list[tuple[str, str]]:
    """What stands here and is none of these faults: the code has changed since."""
    return [*_EQUIVALENT.keys() - set(map(_key, made))]


def _key(mutant: Mutant) -> tuple[str, str]:
    lines = (line for line in mutant.diff.split("\n") if line.startswith(("-", "+")))
    return mutant.where, "\n".join(lines)
