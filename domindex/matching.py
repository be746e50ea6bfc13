"""What `find` looks for, apart from where it looks.

Used by lookups.py for the domains of a host, and by fleet/lookups.py for those of many.
"""

from __future__ import annotations

import fnmatch
import re
from typing import Final

from domindex.domain import Domain, OSType, Role
from domindex.errors import InvalidKey
from domindex.keys import as_text, as_type

_SPECIAL_IN_GLOB: Final = re.compile(r"[*?\[]")


class Matcher:
    """Says whether a domain fits. Arguments and errors are those of `Index.find`.

    start: what every name that fits begins with. nameless: a domain without a name may fit.
    """

    def __init__(
        self,
        *,
        prefix: str | bytes = "",
        glob: str | bytes | None = None,
        regex: str | re.Pattern[str] | None = None,
        type: OSType | str | None = None,
        role: Role | None = None,
    ) -> None:
        pattern = None if glob is None else as_text(glob)
        self._tests = [] if pattern is None else [re.compile(fnmatch.translate(pattern)).match]
        if regex is not None:
            self._tests.append(_as_pattern(regex).search)
        self.start: str = as_text(prefix)
        self.nameless: bool = not prefix and not self._tests
        self._type = None if type is None else as_type(type)
        if not isinstance(role, Role | None):
            raise InvalidKey(f"role is a Role, such as Role.CONTROL, not {role!r}")
        self._role = role
        if pattern is not None and not self.start:
            self.start = _SPECIAL_IN_GLOB.split(pattern, maxsplit=1)[0]

    def fits(self, domain: Domain) -> bool:
        """Of one whose name begins with `start`, or that has none where `nameless` allows it."""
        return (
            (self._type is None or domain.type is self._type)
            and (self._role is None or (domain.roles is not None and self._role in domain.roles))
            and all(test(domain.name or "") for test in self._tests)
        )


def _as_pattern(regex: str | re.Pattern[str]) -> re.Pattern[str]:
    if isinstance(regex.pattern if isinstance(regex, re.Pattern) else regex, str):
        return re.compile(regex)
    raise InvalidKey(f"a regex is text, or a compiled one of text, not {regex!r}")
