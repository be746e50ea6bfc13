"""Which versions of etcd are taken, and what is wrong with the older ones.

From the changelogs of etcd. Fixes came to each series that was maintained at the time.

Read after url.py; next greeting.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeAlias

Version: TypeAlias = tuple[int, int, int]

OLDEST: Final = (3, 5, 18)
"""Before it, a watch opened where the store was compacted misses a delete."""
ADVISED: Final = ((3, 5, 28), (3, 6, 9))
"""Before these, a quorum read may be stale, and authorization can be passed by."""
RIGHTS: Final = ((3, 5, 33), (3, 6, 14), (3, 7, 1))
"""Before these, who may read one key can watch later ones."""


def parse_version(said: str) -> Version | None:
    """`3.5.30`, `3.6.0-rc.1`: the three numbers."""
    match = re.match(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})", said)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def advice(version: Version) -> str:
    """What is wrong with this version; "" if nothing is."""
    if not _has(version, ADVISED):
        return (
            f"version {dotted(version)} may answer a quorum read with an old state, and let "
            "rights be passed by; use 3.5.28, 3.6.9 or newer"
        )
    return ""


def rights_advice(version: Version) -> str:
    """What is wrong with rights in this version; "" if nothing is."""
    if not _has(version, RIGHTS):
        return (
            f"with version {dotted(version)}, who may read one key can watch others; use 3.5.33, "
            "3.6.14, 3.7.1 or newer if hosts must not see each other"
        )
    return ""


def _has(version: Version, fixed: Sequence[Version]) -> bool:
    """Whether it has what came with each of these, the first of its own series on."""
    same = [first for first in fixed if first[:2] == version[:2]]
    return version >= same[0] if same else version > fixed[-1]


def dotted(version: Version) -> str:
    """As people write it."""
    return ".".join(map(str, version))
