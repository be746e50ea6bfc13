"""The program behind `domindex-exporter.service`: the metrics of this host over HTTP.

    python3 -m domindex.exporter --port 9798 & curl localhost:9798/metrics

`domindex.prometheus` says which metrics there are. While xenstored is down they are still served,
with `domindex_live 0`. Where there is no Xen host the program ends with status 3 and says why: it
never shows a simulated one.

Read after prometheus.py.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
from collections.abc import Sequence
from http.server import ThreadingHTTPServer
from typing import Final

from domindex.errors import HostError
from domindex.opening import connect
from domindex.ports import Host

try:
    from prometheus_client import CollectorRegistry, MetricsHandler

    from domindex.prometheus import DomainCollector
except ImportError:
    sys.exit(
        "domindex.exporter needs prometheus_client "
        "(Debian: apt install python3-prometheus-client; Fedora: python3-prometheus_client)"
    )

_MAX_AGE: Final = 5.0
"""Seconds for which an answer of Xen is used again, so that two scrapers cost no more than one."""

_PATIENCE: Final = 10.0
"""Seconds that a client may take for its request, so that a silent one holds no thread for long."""


def main(argv: Sequence[str] | None = None, host: Host | None = None) -> int:
    """Serve until Ctrl-C, or SIGINT.

    Args:
        argv: The arguments after the name of the program. None takes those of this process.
        host: The host, for tests. None is the one that this runs on.

    Returns:
        The exit status: 0, or 3 if there is no Xen host or the address cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="python3 -m domindex.exporter",
        description="Serve metrics of the Xen domains of this host to Prometheus.",
    )
    parser.add_argument("--address", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=9798, help="default: %(default)s; 0: any")
    args = parser.parse_args(argv)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            _serve(args.address, args.port, host)
    except (HostError, OSError, OverflowError) as error:  # the last: no such port
        print(f"domindex.exporter: {error}", file=sys.stderr)
        return 3
    return 0


def _serve(address: str, port: int, host: Host | None) -> None:
    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

    class Handler(MetricsHandler):
        registry = CollectorRegistry()
        timeout = _PATIENCE

    with Server((address, port), Handler) as server, connect(host) as index:
        Handler.registry.register(DomainCollector(index, max_age=_MAX_AGE))
        place = f"[{address}]" if ":" in address else address
        print(f"http://{place}:{server.server_port}/metrics", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
