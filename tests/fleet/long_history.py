"""python -m tests.fleet.long_history: many more steps of `test_history.py`, in memory and on etcd.

--steps 10000    at least so many on the store in memory
--etcd 3000      at least so many on a real etcd, whose network also breaks; 0 for none
--as-found       do not look for the shortest history that fails, which takes minutes
--seed 1         where to begin; the next seed is tried until there are enough. None is by chance

Prints what happened. If the reader differs from the hosts, or is told nonsense, the shortest
history that Hypothesis finds for it is printed, and the status is 1. On etcd such a history need
not fail again, as time is part of it.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import grpc
from aetcd import rpc
from aetcd.rpc import rpc_pb2_grpc as stubs
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, run_state_machine_as_test

from domindex.fleet import layout
from domindex.fleet.etcd import wire
from domindex.fleet.memory import MemoryStore
from domindex.fleet.opening import open_engine
from domindex.fleet.ports import Engine

from .proxy import DOWN, UP, Proxy
from .servers import Etcd, etcd
from .stage import World
from .test_history import HAPPENED, STEPS, FleetHistory, step

TIMEOUT: Final = 0.5
"""Seconds for a request to an etcd that may be frozen."""
FAULTS: Final = (
    *(
        "die",
        "end",
        "fail",
        "fail_and_end",
        "reboot",
        "time_passes",
        "expire",
        "compact",
        "fall_behind",
        "wipe",
        "fill",
    ),
    *("stop", "spoil", "other_version", "operator", "forget"),
)


class EtcdBehind:
    """What a `MemoryStore` can be told to do, done to an etcd by who owns it.

    While it is frozen nothing is done to it.
    """

    def __init__(self, server: Etcd) -> None:
        self.server = server
        self.proxy = Proxy(server.one.port)
        self._frozen = False
        self._full = False
        self._engines: list[Engine] = []
        self._open()

    def line(self) -> Engine:
        """One more line, through the proxy."""
        engine = open_engine(self.proxy.url, timeout=TIMEOUT)
        self._engines.append(engine)
        return engine

    @property
    def full(self) -> bool:
        """It has the alarm that a store has whose quota is used up."""
        return self._full

    @full.setter
    def full(self, full: bool) -> None:
        if full == self._full or self._frozen:
            return
        self._full = full
        change = "ACTIVATE" if full else "DEACTIVATE"
        request = rpc.AlarmRequest(
            action=rpc.AlarmRequest.AlarmAction.Value(change), memberID=self._id, alarm=rpc.NOSPACE
        )
        stubs.MaintenanceStub(self._channel).Alarm(request, timeout=10)

    def put(self, key: str, value: bytes) -> None:
        """Fenced by nothing."""
        if not self._full:
            self._write(wire.put(key, value))

    def compact(self) -> None:
        """Forget all before now."""
        if not self._frozen:
            now = self._keys.Range(wire.range_of(layout.EPOCH), timeout=10).header.revision
            with contextlib.suppress(grpc.RpcError):  # it was compacted there already
                self._keys.Compact(rpc.CompactionRequest(revision=now), timeout=10)

    def wipe(self) -> None:
        """Delete all that is ours, the epoch with it."""
        self._write(wire.delete(layout.ROOT, wire.end_of(layout.ROOT)))

    def expire(self, host: str) -> None:
        """End the lease that the alive key is under."""
        if not self._frozen:
            found = self._keys.Range(wire.range_of(layout.alive_key(host)), timeout=10).kvs
            for alive in found:
                stubs.LeaseStub(self._channel).LeaseRevoke(wire.revoke(alive.lease), timeout=10)

    def stop(self) -> None:
        """Freeze it."""
        self._frozen = True
        self.server.one.stop()

    def go_on(self) -> None:
        """After `stop`."""
        self.server.one.go_on()
        self._frozen = False

    def restart(self, *, empty: bool) -> None:
        """End it, and start it with what it had or with nothing."""
        if self._frozen:
            return
        self._channel.close()
        if empty:
            self.server.one.wipe()
            self._full = False
        else:
            self.server.one.restart()
        self._open()

    def begin(self) -> None:
        """Be empty and well, for another history."""
        self.go_on()
        self.full = False
        self.wipe()
        self.proxy.swallowed.clear()

    def end(self) -> None:
        """Let go of the engines of a history."""
        self.go_on()
        self.proxy.swallowed.clear()
        while self._engines:
            self._engines.pop().close()

    def close(self) -> None:
        """Let go of the server."""
        self.end()
        self._channel.close()

    def _open(self) -> None:
        self._channel = grpc.insecure_channel(
            self.server.one.endpoint, [("grpc.use_local_subchannel_pool", 1)]
        )
        self._keys = stubs.KVStub(self._channel)
        status = stubs.MaintenanceStub(self._channel).Status(
            wire.status(), timeout=10, wait_for_ready=True
        )
        self._id = status.header.member_id

    def _write(self, operation: Any) -> None:
        if not self._frozen:
            self._keys.Txn(wire.transaction([], [operation]), timeout=10)


class EtcdWorld(World):
    """Leases are long: they end by a word. What publishers and readers wait for is a test's time,
    as in memory; etcd's own time and that of the lines is real.
    """

    patience = 0.02
    behind: EtcdBehind

    def new_store(self) -> MemoryStore:
        """As `World.new_store`."""
        self.behind.begin()
        return self.behind  # type: ignore[return-value]  # all of it that histories use

    def line(self) -> Engine:
        """As `World.line`."""
        return self.behind.line()

    def close(self) -> None:
        """As `World.close`."""
        self.behind.end()
        super().close()


class EtcdFleetHistory(FleetHistory):
    """The same on etcd, and what only a server and a network do."""

    def new_world(self) -> World:
        """As `FleetHistory.new_world`."""
        return EtcdWorld()

    @step()
    def cut(self) -> None:
        """Every connection ends."""
        EtcdWorld.behind.proxy.cut()

    @step(ways=st.sampled_from([{UP}, {DOWN}, set()]))
    def swallow(self, ways: set[str]) -> None:
        """The network takes what is sent, and does not bring it."""
        EtcdWorld.behind.proxy.swallowed = set(ways)

    @precondition(lambda self: not self.broken)
    @step(much=st.integers(0, 9), empty=st.booleans())
    def restart(self, much: int, empty: bool) -> None:
        """The server is restarted, or begins anew with nothing: rarely, as it takes a second."""
        if not much:
            EtcdWorld.behind.restart(empty=empty)

    def mend_line(self) -> None:
        """As `FleetHistory.mend_line`."""
        proxy = EtcdWorld.behind.proxy
        proxy.swallowed = set()
        proxy.cut()  # what was swallowed is never sent again


def run(machine: type[FleetHistory], steps: int, first: int, phases: Sequence[Phase]) -> int:
    """One seed after the other, until there were so many steps; the last one. Raises what fails."""
    chosen = first
    while HAPPENED[STEPS] < steps:
        one: Any = seed(chosen)(type(machine.__name__, (machine,), {}))
        run_state_machine_as_test(
            one,
            settings=settings(
                max_examples=100,
                stateful_step_count=50,
                deadline=None,
                database=None,
                print_blob=True,
                phases=phases,
                suppress_health_check=list(HealthCheck),
            ),
        )
        chosen += 1
    return chosen - 1


def tried(
    where: str, machine: type[FleetHistory], steps: int, first: int, phases: Sequence[Phase]
) -> bool:
    """Run, and print what happened; whether all was well."""
    HAPPENED.clear()
    began = time.monotonic()
    try:
        last = run(machine, steps, first, phases)
    except BaseException as error:
        traceback.print_exc()
        print(
            f"{where}: {type(error).__name__} after {HAPPENED[STEPS]} steps, seed {first} or later"
        )
        if not isinstance(error, Exception):
            raise
        return False
    took = time.monotonic() - began
    happened = Counter(HAPPENED)
    total = happened.pop(STEPS)
    print(
        f"{where}: {total:,} steps in {took:.0f} s, seeds {first} to {last}; reader and hosts "
        f"agreed each time"
    )
    for title, names in (
        ("faults", [name for name in happened if name in FAULTS]),
        ("else", [name for name in happened if name not in FAULTS]),
    ):
        print(f"  {title}: " + ", ".join(f"{happened[n]:,} {n}" for n in sorted(names)))
    return True


@contextlib.contextmanager
def on_etcd() -> Iterator[None]:
    """A server for `EtcdWorld`."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        EtcdWorld.behind = EtcdBehind(stack.enter_context(etcd(home)))
        stack.callback(EtcdWorld.behind.close)
        stack.enter_context(EtcdWorld.behind.proxy)
        yield


def main() -> int:
    assert __doc__
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--etcd", type=int, default=3_000)
    parser.add_argument("--as-found", action="store_true")
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    logging.disable()  # each fault is logged, as it should be
    first = random.randrange(10**6) if args.seed is None else args.seed
    phases = [Phase.generate] if args.as_found else [Phase.generate, Phase.shrink]
    well = True
    if args.steps:
        well = tried("in memory", FleetHistory, args.steps, first, phases)
    if args.etcd:
        with on_etcd():
            well = tried("on etcd", EtcdFleetHistory, args.etcd, first, phases) and well
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
