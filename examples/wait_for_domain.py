"""Wait until a domain with that name is ready, then until it is gone, and print why it ended.

    python3 wait_for_domain.py NAME && echo "it started and ended"

Ready means that it runs under its final name and is not still migrating in. The second wait is for
the end of that very domain. Another one with the same name or domid does not count.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import sys
import threading
import time

import domindex
from domindex.testing import SimulatedHost, connect_or_simulate


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="time limit of each of the two waits"
    )
    args = parser.parse_args()
    name = os.fsencode(args.name)  # as bytes: the locale may not be UTF-8
    with connect_or_simulate(functools.partial(simulate, name)) as index:
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
    """Why it ended, as far as the index knows.

    There is no reason if the domain was destroyed while it ran. There is none either if it stopped
    and was gone before the index looked again, or while the connection was down (`inferred`).
    """
    return "no reason was seen" if gone.reason is None else gone.reason.name.lower()


def simulate(name: bytes, host: SimulatedHost) -> None:
    """On a simulated host a guest with that name migrates in, runs and powers off."""

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


if __name__ == "__main__":
    sys.exit(main())
