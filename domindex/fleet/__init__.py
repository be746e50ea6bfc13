"""Many hosts, one picture: on which host a domain runs, and under which domid.

Each host publishes what its own index says into a store, etcd, and a reader follows the store. So
a look-up is a look-up in a dict, on any machine, Xen or not:

>>> import domindex.fleet
>>> from domindex.fleet.memory import MemoryStore  # in real life: "etcd://a:2379,b:2379,c:2379"
>>> from domindex.testing import SimulatedHost
>>> store = MemoryStore()
>>> with SimulatedHost() as host, host.connect() as index:
...     domid = host.create("web")
...     _ = index.refresh()
...     with domindex.fleet.publish(index, store.connect(), host="xen1", lock=False):
...         with domindex.fleet.connect(store.connect()) as fleet:
...             found = fleet.by_name("web")
...             print(found.host, found.domain.name, found.state)
xen1 web live

`docs/fleet.md` says what is promised, and what cannot be known. `domindex.fleet.aio` is the reader
for asyncio.
"""

from domindex.events import Lost, Recovered, Synced
from domindex.fleet.answers import (
    HostIsLive,
    HostsSilent,
    NoSuchHost,
    OldAnswer,
    SeveralFound,
)
from domindex.fleet.body import FleetStats
from domindex.fleet.errors import (
    EngineDenied,
    EngineError,
    EngineFull,
    Fenced,
    HostTaken,
    InvalidHost,
    InvalidUrl,
    LineLost,
    TooLarge,
    TooOld,
    UnfitEngine,
)
from domindex.fleet.events import (
    FleetEvent,
    HostBlind,
    HostEvent,
    HostForgotten,
    HostLive,
    HostLost,
    HostOffline,
    HostRenamed,
    HostsCloned,
    Moved,
    Resync,
)
from domindex.fleet.fleet import Fleet, FleetStream
from domindex.fleet.joining import connect, of, publish
from domindex.fleet.lookups import FleetSnapshot
from domindex.fleet.machine import AlreadyPublishing
from domindex.fleet.publisher import Publisher
from domindex.fleet.publishing import Superseded
from domindex.fleet.states import Found, HostLife, HostState, HostView
from domindex.fleet.url import Tls

# fmt: off
__all__ = [
    "AlreadyPublishing", "EngineDenied", "EngineError", "EngineFull", "Fenced", "Fleet",
    "FleetEvent", "FleetSnapshot", "FleetStats", "FleetStream", "Found", "HostBlind",
    "HostEvent", "HostForgotten", "HostIsLive", "HostLife", "HostLive", "HostLost",
    "HostOffline", "HostRenamed", "HostState", "HostTaken", "HostView", "HostsCloned",
    "HostsSilent", "InvalidHost", "InvalidUrl", "LineLost", "Lost", "Moved", "NoSuchHost",
    "OldAnswer", "Publisher", "Recovered", "Resync", "SeveralFound", "Superseded", "Synced",
    "Tls", "TooLarge", "TooOld", "UnfitEngine", "connect", "of", "publish",
]
# fmt: on
