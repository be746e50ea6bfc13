"""What a running domain is: three keys that name one thing.

Xen knows a domain by number, the toolstack by uuid, people by name. `Domain` holds the
three as they stood at one moment. It never changes: a rename makes a new one.

Sources: xen/include/public/xen.h (domid_t, DOMID_FIRST_RESERVED, xen_domain_handle_t),
xen/include/public/sched.h (SHUTDOWN_*), docs/misc/xenstore-paths.pandoc (~/name).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

FIRST_RESERVED_DOMID = 0x7FF0
"""Domids from here on (DOMID_SELF, DOMID_IO, ...) never name a guest."""

NIL_UUID = UUID(int=0)
"""The handle of dom0 and of hand-made domains. It names nothing, so nothing is found by it."""


class OSType(enum.StrEnum):
    """How a guest is virtualised. A str, so that it prints and compares as libxl's words do.

    UNKNOWN where the hypervisor does not say: an HVM or PVH guest of Xen 4.7 to 4.10.0.
    """

    PV = "pv"
    HVM = "hvm"
    PVH = "pvh"
    UNKNOWN = "unknown"


class ShutdownReason(enum.IntEnum):
    """Why a guest stopped; the numbers are SHUTDOWN_* of xen/include/public/sched.h."""

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


class Life(NamedTuple):
    """What tells one domain from another that had the same domid. Fit for a dict key.

    On Xen >= 4.21 it is the hypervisor's own `unique_id`, never given twice in one boot.
    Before, it is the handle the domain was first seen with, and when that was.
    """

    domid: int
    unique_id: int | None
    uuid: UUID | None
    first_seen: float | None


@dataclass(frozen=True, slots=True)
class Domain:
    """One running domain, as last seen.

    domid: 0 to 0x7FEF. Xen hands a number out again once its domain is gone, so a domid
        names a domain only together with its `life`.
    uuid: the hypervisor's handle, set by the toolstack. May repeat (local migration) and
        may change (XAPI); all zero for dom0.
    name: from xenstore, bytes decoded as UTF-8 with surrogateescape, without NULs at its end
        (some tools write the C string whole); None while there is none. May be empty, may
        repeat, may hold any character: use `printable` to show it.
    type: PV, HVM, PVH, or UNKNOWN where the hypervisor cannot tell.
    life: equal for two records of one index exactly when they are of the same running domain.
        `domindex.direct` keeps nothing: there each record has another.
    first_seen: when the index first saw this life, in seconds since the epoch.
    shutdown: why the guest stopped while its domain still exists; None while it runs.
    """

    domid: int
    uuid: UUID
    name: str | None
    type: OSType
    life: Life
    first_seen: float
    shutdown: ShutdownReason | None = None

    @property
    def printable(self) -> str:
        """The name fit for a terminal or a log; `(null)` as xl prints it while there is none."""
        return "(null)" if self.name is None else printable(self.name)


class DomainInfo(NamedTuple):
    """What one hypercall said of a domain. It is as old as `info(max_age=)` lets it be.

    `memory` and `max_memory` are bytes; `cpu_time` is nanoseconds of all vCPUs together;
    `vcpus` are those online. `paused` is by the toolstack; `blocked`: all vCPUs wait;
    `running`: at least one is on a CPU. None of the three set: ready to run, not broken.
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
    r"""`text` with all that could steer a terminal or forge a log line escaped, once.

    That is what `str.isprintable` refuses, line and direction marks among it, and backslashes.

    >>> print(printable("web\x1b[2J\n"))
    web\x1b[2J\n
    """
    return fit_for_terminal(text.replace("\\", r"\\"))


def fit_for_terminal(sentence: str) -> str:
    r"""A sentence of which the names in it are escaped already: its backslashes are left alone.

    >>> print(fit_for_terminal("no domain has name %r\x1b" % "a\n"))
    no domain has name 'a\n'\x1b
    """
    return "".join(
        char
        if char.isprintable()
        else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in sentence
    )
