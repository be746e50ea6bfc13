"""Give Prometheus the CPU time and memory of every domain of this host, until Ctrl-C.

A scrape costs one hypercall for all domains.

    pip install prometheus_client
    python3 exporter.py --port 9798 & curl localhost:9798/metrics

Series are labelled by domid and uuid. So a rename breaks none of them, and two domains with one
uuid (both ends of a local migration) do not collide. The names are in domindex_domain_info:

    domindex_domain_memory_bytes * on (domid, uuid) group_left (name) domindex_domain_info
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
from http.server import ThreadingHTTPServer

from domindex.testing import SimulatedHost, connect_or_simulate

try:
    from prometheus_client import CollectorRegistry, MetricsHandler

    from domindex.prometheus import DomainCollector
except ImportError:
    sys.exit("exporter.py needs prometheus_client: pip install prometheus_client")

MAX_AGE = 5.0
"""Seconds for which an answer of Xen is used again. So two scrapers cost no more than one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9798, help="0 takes a free port")
    parser.add_argument("--seconds", type=float, help="end after so many seconds")
    args = parser.parse_args()
    registry = CollectorRegistry()
    handler = MetricsHandler.factory(registry)
    with (
        connect_or_simulate(simulate) as index,
        ThreadingHTTPServer((args.address, args.port), handler) as server,
        contextlib.suppress(KeyboardInterrupt),
    ):
        registry.register(DomainCollector(index, max_age=MAX_AGE))
        if args.seconds is not None:
            threading.Timer(args.seconds, server.shutdown).start()
        print(f"http://{args.address}:{server.server_port}/metrics", flush=True)
        server.serve_forever()


def simulate(host: SimulatedHost) -> None:
    """On a simulated host one guest is renamed again and again."""
    host.create("db", type="pvh")
    web = host.create("web", type="pv", memory=2 << 30, vcpus=2)

    def live() -> None:
        while True:
            time.sleep(0.5)
            host.rename(web, "web" if host.name(web) == b"www" else "www")

    threading.Thread(target=live, daemon=True).start()


if __name__ == "__main__":
    main()
