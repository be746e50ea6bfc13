"""The simulated fleet of `--simulated`: three hosts in one process, one of them lost.

Read after cli/demo.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final
from uuid import NAMESPACE_DNS, uuid5

from domindex.cli.demo import demo_host
from domindex.fleet.joining import publish
from domindex.fleet.memory import MemoryStore
from domindex.testing import SimulatedHost

_OTHERS: Final = {"xen2": ("mail", "backup"), "xen3": ("build",)}
_LOST: Final = "xen3"


@contextlib.contextmanager
def demo_store() -> Iterator[MemoryStore]:
    """A store to which the hosts were published. The last one ended."""
    store = MemoryStore()
    simulated = {"xen1": demo_host()}
    for name, guests in _OTHERS.items():
        simulated[name] = host = SimulatedHost()
        for guest in guests:
            host.create(guest, uuid=uuid5(NAMESPACE_DNS, f"{guest}.domindex.example"), type="pvh")
    with contextlib.ExitStack() as stack:
        for name, host in simulated.items():
            index = stack.enter_context(host.connect())
            publisher = publish(index, store.connect(), host=name, machine=name, lock=False)
            stack.callback(publisher.close)
            publisher.flush()
            if name == _LOST:
                publisher.close()
        yield store
