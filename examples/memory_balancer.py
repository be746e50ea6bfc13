"""Share memory out among the guests by what each says that it uses. Prints it, and sets nothing.

    python3 memory_balancer.py --pool 4096 --socket /run/balancer
    (echo 512; cat) | nc -U /run/balancer     # keeps 512 MiB for a guest to come, until Ctrl-C

In the shape of Qubes's qmemmand, and with one poll loop: what happens to guests, what they write
to memory/meminfo and requests are all served by one thread, so nothing here needs a lock.
"""

from __future__ import annotations

import argparse
import contextlib
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
from domindex.testing import SimulatedHost

MEMINFO = "memory/meminfo"  # KiB in use, written by the guest
LEAST = 64  # MiB for a guest that uses hardly any


@dataclass
class Guest:
    domain: Domain
    used: int  # MiB; all that it has, until it has told


class Balancer:
    """Who runs, what each uses, and what is kept for guests to come. All of it in MiB."""

    def __init__(self, index: domindex.Index, pool: int) -> None:
        self.index = index
        self.pool = pool
        self.guests: dict[Life, Guest] = {}  # a domid that is used again is another life
        self.reserved: dict[socket.socket, int] = {}  # for each that is connected
        index.subscribe(self.happened, events=(Added, Removed), threaded=False)

    def happened(self, event: domindex.Event) -> None:
        match event:
            case Added(domain):
                self.follow(domain)
            case Removed(domain):
                self.guests.pop(domain.life, None)
            case Resync(domains):  # we were too slow and missed some: these run now
                running = {domain.life for domain in domains}
                self.guests = {life: self.guests[life] for life in self.guests.keys() & running}
                for domain in domains:
                    self.follow(domain)

    def follow(self, domain: Domain) -> None:
        if domain.life not in self.guests:
            with contextlib.suppress(domindex.NoSuchDomain):  # it ended; Removed comes next
                has = self.index.info(domain.domid).memory >> 20
                self.index.watch(domain, MEMINFO, self.told, threaded=False)
                self.guests[domain.life] = Guest(domain, has)

    def told(self, domain: Domain, value: bytes | None) -> None:
        """A guest wrote what it uses; it may write anything. Ends by itself with the guest."""
        if value is not None and value.isdigit() and len(value) < 16:
            self.guests[domain.life].used = int(value) >> 10

    def ask(self, client: socket.socket, request: bytes) -> bytes:
        """Keep so many MiB until `client` hangs up, if they are there."""
        if not request.strip().isdigit():
            return b"no number\n"
        amount = int(request)
        if sum(self.wants().values()) + sum(self.reserved.values()) + amount > self.pool:
            return b"no\n"
        self.reserved[client] += amount
        return b"ok\n"

    def hung_up(self, client: socket.socket) -> None:
        """The guest was made, or will not be. From one plan to the next it takes its place."""
        with contextlib.suppress(domindex.NotLive, domindex.TimedOut):
            self.index.refresh()
        self.index.dispatch()
        del self.reserved[client]
        client.close()

    def close(self) -> None:
        for client in self.reserved:
            client.close()

    def wants(self) -> dict[Life, int]:
        """What each uses and a third more, for its caches."""
        return {life: max(LEAST, guest.used * 4 // 3) for life, guest in self.guests.items()}

    def plan(self) -> str:
        """All of the pool that is not kept, in proportion to what each wants."""
        wants, kept = self.wants(), sum(self.reserved.values())
        shares = (self.pool - kept) / max(1, sum(wants.values()))
        targets = [
            f"{self.name(self.guests[life].domain)} {want * shares:.0f}"
            for life, want in wants.items()
        ]
        return ", ".join([*targets, f"kept {kept}"])

    def name(self, domain: Domain) -> str:
        """As it is called now, escaped: a name may be anything too."""
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
                    balancer.hung_up(client)
            if (plan := balancer.plan()) != shown:
                shown = plan
                print(plan, flush=True)


def answer(balancer: Balancer, client: socket.socket) -> bool:
    """Serve a request; whether the client is there still."""
    with contextlib.suppress(OSError):
        if request := client.recv(16):
            client.sendall(balancer.ask(client, request))
            return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pool", type=int, default=4096, help="MiB to share out")
    parser.add_argument("--socket", type=Path, help="where to be asked; a new place by default")
    parser.add_argument("--seconds", type=float, default=math.inf, help="end after this long")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        path = args.socket or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "socket"
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        stack.callback(path.unlink)
        listener.listen()
        try:
            index = domindex.connect()
        except domindex.HostError as error:
            print(f"No Xen host can be asked here ({error}), so this is a simulated one.")
            index = simulated(path)
        stack.enter_context(index)
        print(f"asked at {path}", flush=True)
        balancer = stack.enter_context(contextlib.closing(Balancer(index, args.pool)))
        with contextlib.suppress(KeyboardInterrupt):
            serve(balancer, listener, args.seconds)


def simulated(path: Path) -> domindex.Index:
    """A host to try this on: a guest that uses more and less, and one that comes and goes."""
    host = SimulatedHost()

    def uses(guest: int, megabytes: int) -> None:
        host.write(guest, MEMINFO, b"%d" % (megabytes << 10))

    def live() -> None:
        web, db, guests = host.create("web"), host.create("db"), list[int]()
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
    return host.connect()


if __name__ == "__main__":
    main()
