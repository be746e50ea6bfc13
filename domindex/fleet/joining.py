"""`publish`, `connect` and `of`: from an index and a URL to a publisher and a reader.

Read after publisher.py and fleet.py. The same for asyncio is aio.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from domindex.fleet.body import FleetBody
from domindex.fleet.fleet import Fleet
from domindex.fleet.machine import (
    MachineLock,
    boot_id,
    host_name,
    lock_directory,
    machine_id,
)
from domindex.fleet.memory import MemoryStore
from domindex.fleet.opening import open_engine
from domindex.fleet.ports import Engine
from domindex.fleet.publisher import Publisher
from domindex.fleet.publishing import Publishing
from domindex.fleet.url import Tls
from domindex.index import Index
from domindex.options import Stale, most_age


def publish(
    index: Index,
    where: str | Engine,
    *,
    host: str | None = None,
    tls: Tls | None = None,
    ttl: float = 15.0,
    machine: str | None = None,
    boot: str | None = None,
    lock: str | Path | bool = True,
    timeout: float | None = 60.0,
    wait: bool = True,
) -> Publisher:
    """Publish the domains of this host. Close it, or use it in a `with`.

    Args:
        index: What is published. It stays yours: close it after the publisher.
        where: The URL of the store, `etcd://a:2379,b:2379,c:2379`, or an engine, which stays yours.
        host: The name of this host in the fleet. None is the name of the machine.
        tls: Certificates.
        ttl: Seconds of the lease: after a crash the host is known lost that much later. It is
            renewed three times in that time.
        machine: What tells this machine from another one. None is its machine-id, hashed.
        boot: What tells this boot from another one. None is the boot id of the system.
        lock: One process a machine publishes; a lock file in /run/domindex sees to it, or in this
            directory. False is for several simulated hosts in one process.
        timeout: Seconds to try until the first write got through, None for as long as it takes.
        wait: False returns at once, for a daemon that may start before the store does.

    Returns:
        The publisher. With `wait` the host is in the store.

    Raises:
        HostTaken: Another machine publishes under that name.
        AlreadyPublishing: Another process of this machine publishes it.
        InvalidHost, InvalidUrl: It cannot be such a name, or such a URL.
        EngineError: The store refuses, or did not answer within `timeout`.
        TypeError, ValueError: An argument is none.

    Cost:
        One transaction for each change of the index, or for several that come at once, and the
        renewals. A thread.
    """
    if not isinstance(index, Index):
        raise TypeError(f"what is published is an Index, not {index!r}")
    machine = machine_id() if machine is None else machine
    if not isinstance(machine, str) or not machine:
        raise TypeError(f"machine= is a str that is not empty, or None, not {machine!r}")
    engine = open_engine(where, tls=tls)
    publishing = Publishing(
        index,
        engine,
        host=host_name() if host is None else host,
        machine=machine,
        boot=boot_id() if boot is None else boot,
        ttl=ttl,
    )
    with contextlib.ExitStack() as stack:
        if engine is not where:
            stack.callback(engine.close)
        held = None
        if lock is not False:
            directory = lock_directory() if lock is True else Path(lock)
            held = MachineLock(machine, directory)
            stack.callback(held.close)
        publisher = Publisher(publishing, index, None if engine is where else engine, held)
        stack.pop_all()
    publisher.start(timeout, wait=wait)
    return publisher


def connect(
    where: str | Engine,
    *,
    tls: Tls | None = None,
    timeout: float | None = 60.0,
    stale: Stale = "serve",
    max_stale: float | None = None,
    wait: bool = True,
) -> Fleet:
    """Open a reader of a fleet: on any machine, Xen or not. Close it, or use it in a `with`.

    Args:
        where: The URL of the store, `etcd://a:2379,b:2379,c:2379`, or an engine, which stays yours.
        tls: Certificates.
        timeout: Seconds to try until everything is held, None for as long as it takes.
        stale: What look-ups do while the reader's own line is down, as for `domindex.connect`.
        max_stale: As for `domindex.connect`.
        wait: False returns at once; the reader is not live at first, which listeners receive as
            `Lost`.

    Returns:
        The reader. With `wait` it is live and holds every domain of every host.

    Raises:
        EngineError: The store refuses, or did not answer within `timeout`.
        TimedOut: The reader did not hold everything within `timeout`.
        InvalidUrl, TypeError, ValueError: An argument is none.

    Cost:
        Reads the whole store once. A thread.
    """
    max_age = most_age(stale, max_stale)
    if stale not in ("serve", "refuse", "wait"):
        raise ValueError(f"stale is 'serve', 'refuse' or 'wait', not {stale!r}")
    engine = open_engine(where, tls=tls)
    body = FleetBody(engine, max_age=max_age, owns_engine=engine is not where)
    fleet = Fleet(body, stale)
    body.start(timeout, wait=wait)
    return fleet


def of(indexes: Mapping[str, Index], *, stale: Stale = "serve", ttl: float = 15.0) -> Fleet:
    """The fleet of several indexes in this process, by the names of their hosts: without a store.

    Closing it leaves the indexes open.

    >>> import domindex.fleet
    >>> from domindex.testing import SimulatedHost
    >>> with SimulatedHost() as xen1, SimulatedHost() as xen2:
    ...     _ = xen2.create("web")
    ...     with xen1.connect() as one, xen2.connect() as two:
    ...         with domindex.fleet.of({"xen1": one, "xen2": two}) as fleet:
    ...             print(fleet.by_name("web").host)
    xen2
    """
    store = MemoryStore()
    with contextlib.ExitStack() as stack:
        for host, index in indexes.items():
            stack.enter_context(
                publish(index, store.connect(), host=host, machine=host, lock=False, ttl=ttl)
            )
        fleet = connect(store.connect(), stale=stale)
        fleet.on_close(stack.pop_all())
    return fleet
