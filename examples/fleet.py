"""Three simulated hosts in one fleet: a migration, a host that is killed, the answers meanwhile.

    python3 fleet.py             # starts an etcd of its own, as `make fleet` does
    python3 fleet.py etcd://a:2379,b:2379,c:2379    # an etcd that runs, and holds no fleet yet

Where no etcd can be started the store is in memory. With etcd, xen3 is a process of its own, which
is killed by SIGKILL; in memory all three hosts are in this process.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

import local_etcd

import domindex
import domindex.fleet
from domindex.fleet import FleetEvent, HostEvent, HostLive, HostLost, Moved
from domindex.fleet.memory import MemoryStore
from domindex.fleet.ports import Engine
from domindex.testing import SimulatedHost

HOSTS = ("xen1", "xen2", "xen3")
LEASE = 3.0
DB = uuid.UUID("d8f5a6a2-0f5d-4f43-9e26-5b1c8f5d7a10")
"""A guest of xen3, which is still there when its host returns."""

_Event = TypeVar("_Event", bound=FleetEvent)
Where = Callable[[], str | Engine]
"""What `publish` and `connect` take: an URL, or a line to the store in memory."""


@contextlib.contextmanager
def published(where: Where, name: str) -> Iterator[tuple[SimulatedHost, domindex.fleet.Publisher]]:
    """A simulated host, its index and the publisher of that."""
    with SimulatedHost() as host:
        if name == "xen3":
            host.create("db", uuid=DB)
        with (
            host.connect() as index,
            domindex.fleet.publish(
                index,
                where(),
                host=name,
                machine=f"example-{name}",  # else all would be this machine
                lock=False,
                ttl=LEASE,
            ) as publisher,
        ):
            yield host, publisher


class Xen3:
    """The host that is killed. It runs in a process of its own, if the store is not in memory."""

    def __init__(self, where: Where, stack: contextlib.ExitStack) -> None:
        self._where = where
        self._stack = stack

    def start(self) -> None:
        """Have it published."""
        url = self._where()
        if isinstance(url, str):
            command = [sys.executable, __file__, "--host", "xen3", url]
            self._process = self._stack.enter_context(local_etcd.program(command))
            self._stack.callback(self._end, self._process)
        else:
            _, self._publisher = self._stack.enter_context(published(self._where, "xen3"))

    def kill(self) -> str:
        """End it without a word to the store; how."""
        if isinstance(self._where(), str):
            self._process.kill()
            return f"process {self._process.pid}, by SIGKILL"
        self._publisher.abandon()
        return "its publisher stops without a word, as if it were killed"

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Have it give its host up, as the end of its stdin tells it to."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=10)


def show(where: Where, stack: contextlib.ExitStack, *, cleans_up: bool) -> None:
    """What happens to three hosts, and what a reader says of it."""
    fleet = stack.enter_context(domindex.fleet.connect(where(), timeout=5))
    if len(fleet.hosts):
        sys.exit(f"this store has hosts already ({', '.join(fleet.hosts)}): name an empty one")
    if cleans_up:
        stack.callback(forget_all, fleet)
    kinds = (domindex.Added, HostLive, HostLost, Moved)
    events = stack.enter_context(fleet.events(events=kinds))

    def told(kind: type[_Event]) -> _Event:
        """The next event of that kind. There is no order between events of several hosts."""
        while not isinstance(event := events.get(timeout=20), kind):
            pass
        return event

    def ask(name: str) -> None:
        """Print the answer: a record, that there is none, or that nobody can tell."""
        try:
            found = fleet.by_name(name)
            print(f"  {name}: domain {found.domain.domid} on {found.host} ({found.state})")
        except (domindex.NoSuchDomain, domindex.NotLive, domindex.Ambiguous) as error:
            print(f"  {name}: {error}")

    (xen1, _), (xen2, _) = (
        stack.enter_context(published(where, name)) for name in ("xen1", "xen2")
    )
    xen3 = Xen3(where, stack)
    xen3.start()
    for _ in HOSTS:
        print(f"{told(HostLive).host} is published")
    ask("db")

    web = uuid.uuid4()
    source = xen1.create("web", uuid=web)
    print(f"a guest starts on {told(HostEvent).host}:")
    ask("web")

    print("it migrates to xen2:")
    target = xen2.create("web--incoming", uuid=web)
    while len(fleet.all_by_uuid(web)) < 2:
        fleet.refresh()
    try:
        fleet.by_uuid(web)
    except domindex.Ambiguous as error:
        print(f"  meanwhile: {error}")
    print(f"  with settled=True: {fleet.by_uuid(web, settled=True).host}")
    xen1.destroy(source)
    xen2.rename(target, "web")
    moved = told(Moved)
    print(f"  one event: it moved from {moved.old.host} to {moved.new.host}")
    ask("web")

    print(f"xen3 is killed: {xen3.kill()}. Until its lease has run out nobody can know:")
    ask("db")
    lost = told(HostLost)
    print(f"{lost.host} is lost: {lost.reason}. What it said last is kept, and says so:")
    ask("db")
    ask("web")
    ask("mail")

    print("an operator says that it is off:")
    fleet.declare_offline("xen3", "its power supply is broken")
    ask("db")
    ask("mail")

    xen3.start()
    print(f"it returns, and {told(HostLive).host} is live by that alone:")
    ask("db")
    ask("mail")


def forget_all(fleet: domindex.fleet.Fleet) -> None:
    """Leave a store that is not ours as it was. The publishers have ended."""
    for name in HOSTS:
        try:
            fleet.refresh()
            if name in fleet.hosts:
                fleet.forget(name)
        except domindex.DomindexError as error:
            print(f"{name} stays in the store: {error}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", nargs="?", help="an etcd that runs, in place of one of its own")
    parser.add_argument("--memory", action="store_true", help="do not start an etcd")
    parser.add_argument("--host", choices=HOSTS, help="only publish this host, until stdin ends")
    args = parser.parse_args()
    if args.host and not args.url:
        parser.error("--host needs the URL of an etcd")
    for number in local_etcd.STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, stop)
    try:
        if args.host:
            with published(lambda: str(args.url), args.host):
                sys.stdin.read()
            return 0
        with contextlib.ExitStack() as stack:
            try:
                url = args.url or (None if args.memory else own_etcd(stack))
                store = MemoryStore()
                print(f"the store: {'etcd, at ' + url if url else 'in memory'}")
                show(lambda: url or store.connect(), stack, cleans_up=args.url is not None)
            finally:
                ignore_signals()  # all that was started is ended now
        return 0
    except KeyboardInterrupt:
        return 130
    except (domindex.DomindexError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 3


def own_etcd(stack: contextlib.ExitStack) -> str | None:
    """The URL of an etcd that runs as long as we do; None, with a line that says why not."""
    try:
        return stack.enter_context(local_etcd.running())
    except local_etcd.NoEtcd as error:
        print(error)
        return None


def stop(*_: object) -> NoReturn:
    """End as by Ctrl-C, and take no second signal."""
    ignore_signals()
    raise KeyboardInterrupt


def ignore_signals() -> None:
    """One that came while all is ended would leave the rest behind."""
    for number in local_etcd.STOPS:
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a TextIOWrapper
    sys.exit(main())
