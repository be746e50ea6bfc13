"""What is written under a host's keys: the host's record and its domains, as ASCII JSON.

    host record  {"v": 1, "i": incarnation, "g": generation, "n": domains, "whole", "state",
                  "m": machine, "b": boot, "ttl": lease in seconds, "age", "why"}
    domain       {"u": uuid, "n": name, "t": type, "l": life, "f": first seen, "s": shutdown,
                  "g": generation, "r": roles}

Unknown fields are ignored. What cannot be read raises `Unreadable`, whatever it is: a value comes
from another machine and may be anything.

Read after states.py; next host_table.py, which keeps what was read.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from domindex.domain import FIRST_RESERVED_DOMID, ROLES, Domain, Life, OSType, ShutdownReason
from domindex.fleet.layout import ALIVE, DOM, HOST, check_host
from domindex.limits import LONGEST

VERSION: Final = 1
_STATES: Final = ("live", "blind", "ended", "offline")
_TYPES: Final = {kind.value: kind for kind in OSType}
_OF_HOSTS: Final = (HOST[:-1], ALIVE[:-1])
_LONGEST_TEXT: Final = 1_000
_SPACES: Final = b" \t\n\r"
# Half the time of `json.loads`, which looks for spaces around. A first load is full of these.
_decode: Final = json.JSONDecoder().raw_decode


class Unreadable(ValueError):
    """A value in the store that means nothing here."""


@dataclass(frozen=True, slots=True)
class HostRecord:
    """What a host says of itself.

    incarnation: of the publisher that wrote it. generation: of its index. domains: how many it
    has. whole: they are all written. state: live, blind, ended (said by itself), offline (said by
    an operator). machine, boot: hashed machine-id, and boot id. ttl: seconds of its lease. age:
    seconds since its index was last whole, when this was written. why: for people.
    """

    incarnation: str
    generation: int
    domains: int
    whole: bool
    state: str
    machine: str = ""
    boot: str = ""
    ttl: float = 0.0
    age: float = 0.0
    why: str = ""


def pack_host(record: HostRecord) -> bytes:
    """The value of a host's record."""
    fields: dict[str, Any] = {
        "v": VERSION,
        "i": record.incarnation,
        "g": record.generation,
        "n": record.domains,
        "whole": record.whole,
        "state": record.state,
        "m": record.machine,
        "b": record.boot,
        "ttl": record.ttl,
    }
    if record.age:
        fields["age"] = record.age
    if record.why:
        fields["why"] = record.why
    return _pack(fields)


def unpack_host(value: bytes) -> HostRecord:
    """What a host's record says. Raises Unreadable."""
    fields = _fields(value)
    version = _int(fields.get("v"))
    if version != VERSION:
        raise Unreadable(f"it is of version {version}, and this reader knows {VERSION}")
    if (state := fields.get("state")) not in _STATES:
        raise Unreadable("it has no state that is known")
    if not isinstance(whole := fields.get("whole"), bool):
        raise Unreadable("it does not say whether it is whole")
    return HostRecord(
        incarnation=_text(fields.get("i")),
        generation=_int(fields.get("g")),
        domains=_int(fields.get("n")),
        whole=whole,
        state=state,
        machine=_text(fields.get("m", "")),
        boot=_text(fields.get("b", "")),
        ttl=_seconds(fields.get("ttl", 0.0)),
        age=_seconds(fields.get("age", 0.0)),
        why=_text(fields.get("why", "")),
    )


def pack_domain(domain: Domain, generation: int) -> bytes:
    """The value of a domain."""
    life: object = domain.life.unique_id
    if life is None:
        life = [
            None if domain.life.uuid is None else domain.life.uuid.hex,
            domain.life.first_seen,
        ]
    fields: dict[str, Any] = {
        "u": domain.uuid.hex,
        "n": domain.name,
        "t": domain.type.value,
        "l": life,
        "f": domain.first_seen,
        "s": None if domain.shutdown is None else int(domain.shutdown),
        "g": generation,
    }
    if domain.roles is not None:
        fields["r"] = domain.roles.value
    return _pack(fields)


def unpack_domain(domid: int, value: bytes) -> Domain:
    """What a domain's value says. Raises Unreadable.

    A first load calls this for each domain of a fleet, so what is as usual is taken the short way.
    """
    fields = _fields(value)
    get = fields.get
    name, life, shutdown, roles = get("n"), get("l"), get("s"), get("r")
    if name is not None and type(name) is not str:
        raise Unreadable("its name is no text")
    kind = get("t")
    if type(kind) is not str:
        raise Unreadable("its type is no text")
    _int(get("g"))
    if roles is not None:
        roles = ROLES[roles] if type(roles) is int and 0 <= roles < len(ROLES) else None
    return Domain(
        domid,
        _uuid(get("u")),
        name,
        _TYPES.get(kind, OSType.UNKNOWN),
        Life(domid, _int(life), None, None) if type(life) is int else _life(domid, life),
        _seconds(get("f")),
        None if shutdown is None else ShutdownReason(_int(shutdown)),
        roles,
    )


def host_of(key: str) -> tuple[str, int | None] | None:
    """The host that a key is about, and the domid if it is of a domain; None for other keys."""
    folder, _, last = key.rpartition("/")
    if (host := _host_of_folder(folder)) is not None:
        return None if (domid := _as_domid(last)) is None else (host, domid)
    if folder in _OF_HOSTS and _can_be_host(last):
        return last, None
    return None


# Keys come host by host, and the domids of hosts are much the same.


@functools.lru_cache(maxsize=1024)
def _host_of_folder(folder: str) -> str | None:
    """The host whose domains are in it."""
    host = folder.removeprefix(DOM)
    return host if host != folder and _can_be_host(host) else None


@functools.lru_cache(maxsize=4096)
def _as_domid(digits: str) -> int | None:
    if not (0 < len(digits) <= 5 and digits.isdecimal() and digits.isascii()):
        return None
    domid = int(digits)
    return None if digits[0] == "0" or domid >= FIRST_RESERVED_DOMID else domid


def _can_be_host(host: str) -> bool:
    try:
        check_host(host)
    except ValueError:
        return False
    return True


def _life(domid: int, life: object) -> Life:
    if not isinstance(life, list) or len(life) != 2:
        raise Unreadable("its life is neither a number nor two parts")
    uuid, first_seen = life
    return Life(domid, None, None if uuid is None else _uuid(uuid), _seconds(first_seen))


def _pack(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode()


def _fields(value: bytes) -> dict[str, Any]:
    try:
        text = value.strip(_SPACES).decode()
        fields, end = _decode(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is no JSON: {error}") from None
    if end != len(text):
        raise Unreadable("it is no JSON: there is more behind its end")
    if not isinstance(fields, dict):
        raise Unreadable("it is no JSON object")
    return fields


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise Unreadable("a text is missing, or too long")
    return value


def _int(value: object) -> int:
    if type(value) is not int or not -1 <= value < 1 << 64:
        raise Unreadable("a number is missing, or none that can be")
    return value


def _seconds(value: object) -> float:
    if type(value) is not float and type(value) is not int:
        raise Unreadable("a time is missing")
    if not -LONGEST <= value <= LONGEST:  # which NaN is not either
        raise Unreadable("a time is none that can be")
    return float(value)


def _uuid(value: object) -> UUID:
    if not isinstance(value, str) or len(value) != 32:
        raise Unreadable("its uuid is none")
    try:
        return UUID(bytes=bytes.fromhex(value))  # it knows no braces and no underscores
    except ValueError:
        raise Unreadable("its uuid is none") from None
