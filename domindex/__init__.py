"""An index of the Xen domains that run on this host, by name, uuid and domid.

The index is in memory. xenstore watches and hypercalls keep it equal to the host, so that a
look-up is a look-up in a dict:

>>> from domindex.testing import SimulatedHost
>>> host = SimulatedHost()
>>> web = host.create("web")
>>> with host.connect() as index:  # on a real host: domindex.connect()
...     index.by_name("web").domid == web
True

`connect` opens the index of this host; `Index` has the look-ups, the waits and `subscribe`. What it
gives is a `Domain`, a record that never changes. Every error is a `DomindexError`.

`domindex.aio` is the same index for asyncio, `domindex.direct` has the look-ups without an index,
`domindex.prometheus` has metrics, and `domindex.testing` has the simulated host.

Words with a meaning of their own:

life: One run of a domain under one domid. A domid that is used again is another life; a reboot
    makes a new one. It is the key for what you remember of a domain. See `Life`.
ready: A domain is ready when it runs under its final name. See `Domain.ready`.
live: The index is live while its connection to xenstored works and no change is known to be
    missing. While it is not, it says `NotLive` and never "there is no such domain".
probe: A test of that connection and a look at all domains, every few seconds. It finds what no
    event reports. See `Timing`.

All words are in docs/glossary.md, and the order in which to read the code is in CONTRIBUTING.md.
"""

from domindex import direct
from domindex.core.snapshot import Snapshot
from domindex.domain import (
    Domain,
    DomainInfo,
    Life,
    OSType,
    Role,
    ShutdownReason,
    printable,
)
from domindex.errors import (
    AccessDenied,
    Ambiguous,
    Closed,
    DomindexError,
    HostError,
    HypercallFailed,
    InvalidKey,
    NoEventLoop,
    NoSuchDomain,
    NotControlDomain,
    NotLive,
    StoreError,
    StoreLost,
    TimedOut,
    UnknownXen,
)
from domindex.events import (
    Added,
    Changed,
    DuplicateName,
    DuplicateUuid,
    Event,
    Lost,
    Ready,
    Rebooted,
    Recovered,
    Removed,
    Renamed,
    Resync,
    ShutDown,
    Synced,
)
from domindex.index import Index
from domindex.listening.stream import EventStream
from domindex.listening.subscription import Handler, Subscription
from domindex.listening.watch import NodeHandler, NodeWatch
from domindex.opening import XenHost, connect
from domindex.options import Timing
from domindex.stats import Capabilities, ListenerStats, Stats

__version__ = "0.1.0"

# fmt: off
__all__ = [
    "AccessDenied", "Added", "Ambiguous", "Capabilities", "Changed", "Closed", "Domain",
    "DomainInfo", "DomindexError", "DuplicateName", "DuplicateUuid", "Event", "EventStream",
    "Handler", "HostError", "HypercallFailed", "Index", "InvalidKey", "Life",
    "ListenerStats", "Lost", "NoEventLoop", "NoSuchDomain", "NodeHandler", "NodeWatch",
    "NotControlDomain", "NotLive", "OSType", "Ready", "Rebooted", "Recovered", "Removed",
    "Renamed", "Resync", "Role", "ShutDown", "ShutdownReason", "Snapshot", "Stats",
    "StoreError", "StoreLost", "Subscription", "Synced", "TimedOut", "Timing", "UnknownXen",
    "XenHost", "connect", "direct", "printable",
]
# fmt: on
