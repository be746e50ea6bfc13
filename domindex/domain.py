"""A running domain and its three keys: domid, uuid and name.

Xen knows a domain by its domid, the toolstack by its uuid, people by its name. A `Domain` holds
all three as they were at one moment. It never changes: a rename makes a new record.

The first file to read; next infos.py.

Sources: xen/include/public/xen.h (domid_t, DOMID_FIRST_RESERVED, xen_domain_handle_t),
xen/include/public/sched.h (SHUTDOWN_*), docs/misc/xenstore-paths.pandoc (~/name).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

FIRST_RESERVED_DOMID = 0x7FF0
"""Domids from here on (DOMID_SELF, DOMID_IO, ...) are never those of a guest."""

NIL_UUID = UUID(int=0)
"""The handle of dom0, and of domains made without a uuid. No look-up by uuid finds it."""


class OSType(enum.StrEnum):
    """How a guest is virtualised. A str: it prints and compares as the words of libxl.

    UNKNOWN is used where the hypervisor does not say: HVM and PVH guests of Xen 4.7 to 4.10.0.
    """

    PV = "pv"
    HVM = "hvm"
    PVH = "pvh"
    UNKNOWN = "unknown"


class ShutdownReason(enum.IntEnum):
    """Why a guest stopped. The numbers are SHUTDOWN_* in xen/include/public/sched.h.

    A number that is not listed there becomes UNKNOWN.
    """

    POWEROFF = 0
    REBOOT = 1
    SUSPEND = 2
    CRASH = 3
    WATCHDOG = 4
    SOFT_RESET = 5
    UNKNOWN = 255

    @classmethod
    def _missing_(cls, value: object) -> ShutdownReason:
        return cls.UNKNOWN


class Role(enum.Flag):
    """What Xen lets a domain do for the host. The numbers are XEN_DOMCTL_GETDOMSTATE_CAP_*.

    `Role(0)` is that of an ordinary guest.

    Attributes:
        CONTROL: It may manage other domains.
        HARDWARE: It has the devices of the machine.
        XENSTORE: Xen was told that it runs xenstored: a xenstore stub domain. A dom0 in which
            xenstored is a process like any other does not have it.
    """

    CONTROL = 1
    HARDWARE = 2
    XENSTORE = 4


ROLES = tuple(map(Role, range(8)))
"""Each set of roles, by its number. To be shared: a record of its own would cost memory."""


class Life(NamedTuple):
    """One run of a domain under one domid. Two domains with the same domid have different lives.

    Use it as a dict key for what you keep about a domain: it stays the same when the name or the
    uuid changes, and is never used again.

    Attributes:
        domid: The domid of this life.
        unique_id: The number that Xen >= 4.21 gives to each life, never twice in one boot. None
            on older versions, and where a policy refuses to give it.
        uuid: Where there is no `unique_id`: the uuid that this life was first seen with.
        first_seen: Where there is no `unique_id`: when that was, in seconds since the epoch.
    """

    domid: int
    unique_id: int | None
    uuid: UUID | None
    first_seen: float | None


@dataclass(frozen=True, slots=True)
class Domain:
    """One running domain, as last seen.

    Attributes:
        domid: 0 to 0x7FEF. Xen gives a domid to another domain once its first one is gone, so it
            identifies a domain only together with the `life`.
        uuid: The handle that the toolstack gave to the hypervisor; all zero for dom0. Two domains
            may have the same one (local migration), and it may change (XAPI).
        name: The name in xenstore, decoded as UTF-8 with surrogateescape, without NULs at its end
            (some tools write the whole C string). None while there is none. It may be empty, be
            the name of several domains and hold any character: use `printable` to show it.
        type: PV, HVM, PVH, or UNKNOWN where the hypervisor does not say.
        life: Equal in two records of one index exactly if both are of the same running domain.
            `domindex.direct` keeps nothing between calls, so there each record has its own.
        first_seen: When the index first saw this life, in seconds since the epoch.
        shutdown: Why the guest stopped, while its domain still exists; None while it runs.
        roles: What it may do for the host; None where Xen does not say. From Xen 4.21 on it is
            what Xen says of this life, and None in `domindex.direct` and where a policy refuses
            it. Before, the list of domains marks a xenstore stub domain (from 4.7 on), and
            domid 0 is taken to be control and hardware domain, so that a hardware domain apart
            (`hardware_dom=`, which is experimental) is not recognised; of other domains of Xen
            up to 4.6 it is None. It stays the same for a life and is not compared.
    """

    domid: int
    uuid: UUID
    name: str | None
    type: OSType
    life: Life = field(repr=False)
    first_seen: float
    shutdown: ShutdownReason | None = None
    roles: Role | None = field(default=None, compare=False, repr=False)

    @property
    def printable(self) -> str:
        """The name, escaped for a terminal or a log. `(null)`, as in xl, if there is none."""
        return "(null)" if self.name is None else printable(self.name)

    @property
    def ready(self) -> bool:
        """Whether it runs under its final name. A paused domain is ready, too.

        Not ready are: a domain without a name, which is still being made; one that is migrating
        in (`NAME--incoming`) or was migrated away (`NAME--migratedaway`, `migrating-NAME`); and
        one that has shut down, was saved or has crashed.

        Cost:
            No call to the host: it says what this record says.
        """
        # The first two names are of xl (tools/xl/xl_migrate.c), the last one is of XenD.
        name = self.name
        return (
            self.shutdown is None
            and name is not None
            and name != ""
            and not name.endswith(("--incoming", "--migratedaway"))
            and not name.startswith("migrating-")
        )


class DomainInfo(NamedTuple):
    """What one hypercall says of a domain. At most as old as `info(max_age=)` allows.

    If none of `paused`, `blocked` and `running` is set, the domain waits for a free CPU; that is
    not a fault.

    Attributes:
        domid: Its domid.
        uuid: Its handle.
        type: PV, HVM, PVH or UNKNOWN.
        paused: The toolstack has paused it.
        blocked: All its vCPUs wait for an event.
        running: At least one of its vCPUs is on a CPU.
        shutdown: Why the guest stopped; None while it runs.
        dying: It has ended and its resources are freed, but it is still listed (a zombie).
        memory: Memory that it has, in bytes.
        max_memory: Memory that it may have, in bytes.
        cpu_time: CPU time of all its vCPUs together, in nanoseconds.
        vcpus: vCPUs that are online.
    """

    domid: int
    uuid: UUID
    type: OSType
    paused: bool
    blocked: bool
    running: bool
    shutdown: ShutdownReason | None
    dying: bool
    memory: int
    max_memory: int
    cpu_time: int
    vcpus: int

    @property
    def state(self) -> str:
        """One word: dying, crashed, shutdown, paused, running, blocked or runnable."""
        if self.dying:
            return "dying"
        if self.shutdown is not None:
            return "crashed" if self.shutdown is ShutdownReason.CRASH else "shutdown"
        for word in ("paused", "running", "blocked"):
            if getattr(self, word):
                return word
        return "runnable"


def printable(text: str) -> str:
    r"""`text` with every character escaped that could control a terminal or fake a log line.

    These are the characters that `str.isprintable` refuses (marks of line and direction are
    among them), and backslashes. Escape a text once only.

    >>> print(printable("web\x1b[2J\n"))
    web\x1b[2J\n
    """
    if not isinstance(text, str):
        raise TypeError(f"only a str can be escaped, not {type(text).__name__}")
    return fit_for_terminal(text.replace("\\", r"\\"))


def fit_for_terminal(sentence: str) -> str:
    r"""`printable` for a sentence whose names are escaped already: it keeps backslashes.

    >>> print(fit_for_terminal("no domain has name %r\x1b" % "a\n"))
    no domain has name 'a\n'\x1b
    """
    return "".join(
        char
        if char.isprintable()
        else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in sentence
    )
