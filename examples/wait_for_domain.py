"""Wait until a domain with that name is ready, then until it is gone, and print why it ended.

    python3 wait_for_domain.py NAME && echo "it started and ended"

Ready means that it runs under its final name and is not still migrating in. The second wait is for
the end of that very domain. Another one with the same name or domid does not count.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import threading
import time

import domindex
from domindex.testing import SimulatedHost


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="time limit of each of the two waits"
    )
    args = parser.parse_args()
    name = os.fsencode(args.name)  # as bytes: the locale may not be UTF-8
    try:
        index = domindex.connect()
    except domindex.HostError as error:
        print(f"No Xen host can be used here ({error}). This is a simulated one.")
        index = simulated(name)
    with index:
        try:
            domain = index.wait_for(name=name, ready=True, timeout=args.seconds)
            print(f"{domain.printable} is domain {domain.domid}: {domain.type}, {domain.uuid}")
            sys.stdout.flush()
            gone = index.wait_gone(domain, timeout=args.seconds)
        except (domindex.TimedOut, domindex.Ambiguous, domindex.NotLive) as error:
            print(error)
            return 1
        except KeyboardInterrupt:
            return 130
    print(f"{domain.printable} is gone: {why(gone)}")
    return 0


def why(gone: domindex.Removed) -> str:
    if gone.reason is not None:
        return gone.reason.name.lower()
    return "reason unknown" if gone.inferred else "destroyed while it ran"


def simulated(name: bytes) -> domindex.Index:
    """A simulated host, where a guest with that name migrates in, runs and powers off."""
    host = SimulatedHost()

    def live() -> None:
        time.sleep(0.5)
        guest = host.create(name + b"--incoming", type="pvh")
        time.sleep(0.5)
        host.rename(guest, name)
        time.sleep(0.5)
        host.shutdown(guest, domindex.ShutdownReason.POWEROFF)
        time.sleep(0.5)
        host.destroy(guest)

    threading.Thread(target=live, daemon=True).start()
    return host.connect()


if __name__ == "__main__":
    sys.exit(main())
