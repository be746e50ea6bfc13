"""The errors of a fleet, on one screen. They belong to the tree of `domindex.errors`.

Read after domindex/errors.py; next layout.py.
"""

from __future__ import annotations

from typing import NamedTuple

from domindex.errors import DomindexError


class Alive(NamedTuple):
    """Who publishes a host: what the store holds under a lease.

    Attributes:
        incarnation: Made anew by each claim.
        machine: The machine-id of the publisher.
    """

    incarnation: str
    machine: str


class InvalidUrl(DomindexError, ValueError):
    """This names no engine. A mistake in the calling program, or in its configuration."""


class InvalidHost(DomindexError, ValueError):
    """This cannot be the name of a host in the store: `[a-z0-9.-]`, as host names are."""


class TooLarge(DomindexError, ValueError):
    """This is more than one transaction takes. A mistake in the calling program: split it."""


class EngineError(DomindexError, OSError):
    """The store of the fleet could not be used."""


class LineLost(EngineError, ConnectionError):
    """No answer in time, or the line broke. Try again.

    Whether a write that raises this was done is not known.
    """


class EngineDenied(EngineError, PermissionError):
    """The store refuses this certificate, or grants it too few rights."""


class UnfitEngine(EngineError):
    """Something answers, but the fleet cannot be kept there: no etcd, too old, or a proxy."""


class EngineFull(EngineError):
    """The store takes no more data until somebody makes room. Leases are still renewed."""


class TooOld(EngineError):
    """The store cannot tell what happened since that position. Load anew.

    The history before it was compacted, or the store was wiped, or restored from a copy.
    """


class HostTaken(DomindexError, RuntimeError):
    """Another machine publishes under this host name.

    Attributes:
        host: The name.
        holder: Who has it.
    """

    def __init__(self, host: str, holder: Alive) -> None:
        super().__init__(
            f"machine {holder.machine!r} publishes as host {host!r}; stop it, or choose another "
            "name with host="
        )
        self.host = host
        self.holder = holder


class Fenced(DomindexError, RuntimeError):
    """Nothing was written: the host is no longer this claim's, or is not as it was seen.

    Attributes:
        host: The name.
        holder: Who publishes it now. None if nobody does: the claim ran out, the store was
            wiped or restored, or the host's record was replaced.
    """

    def __init__(self, host: str, holder: Alive | None) -> None:
        who = f"machine {holder.machine!r} publishes it now" if holder else "the claim is gone"
        super().__init__(f"host {host!r} was not written: {who}")
        self.host = host
        self.holder = holder
