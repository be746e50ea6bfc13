"""Where the engine of a fleet is: `etcd://a:2379,b:2379,c:2379`, and certificates for it.

Read after errors.py; next etcd/wire.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from domindex.fleet.errors import EngineDenied, InvalidUrl

PORT: Final = 2379

_ENDPOINT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?")


class Endpoint(NamedTuple):
    """One member of an engine."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates, as files in PEM form. They are read for each new line.

    Attributes:
        ca: Who vouches for the servers. None: whom gRPC knows of by itself.
        cert: Our own certificate. Its common name is the user that etcd knows.
        key: The key to it.
    """

    ca: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key are given both, or neither")

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """The contents: ca, key, cert. Raises EngineDenied for a file that cannot be read."""
        try:
            ca, key, cert = (
                None if name is None else Path(name).read_bytes()
                for name in (self.ca, self.key, self.cert)
            )
        except OSError as error:
            raise EngineDenied(f"a certificate cannot be read: {error}") from error
        for name, content in ((self.ca, ca), (self.key, key), (self.cert, cert)):
            if content is not None and b"-----BEGIN " not in content:
                raise EngineDenied(f"{name} is no PEM file")
        return ca, key, cert


def parse_url(url: str) -> tuple[Endpoint, ...]:
    """The members that a URL names, each once.

    Raises:
        TypeError: It is no str.
        InvalidUrl: It is no `etcd://HOST[:PORT][,HOST[:PORT]...]`.
    """
    if not isinstance(url, str):
        raise TypeError(f"a URL is a str, not {url!r}")
    scheme, mark, rest = url.partition("://")
    form = "etcd://HOST:PORT,HOST:PORT"
    if not mark or scheme != "etcd":
        raise InvalidUrl(f"{_shown(url)} names no engine: write {form}")
    if "@" in rest:
        raise InvalidUrl(
            f"no user and password in a URL: certificates (tls=) say who we are; {form}"
        )
    found: dict[Endpoint, None] = {}
    for part in rest.removesuffix("/").split(","):
        match = _ENDPOINT.fullmatch(part)
        port = int(match["port"] or PORT) if match else 0
        if match is None or not 0 < port < 65536:
            raise InvalidUrl(f"{part!r} in {_shown(url)} is no HOST:PORT: write {form}")
        found[Endpoint(match["host"].lower(), port)] = None
    return tuple(found)


def _shown(url: str) -> str:
    # Whatever stands before an @ may be a password, and an error may be logged.
    return repr(re.sub(r"[^/]*@", "...@", url))
