"""Opening the index. The only file that imports both the package and `xen/`, the real host.

Read after index.py; next direct.py and cli.py.
"""

from __future__ import annotations

from domindex.index import Index
from domindex.options import Stale, Timing
from domindex.ports import Host, Hypervisor, Store


class XenHost:
    """The Xen host on which this process runs.

    Args:
        transport: How to reach xenstored: "socket" for its unix socket, "xenbus" for the device of
            the kernel. None follows XENSTORED_PATH and XENSTORED_RUNDIR, else it takes the socket
            if there is one, else the device.
        path: Path of that socket or device. None is the usual path.
    """

    def __init__(self, *, transport: str | None = None, path: str | None = None) -> None:
        self._transport = transport
        self._path = path

    def open_hypervisor(self) -> Hypervisor:
        """Open the hypervisor. For `connect`.

        Cost:
            Six hypercalls that find out the version of Xen, and one for each interface version
            that the hypervisor refuses.
        """
        from domindex.xen.hypercall import PrivcmdHypervisor

        return PrivcmdHypervisor()

    def open_store(self, timeout: float) -> Store:
        """Open a line to xenstored. For `connect`.

        Cost:
            One connection. If the xenbus was not asked for but is used, also one round trip.
        """
        from domindex.xen.xenstore import XenStore

        store = XenStore(self._transport, self._path, timeout)
        if store.transport == "socket":
            # Later lines use the socket too. While xenstored is down its socket is gone but the
            # xenbus device is still there, and the kernel does not say that xenstored is down.
            self._transport = "socket"
        return store


def connect(
    host: Host | None = None,
    *,
    timing: Timing | None = None,
    timeout: float | None = 60.0,
    stale: Stale = "serve",
    max_stale: float | None = None,
    wait: bool = True,
) -> Index:
    """Open the index of this host. Close it, or use it in a `with`.

    Args:
        host: A `XenHost` with other than the usual paths, or a `SimulatedHost`. None is this host.
        timing: Intervals and time limits. None is `Timing()`.
        timeout: How long to try until the index holds every domain, in seconds. It retries for
            that long, as xenstored may be about to start, unless a retry cannot help. None is
            without a limit.
        stale: What look-ups do while the line to the host is down. "serve" answers with what was
            last known, and raises NotLive only where nothing is found. "refuse" raises NotLive.
            "wait" waits for the line, for `timing.wait` seconds at most, then raises NotLive.
            `index.age` says how old the answers are.
        max_stale: With "serve", only while `index.age` is at most so many seconds; then look-ups
            raise NotLive until the line is back. None serves for as long as it takes. The thread
            that follows the host sees to it, at most `timing.request` seconds later, so that a
            hit still costs one dict look-up. While that thread itself is held up (which makes
            `live` False), hits are answered until a look-up misses, or another call looks.
            A call with `stale="serve"` is answered whatever the age.
        wait: False returns at once, for a daemon that may start before xenstored. The index is not
            live at first, which listeners receive as `Lost`. It becomes live by itself: listeners
            receive `Recovered`, and `wait_live` returns.

    Returns:
        The index. With `wait` it is live and holds every domain.

    Raises:
        NotControlDomain: There is no Xen here, or this is a guest.
        AccessDenied: This process has no access; usually it is not root.
        UnknownXen: This package does not know this version of Xen.
        HypercallFailed: The hypervisor refuses the calls.
        StoreLost: xenstored could not be reached.
        TimedOut: The index did not hold every domain within `timeout`.
        ValueError: `stale` is none of the three words, or `max_stale` is no number of seconds
            from 0, or is not with "serve".
        TypeError: `host`, `timing` or `timeout` is none.

    Cost:
        For n domains: the opening of the host (see `XenHost`), two hypercalls for the list, n
        watches and n xenstore reads (pipelined). On Xen >= 4.21 two more small hypercalls for each
        domain. Where xenstored supports watch depth, three watches in place of n.
    """
    index = Index(XenHost() if host is None else host, timing, stale, max_stale)
    index.start(timeout, wait=wait)
    return index
