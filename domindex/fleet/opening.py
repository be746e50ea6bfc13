"""From a URL to an engine: the one file that knows which engines there are.

Read after etcd/engine.py.
"""

from __future__ import annotations

from domindex.fleet.ports import TIMEOUT, Engine
from domindex.fleet.url import Tls, parse_url
from domindex.limits import as_seconds


def open_engine(
    where: str | Engine, *, tls: Tls | None = None, timeout: float | None = TIMEOUT
) -> Engine:
    """The engine that a URL names. Nothing is sent: the first call does.

    Args:
        where: A URL, or an engine, which is returned as it is.
        tls: Certificates. None: the line is neither secret nor proven.
        timeout: Seconds for each request.

    Raises:
        InvalidUrl: As `parse_url`.
        ImportError: The extra `fleet` is not installed.
    """
    if isinstance(where, Engine) and not isinstance(where, type):
        return where
    if not isinstance(where, str):
        raise TypeError(f"an engine is a URL such as 'etcd://a:2379', or an Engine, not {where!r}")
    endpoints = parse_url(where)
    limit = as_seconds(timeout)
    if tls is not None and not isinstance(tls, Tls):
        raise TypeError(f"tls is a Tls(ca, cert, key) or None, not {tls!r}")
    try:
        from domindex.fleet.etcd.engine import EtcdEngine
    except ImportError as error:
        raise ImportError(
            f"etcd needs more packages: pip install grpcio 'aetcd>=1.0,<2' ({error})"
        ) from error
    return EtcdEngine(endpoints, tls, limit)
