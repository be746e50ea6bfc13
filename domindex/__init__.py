"""An index of the Xen domains that run on this host, by name, uuid and domid.

The index is in memory. xenstore watches and hypercalls keep it equal to the host, so that a
look-up is a look-up in a dict:

>>> from domindex.testing import SimulatedHost
>>> host = SimulatedHost()
>>> web = host.create("web")
>>> with host.connect() as index:  # on a real host: domindex.connect()
...     index.by_name("web").domid == web
True

`domindex.aio` is the same index for asyncio, `domindex.direct` has the look-ups without an index,
`domindex.prometheus` has metrics, and `domindex.testing` has the simulated host.

Words with a meaning of their own in this package:

life: One run of a domain under one domid. A domid that is used again is another life; a reboot
    makes a new one. See `Life`.
line: One connection to xenstored, with its watches. When it breaks, another one is opened.
live: The index is live while its line works and no change is known to be missing.
pass: One comparison of the host, or a part of it, with the index. It ends when there is nothing
    left to read.
round: One turn within a pass: list the domains, set the watches of new ones, read what may have
    changed.
scope: The domids that a pass looks at: those that had an event, or all.
probe: A test of the line and a pass over all domains, every few seconds. It finds what no event
    reports.
audit: A probe that also reads every name and every followed node again, every few minutes.
ready: A domain is ready when it runs under its final name. See `Domain.ready`.

The order in which to read the code is in CONTRIBUTING.md.
"""

from domindex import direct as direct
from domindex.core.snapshot import Snapshot as Snapshot
from domindex.domain import Domain as Domain
from domindex.domain import DomainInfo as DomainInfo
from domindex.domain import Life as Life
from domindex.domain import OSType as OSType
from domindex.domain import Role as Role
from domindex.domain import ShutdownReason as ShutdownReason
from domindex.domain import printable as printable
from domindex.errors import AccessDenied as AccessDenied
from domindex.errors import Ambiguous as Ambiguous
from domindex.errors import Closed as Closed
from domindex.errors import DomindexError as DomindexError
from domindex.errors import HostError as HostError
from domindex.errors import HypercallFailed as HypercallFailed
from domindex.errors import InvalidKey as InvalidKey
from domindex.errors import NoEventLoop as NoEventLoop
from domindex.errors import NoSuchDomain as NoSuchDomain
from domindex.errors import NotControlDomain as NotControlDomain
from domindex.errors import NotLive as NotLive
from domindex.errors import StoreError as StoreError
from domindex.errors import StoreLost as StoreLost
from domindex.errors import TimedOut as TimedOut
from domindex.errors import UnknownXen as UnknownXen
from domindex.events import Added as Added
from domindex.events import Changed as Changed
from domindex.events import DuplicateName as DuplicateName
from domindex.events import DuplicateUuid as DuplicateUuid
from domindex.events import Event as Event
from domindex.events import Lost as Lost
from domindex.events import Ready as Ready
from domindex.events import Rebooted as Rebooted
from domindex.events import Recovered as Recovered
from domindex.events import Removed as Removed
from domindex.events import Renamed as Renamed
from domindex.events import Resync as Resync
from domindex.events import ShutDown as ShutDown
from domindex.events import Synced as Synced
from domindex.index import Index as Index
from domindex.listening.stream import EventStream as EventStream
from domindex.listening.subscription import Subscription as Subscription
from domindex.listening.watch import NodeWatch as NodeWatch
from domindex.opening import XenHost as XenHost
from domindex.opening import connect as connect
from domindex.options import Timing as Timing
from domindex.stats import Capabilities as Capabilities
from domindex.stats import ListenerStats as ListenerStats
from domindex.stats import Stats as Stats
