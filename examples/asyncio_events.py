"""Follow a host from an asyncio program: one task prints events, another waits for a domain.

On a Xen control domain it follows that host, for ten seconds. Elsewhere it follows a simulated
host and makes the events itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Coroutine

import domindex
import domindex.aio
from domindex.cli import event_line
from domindex.testing import SimulatedHost, host_or_simulate

LISTEN = 10.0
"""Seconds for which to follow a real host. This program changes nothing there."""


async def main() -> int:
    host = host_or_simulate()
    async with domindex.aio.connect(host) as index:
        if isinstance(host, SimulatedHost):
            await follow(index, live_through(host, index))
        else:
            print(f"Events of the next {LISTEN:.0f} s; create a domain called 'web' now.")
            await follow(index, asyncio.sleep(LISTEN))
    return 0


async def follow(index: domindex.aio.AsyncIndex, live: Coroutine[object, object, None]) -> None:
    """Print what happens while `live` runs, and wait for one domain."""
    async with index.events(replay=False, reboot_grace=0.5) as events:
        showing = asyncio.create_task(show(events))
        waiting = asyncio.create_task(wait_for(index, "web"))
        await live
        await index.refresh()  # now the index has sent the event of every change
        await asyncio.sleep(1.0)  # and reboot_grace holds none back any more
    await showing  # the stream is closed, so this task ends
    waiting.cancel()  # it may still wait for the domain
    await asyncio.gather(waiting, return_exceptions=True)


async def show(events: domindex.aio.AsyncEventStream) -> None:
    async for event in events:
        print(f"  {event_line(event)}", flush=True)


async def wait_for(index: domindex.aio.AsyncIndex, name: str) -> None:
    """Say when the domain is ready and when it is gone. Other tasks run meanwhile."""
    with contextlib.suppress(domindex.TimedOut, domindex.NoSuchDomain):
        domain = await index.wait_for(name=name, ready=True, timeout=60)
        info = await index.info(domain)  # of this life: if it has ended, NoSuchDomain
        print(f"{name} is here: domid {domain.domid}, {info.memory >> 10} KiB", flush=True)
        gone = await index.wait_gone(domain, timeout=60)
        # No reason: it was destroyed, or it stopped and was gone before the index looked again.
        why = "no reason was seen" if gone.reason is None else gone.reason.name.lower()
        print(f"{name} is gone: {why}", flush=True)


async def live_through(host: SimulatedHost, index: domindex.aio.AsyncIndex) -> None:
    """Do what a toolstack and a guest do, slowly enough to watch."""

    async def step() -> None:
        await index.refresh()
        await asyncio.sleep(0.3)

    domid = host.create("web", type="pvh")
    await step()
    host.rename(domid, "www")
    await step()
    domid = host.reboot(domid)
    await step()
    host.crash(domid)
    await step()
    host.destroy(domid)
    await step()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
