"""The index for asyncio: a coat over the thread of `Index`, which does the work as ever.

Look-ups are plain calls: they ask nobody and are done in microseconds. What waits is awaited,
without a thread: for events, domains, a refresh. The few calls that ask the hypervisor, open or
close run in a thread, so that nothing ever blocks the loop. Cancelling any of them leaves
nothing behind, but for a thread that a hypercall holds up.

trio has no coat of its own: it would need a dependency, and little of this would be left. There
`await trio.lowlevel.wait_readable(index.fileno())`, then call `index.dispatch()`, which runs the
handlers of `index.subscribe(..., threaded=False)`; `trio.to_thread.run_sync` does the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
import weakref
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError
from typing import Concatenate, Literal, ParamSpec, Self, TypeAlias, TypeVar
from uuid import UUID

from domindex.answers import Answers
from domindex.connect import XenHost
from domindex.core.key import View
from domindex.core.snapshot import Snapshot
from domindex.domain import Domain, DomainInfo, OSType
from domindex.errors import InvalidKey, NoEventLoop, StoreError
from domindex.events import Event, Removed
from domindex.index import Index
from domindex.listening.callbacks import check_callable
from domindex.listening.delivery import Opener
from domindex.listening.mailbox import QUEUE, Mailbox, Wanted
from domindex.listening.waiting import Look, last
from domindex.listening.watch import NodeHandler, NodeWatch, Refusal
from domindex.options import Timing
from domindex.ports import Host
from domindex.stats import Capabilities, Stats

P = ParamSpec("P")
T = TypeVar("T")

Prompt: TypeAlias = Literal["serve", "refuse"]
"""What a look-up does while the line is down. It does not wait: for that await `wait_live`."""


def connect(
    host: Host | None = None,
    *,
    timing: Timing | None = None,
    timeout: float = 60.0,
    stale: Prompt = "serve",
    wait: bool = True,
) -> Connecting:
    """`domindex.connect` to await, or to enter with `async with`, which closes it at the end.

    The arguments and errors are the same, but for stale="wait", which is a ValueError: it would
    block the loop. If it is cancelled, the index is closed again at once.

    >>> from domindex.testing import SimulatedHost
    >>> async def main(host):
    ...     async with connect(host) as index:
    ...         return index.by_id(0).name
    >>> asyncio.run(main(SimulatedHost()))
    'Domain-0'
    """
    return Connecting(host, timing, timeout, _prompt(stale), wait)


class Connecting:
    """An index that is still to be opened: `await` it, or enter it with `async with`."""

    def __init__(
        self,
        host: Host | None,
        timing: Timing | None,
        timeout: float,
        stale: Prompt,
        wait: bool,
    ) -> None:
        self._make = functools.partial(Index, XenHost() if host is None else host, timing, stale)
        self._begin = functools.partial(Index.start, timeout=timeout, wait=wait)
        self._opening: Index | None = None  # for a task that is cancelled meanwhile
        self._unwanted = False
        self._opened: AsyncIndex | None = None

    def __await__(self) -> Generator[object, None, AsyncIndex]:
        return self._connect().__await__()

    async def __aenter__(self) -> AsyncIndex:
        self._opened = await self
        return self._opened

    async def __aexit__(self, *_: object) -> None:
        if self._opened is not None:
            await self._opened.close()

    async def _connect(self) -> AsyncIndex:
        try:
            return AsyncIndex(await _apart(self._open, unwanted=Index.close))
        except asyncio.CancelledError:
            self._unwanted = True
            if self._opening is not None:
                _start(self._opening.close)  # it may be trying to reach xenstored for long
            raise

    def _open(self) -> Index:
        self._opening = index = self._make()
        if self._unwanted:
            index.close()  # then it does not start
        self._begin(index)
        return index


def _plain(method: Callable[Concatenate[Index, P], T]) -> Callable[Concatenate[AsyncIndex, P], T]:
    """The same of the index beneath: what asks nobody may be called in the loop as it is."""

    @functools.wraps(method)
    def call(self: AsyncIndex, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return method(self._index, *args, **kwargs)

    return call


class AsyncIndex:
    """Every running domain of one host, for the tasks of an asyncio loop. Made by `connect`.

    names, uuids, domids: as of `Index`. Look-ups may be made from any thread, and waits and
    events from tasks of any asyncio loop.
    """

    names: View[str]
    uuids: View[UUID]
    domids: View[int]

    def __init__(self, index: Index) -> None:
        self._index = index
        self._rings: dict[asyncio.AbstractEventLoop, _Ring] = {}
        self.names, self.uuids, self.domids = index.names, index.uuids, index.domids

    async def close(self, timeout: float = 10.0) -> None:
        """End it; afterwards each call raises Closed, and each `async for` over its events ends.

        As `Index.close`. If this is cancelled, it closes all the same.
        """
        await _apart(functools.partial(self._index.close, timeout), unwanted=_nothing)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- plain calls -------------------------------------------------------------------------

    def by_name(self, name: str | bytes, *, stale: Prompt | None = None) -> Domain:
        """As `Index.by_name`. To have it verified, await `verified`."""
        return self._index.by_name(name, stale=_prompt(stale))

    def by_uuid(self, uuid: UUID | str | bytes, *, stale: Prompt | None = None) -> Domain:
        """As `Index.by_uuid`."""
        return self._index.by_uuid(uuid, stale=_prompt(stale))

    def by_id(self, domid: int, *, stale: Prompt | None = None) -> Domain:
        """As `Index.by_id`."""
        return self._index.by_id(domid, stale=_prompt(stale))

    def os_type(self, domid: int, *, stale: Prompt | None = None) -> OSType:
        """As `Index.os_type`."""
        return self._index.os_type(domid, stale=_prompt(stale))

    def snapshot(self, stale: Prompt | None = None) -> Snapshot:
        """As `Index.snapshot`."""
        return self._index.snapshot(_prompt(stale))

    all_by_name = _plain(Answers.all_by_name)
    all_by_uuid = _plain(Answers.all_by_uuid)
    resolve = _plain(Answers.resolve)
    find = _plain(Answers.find)
    range = _plain(Answers.range)
    add_index = _plain(Answers.add_index)
    by = _plain(Answers.by)
    recent = _plain(Answers.recent)
    __contains__ = _plain(Answers.__contains__)
    __iter__ = _plain(Answers.__iter__)
    __len__ = _plain(Answers.__len__)

    @property
    def live(self) -> bool:
        """As `Index.live`."""
        return self._index.live

    @property
    def unreadable(self) -> Mapping[int, StoreError]:
        """As `Index.unreadable`."""
        return self._index.unreadable

    @property
    def age(self) -> float:
        """As `Index.age`."""
        return self._index.age

    @property
    def generation(self) -> int:
        """As `Index.generation`."""
        return self._index.generation

    @property
    def stats(self) -> Stats:
        """As `Index.stats`; each `events` that is open counts as a listener."""
        return self._index.stats

    @property
    def capabilities(self) -> Capabilities:
        """As `Index.capabilities`."""
        return self._index.capabilities

    # -- asking the host ---------------------------------------------------------------------

    async def verified(
        self,
        *,
        name: str | bytes | None = None,
        uuid: UUID | str | bytes | None = None,
        domid: int | None = None,
    ) -> Domain:
        """The one domain with this key, as the hypervisor has it now: `verify=True` of `Index`.

        Raises what that raises; InvalidKey for none or several of the keys. Cost: a thread of
        the loop's executor for the time of a hypercall, or of a refresh.
        """
        if [name, uuid, domid].count(None) != 2:
            raise InvalidKey("verified needs one of name, uuid and domid")
        if name is not None:
            return await _in_executor(self._index.by_name, name, verify=True)
        if uuid is not None:
            return await _in_executor(self._index.by_uuid, uuid, verify=True)
        assert domid is not None
        return await _in_executor(self._index.by_id, domid, verify=True)

    async def info(self, domid: int, *, max_age: float = 0.0) -> DomainInfo:
        """As `Index.info`, in a thread of the loop's executor: Xen's locks may hold it up."""
        return await _in_executor(self._index.info, domid, max_age=max_age)

    async def refresh(self, timeout: float = 5.0, *, names: bool = False) -> int:
        """As `Index.refresh`: what was complete on the host before the call is held after it."""
        return await self._wait(self._index._refresher(timeout, names), timeout)

    # -- listening ---------------------------------------------------------------------------

    def events(
        self,
        *,
        events: Collection[type[Event]] | None = None,
        where: Callable[[Domain], object] | None = None,
        replay: bool = True,
        queue: int = QUEUE,
        reboot_grace: float = 0.0,
    ) -> AsyncEventStream:
        """What `Index.events` tells, for `async for`. It listens from this call on.

        `where` is called in the loop, and so must be quick.
        """
        opener = self._index._opener(replay, queue, reboot_grace)
        return AsyncEventStream(opener, Wanted(events, where), self._index._forget)

    def watch(
        self, domain: Domain, path: str, handler: NodeHandler, *, on_error: Refusal | None = None
    ) -> NodeWatch:
        """As `Index.watch`; `handler(domain, value)` is called in the loop, and so must be quick.

        So is `on_error`. Of values that come while the loop is busy it is told the last.
        """
        check_callable("a handler", handler)
        if on_error is not None:
            check_callable("on_error=", on_error)
        ring, lock = _Ring(), threading.Lock()
        latest: list[Callable[[], object]] = []

        def run() -> None:
            with lock:
                tell = latest.pop()
            if not watch.closed:
                tell()

        def hear(call: Callable[[Domain, T], object], holder: Domain, value: T) -> None:
            with lock:
                waiting = bool(latest)
                latest[:] = [functools.partial(call, holder, value)]
            if not waiting:
                ring.tell(run)

        watch = self._index.watch(
            domain,
            path,
            functools.partial(hear, handler),
            on_error=functools.partial(hear, on_error or _nothing),
        )
        return watch

    # -- waiting -----------------------------------------------------------------------------

    async def wait_for(
        self,
        *,
        name: str | bytes | None = None,
        uuid: UUID | str | bytes | None = None,
        domid: int | None = None,
        where: Callable[[Domain], object] | None = None,
        ready: bool = False,
        timeout: float = 30.0,
    ) -> Domain:
        """As `Index.wait_for`. `where` is called in the loop, and so must be quick."""
        look = self._index._finder(name, uuid, domid, where, ready, timeout)
        return await self._wait(look, timeout)

    async def wait_gone(self, domain: Domain, timeout: float = 30.0) -> Removed:
        """As `Index.wait_gone`."""
        return await self._wait(self._index._end_finder(domain, timeout), timeout)

    async def wait_live(self, timeout: float = 30.0) -> None:
        """As `Index.wait_live`."""
        await self._wait(self._index._is_live, timeout)

    async def wait_generation(self, generation: int, timeout: float = 30.0) -> int:
        """As `Index.wait_generation`."""
        return await self._wait(self._index._reacher(generation, timeout), timeout)

    async def _wait(self, look: Look[T], timeout: float) -> T:
        """What `Bell.wait_for` does, for a task."""
        with self._ringing() as ring:
            try:
                async with asyncio.timeout(min(timeout, threading.TIMEOUT_MAX)) as limit:
                    while (found := look(False)) is None:
                        await ring.wait()
                    return found
            except TimeoutError:
                if not limit.expired():
                    raise  # the look's own
            return last(look)

    @contextlib.contextmanager
    def _ringing(self) -> Iterator[_Ring]:
        """The bell's ring, for as long as somebody waits for it: one for all tasks of a loop.

        It passes through the loop under the index's lock, and so once, not once for each task.
        """
        ring = self._rings.get(_loop())
        if ring is None:
            ring = self._rings[_loop()] = _Ring()
            ring.stop = self._index._bell.on_ring(ring)
        ring.waiting += 1
        try:
            yield ring
        finally:
            ring.waiting -= 1
            if not ring.waiting:
                del self._rings[ring.loop]
                ring.stop()


class AsyncEventStream:
    """Events to iterate over with `async for`. Made by `AsyncIndex.events`; for one loop.

    Iterating ends when it is closed, or its index. A task that is cancelled while it waits for
    an event has missed none. Others get their turn between any two events. Close it, or use it
    in an `async with`: while it is open it keeps what nobody has asked for, up to its bound. One
    that is let go unclosed, as by `break`, is forgotten.
    """

    def __init__(self, opener: Opener, wanted: Wanted, forget: Callable[[Mailbox], None]) -> None:
        self._wanted = wanted
        self._ring = _Ring()
        self._forget = forget
        self._mailbox = opener(self._ring)
        self._let_go = weakref.finalize(self, self._mailbox.abandon)
        self._let_go.atexit = False

    @property
    def pending(self) -> int:
        """Events taken in and not yet asked for."""
        return self._mailbox.pending

    @property
    def overflows(self) -> int:
        """How often its backlog was dropped, and a `Resync` told instead."""
        return self._mailbox.overflows

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            await asyncio.sleep(0)  # there may always be one more, and other tasks
            if (event := self._mailbox.take()) is not None:
                if (told := self._wanted(event)) is not None:
                    return told
            elif self._mailbox.closed:
                raise StopAsyncIteration
            else:
                due = self._mailbox.due
                left = None if due is None else max(0.0, due - time.monotonic())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._ring.wait()

    def close(self) -> None:
        """Stop; what nobody asked for is dropped. May be called twice, and from any thread."""
        self._let_go.detach()
        self._forget(self._mailbox)
        self._mailbox.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class _Ring:
    """Wakes tasks from any thread, the index's above all: never waits, never raises there.

    waiting, stop: for `AsyncIndex._ringing`.
    """

    def __init__(self) -> None:
        self.loop = _loop()
        self.waiting = 0
        self.stop: Callable[[], None] = _nothing
        self._rung = asyncio.Event()
        self._on_its_way = False  # one message to the loop is enough

    def __call__(self) -> None:
        if not self._on_its_way:
            self._on_its_way = True
            try:
                self.tell(self._arrive)
            except BaseException:  # no memory for it: the next ring must not believe that it went
                self._on_its_way = False
                raise

    def tell(self, call: Callable[[], object]) -> None:
        """Have the loop call this; nothing happens if it is closed, for nobody waits in it."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(call)

    def _arrive(self) -> None:
        self._on_its_way = False
        self._rung.set()  # for those who wait now; whoever comes later has looked later
        self._rung.clear()

    async def wait(self) -> None:
        """Wait for the next ring: one that is called after this is, or on its way by then."""
        await self._rung.wait()


async def _in_executor(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a call that may take a while, in a thread that the loop keeps for such."""
    _loop()
    return await asyncio.to_thread(call, *args, **kwargs)


async def _apart(call: Callable[[], T], unwanted: Callable[[T], object]) -> T:
    """The result of a call that may take long, in a thread of its own, which nobody joins.

    unwanted: called with the result, in a thread, if whoever waited for it was cancelled.
    """
    _loop()
    done: Future[T] = Future()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:
            with contextlib.suppress(InvalidStateError):  # nobody waits for it any more
                done.set_exception(error)
            return
        try:
            done.set_result(result)
        except InvalidStateError:
            unwanted(result)

    _start(run)
    try:
        return await asyncio.wrap_future(done)
    except BaseException:
        if not done.cancel() and done.exception() is None:
            _start(functools.partial(unwanted, done.result()))  # it came, and we went
        raise


def _start(run: Callable[[], object]) -> None:
    threading.Thread(target=run, name="domindex-aio", daemon=True).start()


def _nothing(*_: object) -> None:
    pass


def _prompt(stale: T) -> T:
    if stale == "wait":
        raise ValueError('stale="wait" would block the loop: await wait_live() instead')
    return stale


def _loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise NoEventLoop(
            "domindex.aio works in a running asyncio loop, and there is none here; for trio and "
            "other loops see domindex.aio's documentation, for threads use domindex.connect()"
        ) from None
