"""Divide memory among the guests by what each reports to use. Prints the plan, changes nothing.

Domain-0 is no guest: it has no share of the pool.

    python3 memory_balancer.py --pool 4096 --socket /run/balancer
    (echo 512; cat) | nc -U /run/balancer     # reserves 512 MiB for a new guest, until Ctrl-C

It works like qmemman of Qubes OS, with one poll loop: events of guests, what they write to
memory/meminfo and requests are all handled by one thread, so nothing here needs a lock.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import selectors
import socket
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import domindex
from domindex import Added, Domain, Life, Removed, Resync
from domindex.testing import SimulatedHost, connect_or_simulate

MEMINFO = "memory/meminfo"  # KiB in use, written by the guest
LEAST = 64  # MiB that every guest gets


@dataclass
class Guest:
    domain: Domain
    used: int  # MiB; all that it has, until it reports


class Balancer:
    """The guests, what each uses, and what is reserved for new ones. All in MiB."""

    def __init__(self, index: domindex.Index, pool: int) -> None:
        self.index = index
        self.pool = pool
        self.guests: dict[Life, Guest] = {}  # a life: a domid may be used again
        self.reserved: dict[socket.socket, int] = {}  # for each client
        index.subscribe(self.on_event, events=(Added, Removed), threaded=False)

    def on_event(self, event: domindex.Event) -> None:
        match event:
            case Added(domain):
                self.follow(domain)
            case Removed(domain):
                self.guests.pop(domain.life, None)
            case Resync(domains):  # we were too slow and events were dropped: these run now
                running = {domain.life for domain in domains}
                self.guests = {life: self.guests[life] for life in self.guests.keys() & running}
                for domain in domains:
                    self.follow(domain)

    def follow(self, domain: Domain) -> None:
        if domain.domid != 0 and domain.life not in self.guests:
            # As long as the index does not change, one hypercall will do for all guests.
            info = self.index.infos(max_age=1.0).get(domain.domid)
            with contextlib.suppress(domindex.NoSuchDomain):  # it has just ended
                self.index.watch(domain, MEMINFO, self.on_meminfo, threaded=False)
                has = LEAST if info is None else info.memory >> 20
                self.guests[domain.life] = Guest(domain, has)

    def on_meminfo(self, domain: Domain, value: bytes | None) -> None:
        """A guest has written what it uses, or anything else. The watch ends with the guest."""
        if value is not None and value.isdigit() and len(value) < 16:
            self.guests[domain.life].used = int(value) >> 10

    def reserve(self, client: socket.socket, request: bytes) -> bytes:
        """Reserve so many MiB, if they are there, until `client` disconnects."""
        if not request.strip().isdigit():
            return b"not a number\n"
        amount = int(request)
        ended = sum(info.memory for info in self.index.dying()) >> 20  # not yet free again
        taken = sum(self.wants().values()) + sum(self.reserved.values()) + ended
        if taken + amount > self.pool:
            return b"no\n"
        self.reserved[client] += amount
        return b"ok\n"

    def disconnected(self, client: socket.socket) -> None:
        """The guest was made, or will not be: end the reservation.

        The refresh comes first, so that the new guest is in the same plan that drops it.
        """
        with contextlib.suppress(domindex.NotLive, domindex.TimedOut):
            self.index.refresh()
        self.index.dispatch()
        del self.reserved[client]
        client.close()

    def close(self) -> None:
        for client in self.reserved:
            client.close()

    def wants(self) -> dict[Life, int]:
        """For each guest what it uses, and a third more for its caches."""
        return {life: max(LEAST, guest.used * 4 // 3) for life, guest in self.guests.items()}

    def plan(self) -> str:
        """Divide what is not reserved of the pool, in proportion to what each wants."""
        wants, reserved = self.wants(), sum(self.reserved.values())
        shares = (self.pool - reserved) / max(1, sum(wants.values()))
        targets = [
            f"{self.name(self.guests[life].domain)} {want * shares:.0f}"
            for life, want in wants.items()
        ]
        return ", ".join([*targets, f"reserved {reserved}"])

    def name(self, domain: Domain) -> str:
        """Its name now, escaped: a name may hold any character."""
        return self.index.domids.get(domain.domid, domain).printable


def serve(balancer: Balancer, listener: socket.socket, seconds: float) -> None:
    """The one loop of this program."""
    shown = ""
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as poll:
        poll.register(balancer.index, selectors.EVENT_READ)
        poll.register(listener, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in poll.select(min(left, 3600)):
                if key.fileobj is balancer.index:
                    balancer.index.dispatch()
                elif key.fileobj is listener:
                    client, _ = listener.accept()
                    balancer.reserved[client] = 0
                    poll.register(client, selectors.EVENT_READ, client)
                elif not answer(balancer, client := key.data):
                    poll.unregister(client)
                    balancer.disconnected(client)
            if (plan := balancer.plan()) != shown:
                shown = plan
                print(plan, flush=True)


def answer(balancer: Balancer, client: socket.socket) -> bool:
    """Answer a request. False if the client has disconnected."""
    with contextlib.suppress(OSError):
        if request := client.recv(16):
            client.sendall(balancer.reserve(client, request))
            return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pool", type=int, default=4096, help="MiB to divide")
    parser.add_argument("--socket", type=Path, help="path for requests (default: a new directory)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="end after so many seconds")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        path = args.socket or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "socket"
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        stack.callback(path.unlink)
        listener.listen()
        index = stack.enter_context(connect_or_simulate(functools.partial(simulate, path)))
        print(f"listening at {path}", flush=True)
        balancer = stack.enter_context(contextlib.closing(Balancer(index, args.pool)))
        with contextlib.suppress(KeyboardInterrupt):
            serve(balancer, listener, args.seconds)


def simulate(path: Path, host: SimulatedHost) -> None:
    """On a simulated host one guest uses more and less memory, another starts and ends."""

    def uses(guest: int, megabytes: int) -> None:
        host.write(guest, MEMINFO, b"%d" % (megabytes << 10))

    def live() -> None:
        web, db = (host.create(name, memory=1 << 30) for name in ("web", "db"))
        guests = list[int]()
        uses(db, 300)
        while True:
            uses(web, 300)
            time.sleep(0.3)
            uses(web, 900)
            time.sleep(0.3)
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as toolstack:
                toolstack.connect(str(path))
                toolstack.sendall(b"1024\n")
                if toolstack.recv(16) == b"ok\n":
                    guests.append(host.create("mail"))
                    uses(guests[-1], 600)
            time.sleep(0.3)
            while guests:
                host.destroy(guests.pop())

    threading.Thread(target=live, daemon=True).start()


if __name__ == "__main__":
    main()
