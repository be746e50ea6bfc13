"""domindex: which Xen domain is called what. An index of name, uuid and domid, kept true.

Reading order for the code: domain.py and events.py (what there is and what happens to it),
core/table.py (three keys, one truth), core/lives.py (what tells one life from the next),
core/reconcile.py (from what was seen to what is true), watcher.py (the thread that asks),
answers.py, waits.py and index.py (what a program holds on to), listening/mailbox.py and
listening/delivery.py (how it hears). The outside is ports.py, behind it xen/xenstore.py and
xen/hypercall.py, or testing.py. What not every program needs is imported by its name: aio.py,
prometheus.py, testing.py.
"""

from domindex import direct as direct
from domindex.core.snapshot import Snapshot as Snapshot
from domindex.domain import Domain as Domain
from domindex.domain import DomainInfo as DomainInfo
from domindex.domain import Life as Life
from domindex.domain import OSType as OSType
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
from domindex.events import Rebooted as Rebooted
from domindex.events import Recovered as Recovered
from domindex.events import Removed as Removed
from domindex.events import Renamed as Renamed
from domindex.events import Resync as Resync
from domindex.events import ShutDown as ShutDown
from domindex.events import Synced as Synced
from domindex.index import Index as Index
from domindex.listening.delivery import EventStream as EventStream
from domindex.listening.delivery import Subscription as Subscription
from domindex.listening.watch import NodeWatch as NodeWatch
from domindex.opening import XenHost as XenHost
from domindex.opening import connect as connect
from domindex.options import Timing as Timing
from domindex.stats import Capabilities as Capabilities
from domindex.stats import Stats as Stats
