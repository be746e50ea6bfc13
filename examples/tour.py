"""domindex in ten seconds: the table, look-ups with their cost, events as they happen.

On a Xen control domain it shows that host. Elsewhere it shows a simulated host and makes the events
itself.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable

import domindex
from domindex.cli import event_line, print_table
from domindex.domain import Domain
from domindex.testing import SimulatedHost, host_or_simulate

LISTEN = 10.0
"""Seconds for which to show the events of a real host. This program changes nothing there."""


def main() -> int:
    host = host_or_simulate(simulate)
    with domindex.connect(host) as index:
        if isinstance(host, SimulatedHost):
            show(index)
            print("\nA guest is created, renamed, rebooted, crashes and is destroyed:")
            follow(index, lambda: live_through(host, index))
        else:
            print(f"This is a Xen control domain: {index.capabilities.xen}.")
            show(index)
            print(f"\nEvents of the next {LISTEN:.0f} s: create, rename or destroy a domain now.")
            follow(index, lambda: time.sleep(LISTEN))
    return 0


def simulate(host: SimulatedHost) -> None:
    """The guests of the simulated host."""
    for name, type_ in (("web", "pvh"), ("db", "pvh"), ("router", "pv"), ("win", "hvm")):
        host.create(name, type=type_)


def show(index: domindex.Index) -> None:
    print(f"\n{len(index)} domains:")
    print_table(index, sys.stdout)
    guest = list(index)[-1]
    print("\nLook-ups, and what each costs:")
    for text, look_up in look_ups(index, guest):
        cost = timed(look_up)
        answer = look_up()
        shown = answer.domid if isinstance(answer, Domain) else answer
        calls = "one hypercall" if "verify" in text else "a dict hit"
        print(f"  {text:<34} -> {shown!s:<5} {calls:<14} {cost * 1e6:7.2f} us")


def look_ups(
    index: domindex.Index, guest: Domain
) -> list[tuple[str, Callable[[], Domain | domindex.OSType]]]:
    calls: list[tuple[str, Callable[[], Domain | domindex.OSType]]] = []
    if (name := guest.name) is not None and name in index.names:
        calls += [
            (f"by_name({guest.printable!r})", lambda: index.by_name(name)),
            (
                f"by_name({guest.printable!r}, verify=True)",
                lambda: index.by_name(name, verify=True),
            ),
        ]
    if guest.uuid in index.uuids:
        calls.append((f"by_uuid({str(guest.uuid)[:13]}...)", lambda: index.by_uuid(guest.uuid)))
    calls.append((f"by_id({guest.domid})", lambda: index.by_id(guest.domid)))
    calls.append((f"os_type({guest.domid})", lambda: index.os_type(guest.domid)))
    return calls


def timed(call: Callable[[], object], times: int = 200) -> float:
    """How long the fastest of `times` calls took, in seconds."""
    best = float("inf")
    for _ in range(times):
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return best


def follow(index: domindex.Index, live: Callable[[], None]) -> None:
    """Print events as they come, while `live` runs in another thread."""
    events: queue.Queue[domindex.Event] = queue.Queue()
    thread = threading.Thread(target=live)
    with index.subscribe(events.put, replay=False) as subscription:
        thread.start()
        while thread.is_alive() or subscription.pending or not events.empty():
            with contextlib.suppress(queue.Empty):
                event = events.get(timeout=0.1)
                if not isinstance(event, domindex.Synced):  # it says that what follows is new
                    print(f"  {event_line(event)}", flush=True)


def live_through(host: SimulatedHost, index: domindex.Index) -> None:
    """Do what a toolstack and a guest do, slowly enough to watch."""

    def step() -> None:
        index.refresh()
        time.sleep(0.3)

    domid = host.create("build-1", type="pvh")
    uuid = index.by_id(domid, verify=True).uuid
    step()
    host.rename(domid, "build-2")
    step()
    host.shutdown(domid, domindex.ShutdownReason.REBOOT)
    step()
    host.destroy(domid)
    domid = host.create("build-2", type="pvh", uuid=uuid)
    step()
    host.crash(domid)
    step()
    host.destroy(domid)
    step()


if __name__ == "__main__":
    sys.exit(main())
