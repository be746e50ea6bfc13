"""Where things are in the store: the names of keys, and what is under `alive`.

    /domindex/v1/epoch               random, made once: another epoch is another store
    /domindex/v1/alive/<host>        {"i": incarnation, "m": machine-id}; under the lease
    /domindex/v1/host/<host>         the host's record, written in every transaction
    /domindex/v1/dom/<host>/<domid>  a domain

Read after errors.py; next clock.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

from domindex.fleet.errors import Alive, InvalidHost

ROOT: Final = "/domindex/v1/"
EPOCH: Final = ROOT + "epoch"
ALIVE: Final = ROOT + "alive/"
HOST: Final = ROOT + "host/"
DOM: Final = ROOT + "dom/"

_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


def check_host(host: object) -> str:
    """The name, if it can be one. Lower case only: who has `Xen1` publishes as `xen1`.

    Raises:
        TypeError: It is no str.
        InvalidHost: It has other characters than `[a-z0-9.-]`, or too many.
    """
    if not isinstance(host, str):
        raise TypeError(f"a host is a str, not {host!r}")
    if not _HOST_NAME.fullmatch(host):
        raise InvalidHost(
            f"{host!r} cannot name a host: up to 253 of a-z, 0-9, '.' and '-', with a letter or "
            "digit at both ends"
        )
    return host


def check_hosts(hosts: Iterable[str]) -> list[str]:
    """Several names. One str is a mistake: it would be taken for many names of one letter.

    Raises:
        TypeError: It is a str, or has something else than str.
        InvalidHost: As `check_host`.
    """
    if isinstance(hosts, str):
        raise TypeError(f"hosts is a collection of names, not {hosts!r}")
    return [check_host(host) for host in hosts]


def alive_key(host: str) -> str:
    """Where the host's publisher says that it lives."""
    return ALIVE + host


def host_key(host: str) -> str:
    """Where the host's record is."""
    return HOST + host


def dom_prefix(host: str) -> str:
    """Where the host's domains are. The last slash keeps `xen1` apart from `xen10`."""
    return f"{DOM}{host}/"


def dom_key(host: str, domid: int) -> str:
    """Where one domain of the host is."""
    return f"{DOM}{host}/{domid}"


def pack_alive(alive: Alive) -> bytes:
    """The value of the alive key."""
    return json.dumps({"i": alive.incarnation, "m": alive.machine}).encode("ascii")


def unpack_alive(value: bytes) -> Alive | None:
    """What an alive key says; None if that cannot be read. Unknown fields are ignored."""
    try:
        fields = json.loads(value)
        incarnation, machine = fields["i"], fields["m"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not isinstance(incarnation, str) or not isinstance(machine, str):
        return None
    return Alive(incarnation, machine)
