"""What is at an endpoint: an etcd, and which version; or else what is wrong.

Asked by HTTP, at the port of the clients: etcd tells anybody its version there, while its status is
for root alone once there are rights. Python's own TLS also says what is wrong with a certificate,
which gRPC does not.

Read after versions.py; next members.py.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
import time
from typing import Final

from domindex.fleet.errors import EngineDenied, LineLost, UnfitEngine
from domindex.fleet.etcd.versions import Version, parse_version
from domindex.fleet.url import Endpoint, Tls

_REQUEST: Final = "GET /version HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n"
_MOST: Final = 65536
"""Bytes of an answer that are read. etcd's has some 200."""
_TICKET: Final = 0.2


def version_of(endpoint: Endpoint, tls: Tls | None, timeout: float) -> Version | None:
    """The version of the etcd there. None: somebody takes the line and speaks no HTTP, as etcd does
    at a port that is for gRPC alone.

    Raises:
        LineLost: Nobody answers.
        EngineDenied: The certificates do not fit, or there are none where they are needed.
        UnfitEngine: Somebody else answers.
    """
    context = None if tls is None else _context(tls)
    try:
        answer = _asked(endpoint, context, time.monotonic() + timeout)
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError, BrokenPipeError):
        return None
    except ssl.SSLError as error:
        raise EngineDenied(
            f"etcd at {endpoint}: the certificates do not fit, or it wants none: {error}"
        ) from error
    except TimeoutError as error:
        raise LineLost(f"no etcd can be reached at {endpoint}: no answer in time") from error
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that DNS cannot have
        raise LineLost(f"no etcd can be reached at {endpoint}: {error}") from error
    if not answer.startswith(b"HTTP/"):
        return None
    if b"HTTPS server" in answer:
        raise EngineDenied(f"etcd at {endpoint} wants certificates: give them with tls=")
    if (version := _version(answer)) is None:
        raise UnfitEngine(
            f"{endpoint} is no etcd, or its gRPC proxy, which never tells progress: name the "
            "members themselves"
        )
    return version


def _asked(endpoint: Endpoint, context: ssl.SSLContext | None, deadline: float) -> bytes:
    host = endpoint.host.strip("[]")
    with socket.create_connection((host, endpoint.port), _left(deadline)) as plain:
        line = plain if context is None else context.wrap_socket(plain, server_hostname=host)
        with line:
            if isinstance(line, ssl.SSLSocket):
                _hear_refusal(line, deadline)
            line.settimeout(_left(deadline))
            line.sendall(_REQUEST.format(endpoint).encode())
            answer = b""
            while len(answer) < _MOST:
                line.settimeout(_left(deadline))
                if not (more := line.recv(_MOST)):
                    break
                answer += more
            return answer


def _hear_refusal(line: ssl.SSLSocket, deadline: float) -> None:
    # With TLS 1.3 a server looks at our certificate after our handshake is done. What it says then
    # is lost once we have written to the line that it closes. If it accepts, it sends a ticket.
    poll = select.poll()
    poll.register(line, select.POLLIN)
    poll.poll(1000 * min(_TICKET, _left(deadline)))
    line.settimeout(0)
    with contextlib.suppress(ssl.SSLWantReadError):
        line.recv(1)


def _left(deadline: float) -> float:
    if (left := deadline - time.monotonic()) <= 0:
        raise TimeoutError
    return left


def _version(answer: bytes) -> Version | None:
    # {"etcdserver":"3.5.30","etcdcluster":"3.5.0"}
    said = re.match(rb'HTTP/1\.[01] 200 .*"etcdserver" *: *"([^"]*)"', answer, re.DOTALL)
    return None if said is None else parse_version(said[1].decode("ascii", "replace"))


def _context(tls: Tls) -> ssl.SSLContext:
    tls.read()  # says which file cannot be read
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.cert is not None and tls.key is not None:
            context.load_cert_chain(tls.cert, tls.key)
    except (ssl.SSLError, OSError) as error:
        raise EngineDenied(f"the certificates cannot be used: {error}") from error
    return context
