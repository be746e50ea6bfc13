"""The index for programs with threads: look-ups, and what waits, listens or asks the host.

Each method is a step to one of the parts: lookups.py answers, conditions.py says what is waited
for, listening/hub.py tells events, facts.py asks the hypervisor, body.py opens and closes it all.
The same for asyncio is aio.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar
from uuid import UUID

from domindex import conditions
from domindex.body import Body
from domindex.core.key import KeyIndex
from domindex.domain import Domain, DomainInfo, OSType, ShutdownReason
from domindex.events import Event, Removed
from domindex.keys import as_domid, as_uuid
from domindex.limits import as_seconds
from domindex.listening.hub import MailboxOptions
from domindex.listening.mailbox import QUEUE
from domindex.listening.stream import EventStream
from domindex.listening.subscription import ErrorHook, Handler, Subscription
from domindex.listening.wanted import Kinds, Wanted
from domindex.listening.watch import NodeHandler, NodeWatch, Refusal
from domindex.lookups import LookUps, unusable
from domindex.options import Stale, Timing
from domindex.ports import Host
from domindex.stats import Capabilities, Stats

K = TypeVar("K", bound=Any)


class Index(LookUps[Stale]):
    """Every running domain of one host by name, uuid and domid, kept true by watching.

    Made by `domindex.connect()`. Safe from any thread, handlers of events included.
    """

    def __init__(
        self,
        host: Host,
        timing: Timing | None = None,
        stale: Stale = "serve",
        max_stale: float | None = None,
    ) -> None:
        self._body = body = Body(host, timing, stale, max_stale)
        super().__init__(body.picture, stale, body.timing.wait)
        self._confirms = body.confirms

    @property
    def timing(self) -> Timing:
        """The intervals and time limits that it was opened with."""
        return self._body.timing

    def start(self, timeout: float | None, *, wait: bool = True) -> None:
        """Begin to follow the host; return once the index holds all of it. For `connect`."""
        self._body.start(timeout, wait=wait)

    def close(self, timeout: float | None = 10.0) -> None:
        """End the watcher and every listener. Afterwards each call raises Closed.

        Leaves no thread, watch or descriptor. It may be called from any thread and twice: a call
        beside another one does not wait for it, and one after an interrupted one finishes it.
        Called from a handler, the thread of that handler ends when the handler returns.

        Args:
            timeout: seconds to wait for handlers and hypercalls under way, None for as long as
                they take. What takes longer gives its thread and descriptors back as soon as it
                returns.
        """
        self._body.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- look-ups that may ask the hypervisor ------------------------------------------------

    def by_name(
        self, name: str | bytes, verify: bool = False, stale: Stale | None = None
    ) -> Domain:
        """The one domain with this name.

        Args:
            name: compared byte for byte; digits are a name like any other.
            verify: ask the hypervisor whether that domain still runs and is as the record says.
                (The name itself is xenstore's, and is followed by its own watch.)
            stale: what to do while the line to the host is down, for this call: "serve" what was
                last known, "refuse" with NotLive, or "wait" for the line. The default is what
                `connect(stale=)` was given.

        Raises:
            NoSuchDomain: no running domain has it.
            Ambiguous: several have it.
            NotLive: it is not held, and the line to the host is down.
            InvalidKey: it cannot be a name.
            Closed: the index was closed.
            HypercallFailed, TimedOut: only with `verify`.

        Cost:
            One dict look-up. With `verify` one hypercall, on Xen >= 4.21 two; a miss costs a
            `refresh`, and a contradiction up to three, each with as many hypercalls after it.
        """
        if verify or stale is not None:
            return self._carefully(self._body.picture.table.names, name, verify, stale)
        try:
            return self.names[name]  # type: ignore[index]  # bytes come back by __missing__
        except TypeError as error:
            raise unusable(error, "name", name) from None

    def by_uuid(
        self, uuid: UUID | str | bytes, verify: bool = False, stale: Stale | None = None
    ) -> Domain:
        """The one domain with this uuid. Errors and cost as `by_name`.

        Args:
            uuid: a UUID, text in any spelling, or 16 bytes. The nil uuid, which dom0 has,
                belongs to no domain.
            verify: as for `by_name`.
            stale: as for `by_name`.
        """
        if verify or stale is not None:
            return self._carefully(self._body.picture.table.uuids, uuid, verify, stale)
        try:
            return self.uuids[uuid]  # type: ignore[index]  # text and bytes come back, too
        except TypeError as error:
            if isinstance(uuid, bytearray):  # as_uuid takes it, but it has no hash
                return self.uuids[as_uuid(uuid)]
            raise unusable(error, "uuid", uuid) from None

    def by_id(self, domid: int, verify: bool = False, stale: Stale | None = None) -> Domain:
        """The domain with this domid. Errors and cost as `by_name`; never Ambiguous.

        Args:
            domid: 0 to 0x7FEF.
            verify: as for `by_name`.
            stale: as for `by_name`.
        """
        if verify or stale is not None:
            return self._carefully(self._body.picture.table.domids, domid, verify, stale)
        return self.domids[domid if type(domid) is int else as_domid(domid)]

    def os_type(self, domid: int, verify: bool = False, stale: Stale | None = None) -> OSType:
        """PV, HVM, PVH or UNKNOWN. Arguments, errors and cost as `by_id`."""
        return self.by_id(domid, verify, stale).type

    def _carefully(
        self,
        index: KeyIndex[K, Domain],
        key: Any,
        verify: bool,
        stale: Stale | None,
    ) -> Domain:
        """A look-up that has to do more than look into a dict."""
        if not verify:
            return self._look_closer(index, key, stale)
        if stale is not None or not self._any_age:
            self._refuse_stale(index, index.key_of(key), stale)
        try:
            domain = index.unique.get(key)
        except TypeError:  # it has no hash: `key_of` makes it a key or says what is wrong
            domain = None
        if domain is None:
            domain = index.unique.get(key := index.key_of(key))
        if domain is not None and self._confirms(domain):
            return domain
        return self._body.verified_anew(index, key)

    # -- asking the host ---------------------------------------------------------------------

    def info(self, domain: int | Domain, *, max_age: float = 0.0) -> DomainInfo:
        """State, memory and times of a domain, as the hypervisor has them now.

        Args:
            domain: a domid, or a record: then the numbers are of the life that it is of, never of
                another one on its domid. Its unique id proves it, on Xen before 4.21 its uuid.
            max_age: an answer of the same life that is at most so many seconds old will do.

        Raises:
            NoSuchDomain: there is no such domain, or the life of the record has ended.
            NotLive, TimedOut: only for a record whose uuid has changed, if the index does not
                learn the new one by a `refresh`.
            HypercallFailed: the hypervisor refused.
            InvalidKey, Closed: as `by_id`.

        Cost:
            One hypercall, or none. For a record on Xen >= 4.21 two, or none. For one whose uuid has
            changed and is not yet known, a `refresh` and the same again.
        """
        return self._body.facts.info(domain, max_age)

    def infos(self, *, max_age: float = 0.0, dying: bool = False) -> Mapping[int, DomainInfo]:
        """The same of every domain, by domid, lowest first: all from one moment.

        It has what the hypervisor lists, also what the index does not hold yet. It never changes.

        Args:
            max_age: an answer that is at most so many seconds old will do, if the index has not
                changed since.
            dying: with those of `dying` too.

        Raises:
            HypercallFailed: the hypervisor refused.
            Closed: the index was closed.

        Cost:
            One hypercall for each 1,024 domains, or none. What it says of a domain is decoded
            when it is taken out; `dict(index.infos())` takes out all.
        """
        return self._body.facts.infos(max_age, dying=dying)

    def dying(self) -> tuple[DomainInfo, ...]:
        """What has ended and is no longer in the index, but still holds its domid and some memory.

        Usually that takes milliseconds. It lasts where another domain has mapped a page of it.
        Before that, Xen takes back the memory of a large domain for seconds or minutes: then the
        domain is still in the index, without a name.

        Returns:
            Its domid, its uuid (XAPI replaces it before the end), the memory that it still holds;
            lowest domid first.

        Raises:
            HypercallFailed: the hypervisor refused.
            Closed: the index was closed.

        Cost:
            One hypercall for each 1,024 domains.
        """
        return self._body.facts.dying()

    def refresh(self, timeout: float | None = 5.0, *, names: bool = False) -> int:
        """Return once every change that was complete on the host before this call is held.

        Args:
            timeout: seconds to wait, None for as long as it takes.
            names: read every name again too, in case xenstored lost an event (which none does).

        Returns:
            The generation.

        Raises:
            NotLive, TimedOut: it was not done in time; NotLive if the line to the host is down.
            Closed: the index was closed.

        Cost:
            One xenstore round trip and one list hypercall, then what has changed. On Xen >= 4.21
            one small hypercall more for each domain, which identifies its life.
        """
        return self._body.refresh(timeout, names=names)

    def read(
        self, domain: Domain, *paths: str, timeout: float | None = 5.0
    ) -> dict[str, bytes | None]:
        """The values of xenstore nodes of a domain, read once. `watch` follows a node.

        They are of that life and no other: after they were read the hypervisor is asked whether
        it still runs. (Before Xen 4.21 by uuid, type and cpu time, as the index always does.)

        Args:
            domain: whose nodes they are, a record of this index.
            paths: below /local/domain/N, such as "memory/target".
            timeout: seconds to wait.

        Returns:
            By path the bytes, or None if there is no such node.

        Raises:
            NoSuchDomain: that life has ended.
            StoreError: xenstored refuses a node; `path` says which. The first one, if several.
            NotLive, TimedOut: it was not done in time; NotLive if the line to the host is down.
            InvalidKey: `domain` is no record, or a path is none.
            Closed: the index was closed.

        Cost:
            One xenstore round trip for all paths, and then one hypercall, on Xen >= 4.21 two.

        >>> from domindex.testing import SimulatedHost
        >>> with SimulatedHost() as host, host.connect() as index:
        ...     domid = host.create("web")
        ...     host.write(domid, "memory/target", b"1024")
        ...     web = index.wait_for(name="web")
        ...     index.read(web, "memory/target", "control/shutdown")
        {'memory/target': b'1024', 'control/shutdown': None}
        """
        with self._body.reading(domain, paths, timeout) as condition:
            return self._body.picture.changed.wait_for(condition, timeout)

    # -- waiting -----------------------------------------------------------------------------

    def wait_for(
        self,
        *,
        name: str | bytes | None = None,
        uuid: UUID | str | bytes | None = None,
        domid: int | None = None,
        domain: Domain | None = None,
        where: Callable[[Domain], object] | None = None,
        ready: bool = False,
        timeout: float | None = 30.0,
    ) -> Domain:
        """Wait until there is one domain that has all these keys and of which `where` holds.

        Args:
            name: its name.
            uuid: its uuid.
            domid: its domid.
            domain: a record of this index: only the life that it is of will do. It may have
                changed since, as `where` sees.
            where: a function that is called with a record, in this thread, after each change.
                Without a key the domain with the lowest domid of which it holds is taken.
            ready: wait until it is `Domain.ready`, too: it runs under its final name.
            timeout: seconds to wait, None for as long as it takes.

        Returns:
            Its record, as it is now.

        Raises:
            NoSuchDomain: only with `domain`: that life has ended. It is raised at once.
            Ambiguous: after `timeout` seconds, if several domains have the key.
            NotLive: after `timeout` seconds, if the line to the host is down.
            TimedOut: after `timeout` seconds, else.
            InvalidKey: no key and no `where`, or one that cannot be such a key.
            Closed: the index was closed.

        Cost:
            A look at each change of the index, nothing in between. No call to the host.

        >>> from domindex.testing import SimulatedHost
        >>> with SimulatedHost() as host, host.connect() as index:
        ...     _ = host.create("web")
        ...     web = index.wait_for(name="web", ready=True)
        ...     host.rename(web.domid, "www")
        ...     index.wait_for(domain=web, where=lambda domain: domain.name != "web").name
        'www'
        """
        condition = conditions.found(
            self._body.picture,
            name=name,
            uuid=uuid,
            domid=domid,
            domain=domain,
            where=where,
            ready=ready,
            timeout=timeout,
        )
        return self._body.picture.changed.wait_for(condition, timeout)

    def wait_gone(
        self, domain: Domain, timeout: float | None = 30.0, *, freed: bool = False
    ) -> Removed:
        """Wait until the life that this record is of has ended.

        Another life on the same domid is not mistaken for it.

        Args:
            domain: a record of this index.
            timeout: seconds to wait, None for as long as it takes.
            freed: wait until its domid and all its memory are free again too, see `dying`.

        Returns:
            The `Removed` of that end. If it was so long ago that `recent` has forgotten it, one
            with the given record, and `inferred`.

        Raises:
            TimedOut, NotLive: it still runs after `timeout` seconds, or is not freed; NotLive if
                the line to the host is down.
            HypercallFailed: only with `freed`.
            InvalidKey, Closed: as `wait_for`.

        Cost:
            A look at each change of the index. With `freed` one hypercall at its end; while it
            is dying more, as no event tells when that is over: the next after 10 ms, and each
            after twice the time of the one before, up to a second.
        """
        deadline = time.monotonic() + as_seconds(timeout)
        condition = conditions.ended(self._body.picture, domain, timeout)
        removed = self._body.picture.changed.wait_for(condition, timeout)
        for pause in conditions.looks(domain, deadline) if freed else ():
            if self._body.facts.is_freed(domain):
                break
            self._body.picture.changed.wait_for(conditions.never(self._body.picture), pause)
        return removed

    def wait_stopped(self, domain: Domain, timeout: float | None = 30.0) -> ShutdownReason:
        """Wait until the life that this record is of has shut down, been saved or crashed.

        Its domain may exist for some time afterwards: `wait_gone` waits for its end. A stop that
        ended again between two looks at the host, by a resume, is not seen.

        Args:
            domain: a record of this index.
            timeout: seconds to wait, None for as long as it takes.

        Returns:
            Why it has stopped. If the domain has ended meanwhile, the reason of its `Removed`.

        Raises:
            NoSuchDomain: it has ended, and no reason was seen: it was destroyed while it ran, or
                it stopped and ended between two looks.
            TimedOut, NotLive: it still runs after `timeout` seconds; NotLive if the line to the
                host is down.
            InvalidKey, Closed: as `wait_for`.

        Cost:
            As `wait_for`.

        >>> from domindex.testing import SimulatedHost
        >>> with SimulatedHost() as host, host.connect() as index:
        ...     host.crash(host.create("web"))
        ...     index.wait_stopped(index.wait_for(name="web")).name
        'CRASH'
        """
        condition = conditions.stopped(self._body.picture, domain, timeout)
        return self._body.picture.changed.wait_for(condition, timeout)

    def wait_live(self, timeout: float | None = 30.0) -> None:
        """Wait until the index is live. Raises NotLive after `timeout` seconds, Closed."""
        self._body.picture.changed.wait_for(conditions.live(self._body.picture), timeout)

    def wait_generation(self, generation: int, timeout: float | None = 30.0) -> int:
        """Wait until the index is at this generation or beyond; returns the one it is at.

        Raises:
            TimedOut, NotLive: it is not after `timeout` seconds.
            Closed: the index was closed.
        """
        condition = conditions.generation(self._body.picture, generation, timeout)
        return self._body.picture.changed.wait_for(condition, timeout)

    # -- listening ---------------------------------------------------------------------------

    def subscribe(
        self,
        handler: Handler,
        *,
        events: Kinds | None = None,
        where: Callable[[Domain], object] | None = None,
        replay: bool = True,
        queue: int = QUEUE,
        reboot_grace: float = 0.0,
        on_error: ErrorHook[Event] | None = None,
        threaded: bool = True,
        name: str | None = None,
    ) -> Subscription:
        """Call `handler(event)` for every event from now on, in order, in a thread of its own.

        The first events are an `Added` for each domain present, in domid order, each followed by
        its `Ready` if it is ready, then duplicates, then `Synced`, then `Lost` if the index is not
        live at this moment. A handler that raises
        is logged, and called again for the next event. A slow one delays no other.

        Args:
            handler: called with each event.
            events: only these types, such as `(Added, Removed)`, or this one. `Resync` always
                comes too.
            where: a function that is called with a record, in the handler's thread: only events
                about domains of which it holds. Of a rename one of the two records is enough;
                events about no domain pass. Once a life was let in, its stop and its end are too.
                `Ready` comes when it holds of a domain that is ready for the first time.
            replay: False leaves out what is present now: the first event is `Synced`.
            queue: how many events may wait for a slow handler. If there are more they are dropped
                and counted, and one `Resync` with all running domains comes in their place.
            reboot_grace: seconds for which a `Removed` is held back that may be half of a reboot
                (its reason is REBOOT, WATCHDOG or unknown). If a domain with its uuid, or else
                its name, starts in that time, `Rebooted` comes in place of both events.
            on_error: called with the event and the exception when the handler has raised.
            threaded: False leaves the calls to `dispatch`, in the thread that calls it.
            name: what to call the listener in log lines, in `stats.listeners`, in metrics and in
                the name of its thread (`domindex-NAME`). A listener for which an event waits for
                more than 10 s is logged, once until it has caught up; this is looked at in each
                probe and by `stats`.

        Raises:
            ValueError: `events`, `queue`, `reboot_grace` or `name` is out of its range.
            TypeError: a function cannot be called, or is `async def`.
            Closed: the index was closed.

        Cost:
            A thread, unless `threaded=False`.
        """
        return self._body.hub.subscribe(
            handler,
            Wanted(events, where),
            MailboxOptions(replay, queue, reboot_grace, name),
            on_error=on_error,
            threaded=threaded,
        )

    def events(
        self,
        *,
        events: Kinds | None = None,
        where: Callable[[Domain], object] | None = None,
        replay: bool = True,
        queue: int = QUEUE,
        reboot_grace: float = 0.0,
        name: str | None = None,
    ) -> EventStream:
        """The events of `subscribe`, to iterate over. Arguments and errors are the same. Close it.

        >>> from domindex.testing import SimulatedHost
        >>> with SimulatedHost() as host, host.connect() as index:
        ...     with index.events(replay=False) as events:
        ...         _ = host.create("web")
        ...         print([type(events.get(timeout=5)).__name__ for _ in range(3)])
        ['Synced', 'Added', 'Ready']
        """
        options = MailboxOptions(replay, queue, reboot_grace, name)
        return self._body.hub.stream(Wanted(events, where), options)

    def fileno(self) -> int:
        """A descriptor that is readable when `dispatch` has something to do, for a poll loop.

        It stays the same, and open as long as the index. Raises Closed.
        """
        return self._body.hub.loop().fd

    def dispatch(self) -> int:
        """Call the handlers made with `threaded=False` for the events that are there.

        It does not wait for events. If more come meanwhile, `fileno` is readable again. Called
        from a handler, or while another thread is in it, it does nothing.

        Handlers of events (`subscribe`) are called first, and then those of nodes (`watch`). So a
        value is not told before the `Added` of its domain was told to the listeners that were
        there before the watch. Once the index holds the end of a domain, no call with a value of
        it begins, here and in any thread.

        Returns:
            How many events and values there were.

        >>> import select
        >>> from domindex.testing import SimulatedHost
        >>> with SimulatedHost() as host, host.connect() as index:
        ...     _ = index.subscribe(lambda event: print(type(event).__name__), threaded=False)
        ...     _ = select.select([index], [], [], 5)
        ...     index.dispatch()
        Added
        Ready
        Synced
        3
        """
        return self._body.hub.loop().dispatch()

    def watch(
        self,
        domain: Domain,
        path: str,
        handler: NodeHandler,
        *,
        every: bool = False,
        threaded: bool = True,
        on_error: Refusal | None = None,
    ) -> NodeWatch:
        """Call `handler(domain, value)` with the value of a xenstore node, and at each change.

        The node is followed until that life ends, across reconnections; the handler is not called
        any more once the index holds the end. It gets the latest record. Handlers of all nodes
        share one thread. One that raises is logged, and called again for the next value.

        The order of values and events is promised within `dispatch` alone, which says it. Between
        threads there is none: a value may be told before the thread of a handler of events has
        come to the domain's `Added`.

        Args:
            domain: whose node it is.
            path: below /local/domain/N, such as "memory/meminfo".
            handler: called with the record and the value: bytes, or None if there is no such
                node. Of values that follow each other quickly it may get the last one only.
            every: call it for the same value again, too. Each write of the node, or of a node
                below it, is an event, as of a node that carries requests or of a directory.
                After each event there is a call, but one call may be for several events. There is
                one without any event, too, where one may have been missed: after a reconnection,
                and at each probe if xenstored refuses to watch the node.
            threaded: False leaves the calls to `dispatch`.
            on_error: called with the record and a StoreError when xenstored refuses the node;
                `NodeWatch.error` has it too. The node is asked for again at its next event and at
                each audit.

        Raises:
            NoSuchDomain: that life has ended.
            InvalidKey: this is no such path.
            TypeError: a function cannot be called, or is `async def`.
            Closed: the index was closed.

        Cost:
            A watch; at each change one read, and two hypercalls that prove whose value it was.

        >>> import queue
        >>> from domindex.testing import SimulatedHost
        >>> with SimulatedHost() as host, host.connect() as index:
        ...     domid = host.create("web")
        ...     host.write(domid, "memory/meminfo", b"1024")
        ...     values = queue.Queue()
        ...     web = index.wait_for(name="web")
        ...     watch = index.watch(web, "memory/meminfo", lambda *told: values.put(told))
        ...     domain, value = values.get(timeout=5)
        ...     print(domain.name, value)
        web b'1024'
        """
        return self._body.hub.watch(
            domain, path, handler, every=every, threaded=threaded, on_error=on_error
        )

    # -- state -------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """What this host offers, as found when it was opened."""
        return self._body.capabilities

    @property
    def stats(self) -> Stats:
        """The counters now."""
        return self._body.stats
