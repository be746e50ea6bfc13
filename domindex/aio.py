"""The index for asyncio: the parts of `Index`, awaited.

Look-ups are plain calls: they stay in the process and take microseconds. What waits is awaited
without a thread: events, domains, a refresh. The few calls that ask the hypervisor, open or close
run in a thread, so that the loop never blocks. Cancelling any of them leaves nothing behind, but
for a thread that a hypercall holds up.

There is no coat for trio: it would need a dependency. In trio
`await trio.lowlevel.wait_readable(index.fileno())`, then call `index.dispatch()`, which runs the
handlers of `index.subscribe(..., threaded=False)`; `trio.to_thread.run_sync` does the rest.

Read after index.py. Where asyncio waits: `AsyncIndex._wait`, and for events
listening/async_stream.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError
from typing import Any, Literal, ParamSpec, Self, TypeAlias, TypeVar
from uuid import UUID

from domindex import conditions
from domindex.body import Body
from domindex.core.key import KeyIndex
from domindex.domain import Domain, DomainInfo, ShutdownReason
from domindex.errors import InvalidKey
from domindex.events import Removed
from domindex.keys import as_domid, as_name, as_uuid
from domindex.limits import as_seconds
from domindex.listening.async_stream import AsyncEventStream as AsyncEventStream
from domindex.listening.async_stream import LoopSignal, nothing, running_loop
from domindex.listening.callbacks import check_callable
from domindex.listening.hub import MailboxOptions
from domindex.listening.mailbox import QUEUE
from domindex.listening.signal import Condition, last_look
from domindex.listening.wanted import Kinds, Wanted
from domindex.listening.watch import NodeHandler, NodeWatch, Refusal
from domindex.lookups import LookUps
from domindex.opening import XenHost
from domindex.options import Timing, most_age
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
    timeout: float | None = 60.0,
    stale: Prompt = "serve",
    max_stale: float | None = None,
    wait: bool = True,
) -> Connecting:
    """`domindex.connect` to await, or to enter with `async with`, which closes it at the end.

    Arguments and errors are the same, but for stale="wait", which is a ValueError: it would block
    the loop. If it is cancelled, the index is closed again.

    >>> from domindex.testing import SimulatedHost
    >>> async def main(host):
    ...     async with connect(host) as index:
    ...         return index.by_id(0).name
    >>> asyncio.run(main(SimulatedHost()))
    'Domain-0'
    """
    if stale not in ("serve", "refuse"):
        raise ValueError(f"stale is 'serve' or 'refuse', not {stale!r}; or await wait_live()")
    return Connecting(host, timing, timeout, stale, max_stale, wait)


class Connecting:
    """An index that is still to be opened: `await` it, or enter it with `async with`."""

    def __init__(
        self,
        host: Host | None,
        timing: Timing | None,
        timeout: float | None,
        stale: Prompt,
        max_stale: float | None,
        wait: bool,
    ) -> None:
        most_age(stale, max_stale)  # a mistake is said here, and not when it is awaited
        host = XenHost() if host is None else host
        self._make = functools.partial(Body, host, timing, stale, max_stale)
        self._start = functools.partial(Body.start, timeout=as_seconds(timeout), wait=wait)
        self._stale: Prompt = stale
        self._opening: Body | None = None  # for a task that is cancelled meanwhile
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
            body = await _apart(self._open, unwanted=Body.close)
        except asyncio.CancelledError:
            self._unwanted = True
            if self._opening is not None:
                _start(self._opening.close)  # it may try to reach xenstored for long
            raise
        return AsyncIndex(body, self._stale)

    def _open(self) -> Body:
        self._opening = body = self._make()
        if self._unwanted:
            body.close()  # then it does not start
        self._start(body)
        return body


class AsyncIndex(LookUps[Prompt]):
    """Every running domain of one host, for the tasks of an asyncio loop. Made by `connect`.

    Look-ups may be made from any thread, and waits and events from tasks of any asyncio loop. To
    have an answer verified, await `verified`.
    """

    def __init__(self, body: Body, stale: Prompt) -> None:
        super().__init__(body.picture, stale, None)
        self._body = body
        self._signals: dict[asyncio.AbstractEventLoop, LoopSignal] = {}

    async def close(self, timeout: float | None = 10.0) -> None:
        """End it; afterwards each call raises Closed, and each `async for` over its events ends.

        As `Index.close`. If this is cancelled, it is closed all the same.
        """
        await _apart(functools.partial(self._body.close, timeout), unwanted=nothing)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def stats(self) -> Stats:
        """As `Index.stats`; each open `events` counts as a listener."""
        return self._body.stats

    @property
    def capabilities(self) -> Capabilities:
        """As `Index.capabilities`."""
        return self._body.capabilities

    # -- asking the host ---------------------------------------------------------------------

    async def verified(
        self,
        *,
        name: str | bytes | None = None,
        uuid: UUID | str | bytes | None = None,
        domid: int | None = None,
    ) -> Domain:
        """The one domain with this key, as the hypervisor has it now: `verify=True` of `Index`.

        Args:
            name: as for `Index.by_name`; or else
            uuid: as for `Index.by_uuid`; or else
            domid: as for `Index.by_id`.

        Raises:
            InvalidKey: none or several of the keys were given.
            DomindexError: what the look-up raises with `verify=True`.

        Cost:
            A thread of the loop's executor for the time of a hypercall, or of a refresh.
        """
        if [name, uuid, domid].count(None) != 2:
            raise InvalidKey("verified needs one of name, uuid and domid")
        if name is not None:
            return await self._verified(self._body.picture.table.names, as_name(name))
        if uuid is not None:
            return await self._verified(self._body.picture.table.uuids, as_uuid(uuid))
        return await self._verified(self._body.picture.table.domids, as_domid(domid))

    async def _verified(self, index: KeyIndex[Any, Domain], key: object) -> Domain:
        self._refuse_stale(index, key)
        return await _in_executor(self._body.verified, index, key)

    async def info(self, domain: int | Domain, *, max_age: float = 0.0) -> DomainInfo:
        """As `Index.info`, in a thread of the loop's executor: Xen's locks may hold it up."""
        return await _in_executor(self._body.facts.info, domain, max_age)

    async def infos(self, *, max_age: float = 0.0, dying: bool = False) -> Mapping[int, DomainInfo]:
        """As `Index.infos`, in a thread of the loop's executor."""
        return await _in_executor(self._body.facts.infos, max_age, dying=dying)

    async def dying(self) -> tuple[DomainInfo, ...]:
        """As `Index.dying`, in a thread of the loop's executor."""
        return await _in_executor(self._body.facts.dying)

    async def refresh(self, timeout: float | None = 5.0, *, names: bool = False) -> int:
        """As `Index.refresh`: what was complete on the host before the call is held after it."""
        return await self._wait(self._body.refreshing(timeout, names=names), timeout)

    async def read(
        self, domain: Domain, *paths: str, timeout: float | None = 5.0
    ) -> dict[str, bytes | None]:
        """As `Index.read`: the values of nodes, of that life and no other. It takes no thread."""
        with self._body.reading(domain, paths, timeout) as condition:
            return await self._wait(condition, timeout)

    # -- waiting -----------------------------------------------------------------------------

    async def wait_for(
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
        """As `Index.wait_for`. `where` is called in the loop, and so must be quick."""
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
        return await self._wait(condition, timeout)

    async def wait_gone(
        self, domain: Domain, timeout: float | None = 30.0, *, freed: bool = False
    ) -> Removed:
        """As `Index.wait_gone`; hypercalls are made in a thread of the loop's executor."""
        deadline = time.monotonic() + as_seconds(timeout)
        removed = await self._wait(conditions.ended(self._body.picture, domain, timeout), timeout)
        for pause in conditions.looks(domain, deadline) if freed else ():
            if await _in_executor(self._body.facts.is_freed, domain):
                break
            await self._wait(conditions.never(self._body.picture), pause)
        return removed

    async def wait_stopped(self, domain: Domain, timeout: float | None = 30.0) -> ShutdownReason:
        """As `Index.wait_stopped`."""
        return await self._wait(conditions.stopped(self._body.picture, domain, timeout), timeout)

    async def wait_live(self, timeout: float | None = 30.0) -> None:
        """As `Index.wait_live`."""
        await self._wait(conditions.live(self._body.picture), timeout)

    async def wait_generation(self, generation: int, timeout: float | None = 30.0) -> int:
        """As `Index.wait_generation`."""
        return await self._wait(
            conditions.generation(self._body.picture, generation, timeout), timeout
        )

    async def _wait(self, condition: Condition[T], timeout: float | None) -> T:
        """What `ChangeSignal.wait_for` does, for a task."""
        with self._signal() as signal:
            try:
                async with asyncio.timeout(as_seconds(timeout)) as limit:
                    while (found := condition(False)) is None:
                        await signal.wait()
                    return found
            except TimeoutError:
                if not limit.expired():
                    raise  # the condition's own
            return last_look(condition)

    @contextlib.contextmanager
    def _signal(self) -> Iterator[LoopSignal]:
        """The picture's changes, as this loop sees them, for as long as a task waits for one.

        One for all tasks of a loop: it is set with the index's lock held, and so only once.
        """
        signal = self._signals.get(running_loop())
        if signal is None:
            signal = self._signals[running_loop()] = LoopSignal()
            signal.stop = self._body.picture.changed.on_change(signal)
        signal.waiting += 1
        try:
            yield signal
        finally:
            signal.waiting -= 1
            if not signal.waiting:
                del self._signals[signal.loop]
                signal.stop()

    # -- listening ---------------------------------------------------------------------------

    def events(
        self,
        *,
        events: Kinds | None = None,
        where: Callable[[Domain], object] | None = None,
        replay: bool = True,
        queue: int = QUEUE,
        reboot_grace: float = 0.0,
        name: str | None = None,
    ) -> AsyncEventStream:
        """The events of `Index.events`, for `async for`. It listens from this call on.

        `where` is called in the loop, and so must be quick.
        """
        options = MailboxOptions(replay, queue, reboot_grace, name)
        return AsyncEventStream(self._body.hub, Wanted(events, where), options)

    def watch(
        self,
        domain: Domain,
        path: str,
        handler: NodeHandler,
        *,
        every: bool = False,
        on_error: Refusal | None = None,
    ) -> NodeWatch:
        """As `Index.watch`; `handler(domain, value)` is called in the loop, and so must be quick.

        So is `on_error`. Of values that come while the loop is busy it gets the last one.
        """
        check_callable("a handler", handler)
        if on_error is not None:
            check_callable("on_error=", on_error)
        signal, lock = LoopSignal(), threading.Lock()
        latest: list[Callable[[], object]] = []

        def run() -> None:
            with lock:
                call = latest.pop()
            if not watch.closed:
                call()

        def take(call: Callable[[Domain, T], object], holder: Domain, value: T) -> None:
            with lock:
                waiting = bool(latest)
                latest[:] = [functools.partial(call, holder, value)]
            if not waiting:
                signal.call(run)

        watch = self._body.hub.watch(
            domain,
            path,
            functools.partial(take, handler),
            every=every,
            threaded=True,
            on_error=functools.partial(take, on_error or nothing),
        )
        return watch


async def _in_executor(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a call that may take a while, from a thread of the loop's executor."""
    running_loop()
    return await asyncio.to_thread(call, *args, **kwargs)


async def _apart(call: Callable[[], T], unwanted: Callable[[T], object]) -> T:
    """The result of a call that may take long, from a thread of its own that is not joined.

    unwanted: called with the result, in a thread, if the task that waited was cancelled.
    """
    running_loop()
    done: Future[T] = Future()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:
            with contextlib.suppress(InvalidStateError):  # the task was cancelled
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
            _start(functools.partial(unwanted, done.result()))  # it came as we were cancelled
        raise


def _start(run: Callable[[], object]) -> None:
    threading.Thread(target=run, name="domindex-aio", daemon=True).start()
