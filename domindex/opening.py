"""Opening the index: the one file that knows both halves of a real host."""

from __future__ import annotations

from domindex.index import Index
from domindex.options import Stale, Timing
from domindex.ports import Host, Hypervisor, Store


class XenHost:
    """The Xen host this process runs on.

    transport: "socket" for xenstored's unix socket, "xenbus" for the kernel's device, or None
        for what XENSTORED_PATH and XENSTORED_RUNDIR say, else the socket if there is one.
    path: of that socket or device, where it is not the usual one.
    """

    def __init__(self, *, transport: str | None = None, path: str | None = None) -> None:
        self._transport = transport
        self._path = path

    def open_hypervisor(self) -> Hypervisor:
        """Cost: six hypercalls that find out which Xen it is, one more for each version refused."""
        from domindex.xen.hypercall import PrivcmdHypervisor

        return PrivcmdHypervisor()

    def open_store(self, timeout: float) -> Store:
        """Cost: the connection; through the xenbus a round trip, where it was not asked for.

        Once there was a socket, every later line goes by it: while xenstored is away its socket
        is too, and the xenbus would be there, with a kernel that does not say that it is away.
        """
        from domindex.xen.xenstore import XenStore

        store = XenStore(self._transport, self._path, timeout)
        if store.transport == "socket":
            self._transport = "socket"
        return store


def connect(
    host: Host | None = None,
    *,
    timing: Timing | None = None,
    timeout: float = 60.0,
    stale: Stale = "serve",
    wait: bool = True,
) -> Index:
    """The index of this host, once it holds every domain. Close it, or use it in a `with`.

    host: a `XenHost` with other than the usual ways, or a `SimulatedHost`.
    timing: time limits and intervals. timeout: seconds until the index must be whole; until then
        it tries again, as xenstored may be about to start.
    stale: what look-ups do while the line to the host is down: "serve" what was last known (only
        a miss raises NotLive), "refuse" with NotLive, or "wait" for the line, `timing.wait`
        seconds at most. `age` tells how old the picture is.
    wait: False returns at once, before xenstored was asked: the index is not live then, says so to
        its listeners by `Lost`, and becomes live by itself (`Recovered`, `wait_live`). For a
        daemon that may start before xenstored.

    Raises NotControlDomain, AccessDenied, UnknownXen, HypercallFailed, StoreLost, TimedOut:
    each says what is missing. Where a second try would not help it raises at once.
    Cost for n domains: opening the host (see `XenHost`); two list hypercalls, on Xen >= 4.21 two
    small ones more for each domain; n watches and n reads of xenstore, pipelined. Where xenstored
    knows watch depth three watches stand for all.
    """
    index = Index(XenHost() if host is None else host, timing, stale)
    index.start(timeout, wait=wait)
    return index
