"""Run a program each time a domain with that name is ready, until Ctrl-C.

    python3 hook.py web /usr/local/sbin/web-is-up
    python3 hook.py 'web-*' -- sh -c 'echo "$DOMAIN_NAME is domain $DOMAIN_ID"'

It runs once for each life of the domain: again after a reboot, and when a domain that is ready gets
that name for the first time. Domains that are ready when this starts count too, unless --new is
given. Ready means that the domain runs under its final name, and is not being made or migrated in.

The program finds DOMAIN_NAME, DOMAIN_ID, DOMAIN_UUID and DOMAIN_TYPE in its environment. They are
never pasted into a command line: a name may hold any character. Programs run one after another, in
the order in which the domains became ready. One that fails is logged.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import logging
import os
import subprocess
import threading
import time

import domindex
from domindex import Domain, Life, Ready, Removed, Resync
from domindex.testing import SimulatedHost, connect_or_simulate

log = logging.getLogger("hook")


class Hook:
    """Runs `command` once for each life that is ready. One thread calls `on_event`: no lock."""

    def __init__(self, command: list[str], pattern: str, timeout: float) -> None:
        self.command = command
        self.pattern = pattern
        self.timeout = timeout
        self.done: set[Life] = set()  # a life, since a domid may be used again

    def matches(self, domain: Domain) -> bool:
        return fnmatch.fnmatchcase(domain.name or "", self.pattern)

    def on_event(self, event: domindex.Event) -> None:
        match event:
            case Ready(domain):
                self.run_once(domain)
            case Removed(domain):
                self.done.discard(domain.life)
            case Resync(domains):  # programs took too long and events were dropped: these run now
                self.done &= {domain.life for domain in domains}
                for domain in domains:
                    if domain.ready:
                        self.run_once(domain)

    def run_once(self, domain: Domain) -> None:
        if domain.life in self.done:
            return
        self.done.add(domain.life)
        facts = {
            b"DOMAIN_NAME": (domain.name or "").encode("utf-8", "surrogateescape"),
            b"DOMAIN_ID": b"%d" % domain.domid,
            b"DOMAIN_UUID": str(domain.uuid).encode(),
            b"DOMAIN_TYPE": domain.type.encode(),
        }
        log.info("%s (domain %d) is ready", domain.printable, domain.domid)
        try:
            subprocess.run(
                self.command,
                env={**os.environb, **facts},
                stdin=subprocess.DEVNULL,
                timeout=self.timeout,
                check=True,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            # ValueError: the name has a NUL in it, and no environment can hold that.
            log.error("for %s (domain %d): %s", domain.printable, domain.domid, error)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", metavar="NAME", help="the name, or a shell pattern")
    parser.add_argument("command", metavar="COMMAND", nargs="+", help="the program, its arguments")
    parser.add_argument("--new", action="store_true", help="not for domains that are ready now")
    parser.add_argument(
        "--timeout", type=float, default=60.0, help="seconds after which a program is killed"
    )
    parser.add_argument("--seconds", type=float, help="end after so many seconds")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(levelname)s: %(message)s")
    hook = Hook(args.command, args.name, args.timeout)
    with connect_or_simulate(simulate) as index, contextlib.suppress(KeyboardInterrupt):
        index.subscribe(
            hook.on_event,
            events=(Ready, Removed),
            where=hook.matches,
            replay=not args.new,
        )
        threading.Event().wait(args.seconds)


def simulate(host: SimulatedHost) -> None:
    """On a simulated host: `web` runs, `db` migrates in, is renamed, reboots; and so on."""
    host.create("web")

    def live() -> None:
        while True:
            time.sleep(0.3)
            guest = host.create("db--incoming")
            time.sleep(0.3)
            host.rename(guest, "db")
            time.sleep(0.3)
            guest = host.reboot(guest)
            time.sleep(0.3)
            host.destroy(guest)

    threading.Thread(target=live, daemon=True).start()


if __name__ == "__main__":
    main()
