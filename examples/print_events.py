"""Print what happens to the guests of this host, and to the connection to it, until Ctrl-C.

python3 print_events.py
python3 print_events.py --name 'web-*' --seconds 60
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import threading
import time
from fnmatch import fnmatchcase

import domindex
from domindex import (
    Added,
    Lost,
    Ready,
    Rebooted,
    Recovered,
    Removed,
    Renamed,
    ShutDown,
    Synced,
    printable,
)
from domindex.testing import SimulatedHost

SHOWN = (Added, Ready, Renamed, ShutDown, Rebooted, Removed, Synced, Lost, Recovered)

REBOOT_GRACE = 5.0
"""A guest that ends and starts again within so many seconds is one Rebooted event."""


def show(event: domindex.Event) -> None:
    """Print a line for an event. Names are escaped, so none can control the terminal."""
    match event:
        case Added(domain):
            line = f"{domain.printable} runs, as domain {domain.domid}"
        case Ready(domain):
            line = f"{domain.printable} is ready"
        case Renamed(old, new):
            line = f"{old.printable} was renamed to {new.printable}"
        case ShutDown(domain, reason):
            line = f"{domain.printable} stopped: {reason.name.lower()}"
        case Rebooted(old, new):
            line = f"{new.printable} rebooted: domain {old.domid} is {new.domid} now"
        case Removed(domain, reason):
            why = "destroyed while it ran" if reason is None else reason.name.lower()
            line = f"{domain.printable} is gone: {why}"
        case Lost(cause):
            line = f"-- the connection to the host is down: {printable(str(cause))}"
        case Recovered(downtime):
            line = f"-- it is back after {downtime:.1f} s; the changes meanwhile are above"
        case _:
            line = "-- these were running already; new events follow"
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--name", default="*", help="only guests with such a name (a shell pattern)"
    )
    parser.add_argument("--seconds", type=float, help="end after so many seconds")
    args = parser.parse_args()
    try:
        index = domindex.connect()
    except domindex.HostError as error:
        print(f"No Xen host can be used here ({error}). This is a simulated one.")
        index = simulated()
    with index, contextlib.suppress(KeyboardInterrupt):
        index.subscribe(
            show,  # called in a thread of its own
            events=SHOWN,
            where=lambda domain: fnmatchcase(domain.name or "", args.name),
            reboot_grace=REBOOT_GRACE,
        )
        threading.Event().wait(args.seconds)  # the other work of your program


def simulated() -> domindex.Index:
    """A simulated host on which a guest starts, is renamed, reboots, crashes and ends."""
    host = SimulatedHost()

    def live() -> None:
        for number in itertools.count(1):
            guest = host.create(f"web-{number}", type="pvh")
            time.sleep(0.3)
            host.rename(guest, f"www-{number}")
            time.sleep(0.3)
            guest = host.reboot(guest)
            time.sleep(0.3)
            host.crash(guest)
            time.sleep(0.3)
            host.destroy(guest)

    threading.Thread(target=live, daemon=True).start()
    return host.connect()


if __name__ == "__main__":
    main()
