"""What a caller gives for a key, as the index keeps it: a name, a uuid, a domid or a record.

Read after domain.py and errors.py; next events.py.
"""

from __future__ import annotations

import contextlib
import re
from typing import Final, NamedTuple
from uuid import UUID

from domindex.domain import FIRST_RESERVED_DOMID, Domain, OSType
from domindex.errors import InvalidKey

_PATH: Final = re.compile(r"[A-Za-z0-9_@-]+(/[A-Za-z0-9_@-]+)*")  # docs/misc/xenstore.txt
_LONGEST: Final = 1000  # with /local/domain/N before it: oxenstored takes no path above 1,024


def decode_name(raw: bytes) -> str:
    """The bytes of a name in xenstore, as text. Encoding it again gives the same bytes.

    NULs at the end are left out: a tool that writes the whole C string leaves one there.
    """
    return raw.rstrip(b"\0").decode("utf-8", "surrogateescape")


def as_name(name: object) -> str:
    """A name given as str or bytes, as text without NULs at its end.

    Raises:
        InvalidKey: It is neither str nor bytes.
    """
    return as_text(name).rstrip("\0")


def as_text(name: object) -> str:
    """A part of a name, or the bound of a range of names, as text. NULs at its end stay.

    Raises:
        InvalidKey: It is neither str nor bytes.
    """
    if isinstance(name, str):
        return name
    if isinstance(name, bytes):
        return name.decode("utf-8", "surrogateescape")
    raise InvalidKey(f"a name is str or bytes, not {type(name).__name__}")


def as_uuid(uuid: object) -> UUID:
    """A uuid given as UUID, as text in any form that `uuid.UUID` reads, or as 16 bytes.

    Bytes are in the order of the text, as in the hypervisor's handle.

    Raises:
        InvalidKey: It is none of these.
    """
    try:
        if isinstance(uuid, UUID):
            return uuid
        if isinstance(uuid, str):
            return UUID(uuid.strip())
        if isinstance(uuid, (bytes, bytearray)):
            return UUID(bytes=bytes(uuid))
    except ValueError as error:
        raise InvalidKey(f"{uuid!r} is not a uuid: {error}") from None
    raise InvalidKey(f"a uuid is UUID, str or 16 bytes, not {type(uuid).__name__}")


def as_domid(domid: object) -> int:
    """A domid given as int, checked: 0 to 0x7FEF.

    Text is refused, also when it is all digits: a domain may be *named* 42.

    Raises:
        InvalidKey: It is not an int, or outside that range.
    """
    if not isinstance(domid, int) or isinstance(domid, bool):
        raise InvalidKey(f"a domid is int, not {type(domid).__name__}")
    if not 0 <= domid < FIRST_RESERVED_DOMID:
        raise InvalidKey(f"domid {domid} is outside 0..{FIRST_RESERVED_DOMID - 1}")
    return domid


class Typed(NamedTuple):
    """What a text may mean that a user typed. A field is None if the text cannot mean that."""

    name: str | None
    uuid: UUID | None
    domid: int | None


def as_typed(text: object) -> Typed:
    """Read a text that a user typed: `name:web`, `uuid:...`, `id:7`, or one of them alone.

    Text alone may always be a name. Up to five digits may be a domid as well, and what reads as a
    uuid may be a uuid.

    Raises:
        InvalidKey: It is no str, or what follows `uuid:` or `id:` is none.
    """
    if not isinstance(text, str):
        raise InvalidKey(f"the text that a user typed is str, not {type(text).__name__}")
    kind, _, rest = text.partition(":")
    if kind == "name" and kind != text:
        return Typed(as_name(rest), None, None)
    if kind == "uuid" and kind != text:
        return Typed(None, as_uuid(rest), None)
    if kind == "id" and kind != text:
        if not _is_number(rest):
            raise InvalidKey(f"{text[:40]!r} is no domid: up to five digits follow 'id:'")
        return Typed(None, None, as_domid(int(rest)))
    uuid = None
    with contextlib.suppress(ValueError):
        uuid = UUID(text)
    return Typed(as_name(text), uuid, int(text) if _is_number(text) else None)


def _is_number(text: str) -> bool:
    # `isdigit` alone takes digits of every script, and `int` reads any length of them.
    return text.isascii() and text.isdigit() and len(text) <= 5


def as_record(domain: object) -> Domain:
    """A record of a domain, which stands for its life.

    Raises:
        InvalidKey: It is anything else, such as a name.
    """
    if not isinstance(domain, Domain):
        raise InvalidKey(f"a life is given by its Domain record, not {type(domain).__name__}")
    return domain


def as_node(domid: int, path: object) -> bytes:
    """The whole path of a node that is given by its path below /local/domain/N.

    Raises:
        InvalidKey: It is no such path.
    """
    if not isinstance(path, str) or not _PATH.fullmatch(path) or len(path) > _LONGEST:
        raise InvalidKey(
            f"{path!r} is no path below /local/domain/N: letters, digits, -_@, and slashes"
        )
    return f"/local/domain/{domid}/{path}".encode()


def as_type(type: str) -> OSType:
    """An `OSType`, or its word.

    Raises:
        InvalidKey: There is no such type.
    """
    try:
        return OSType(type)
    except ValueError:
        raise InvalidKey(f"a type is one of {', '.join(OSType)}, not {type!r}") from None
