"""Everyone who listens to one picture (provisional)."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from domindex.core.nodes import Node, Value
from domindex.domain import Domain, Life
from domindex.events import Event, Synced
from domindex.listening.delivery import ErrorHook, EventStream, Handler, Opener, Subscription
from domindex.listening.dispatch import Dispatcher
from domindex.listening.mailbox import Mailbox, Wanted
from domindex.listening.watch import NodeHandler, NodeWatch, NodeWatches, Refusal, run_handler


class Source(Protocol):
    lock: threading.RLock

    def check_open(self) -> None: ...
    def present(self) -> list[Event]: ...
    def whole(self, first: Event) -> list[Event]: ...
    def resync(self) -> list[Event]: ...
    def latest(self, domain: Domain) -> Domain: ...
    def holds(self, domain: Domain) -> Domain: ...


class Hub:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._mailboxes: list[Mailbox] = []
        self._subscriptions: list[Subscription] = []
        self._dispatcher: Dispatcher | None = None
        self._overflows = self._errors = 0
        self._runners: dict[bool, Subscription] = {}

    def join(self, follow: Callable[[Life, Node], None], drop: Callable[[Node], None]) -> None:
        self._nodes = NodeWatches(
            self._source.lock,
            lambda domain, node: follow(domain.life, node),
            drop,
            self._source.latest,
        )

    def tell(self, events: Sequence[Event]) -> None:
        for mailbox in self._mailboxes:
            mailbox.put(events)

    def node_values(self, values: Iterable[tuple[Node, Value]]) -> None:
        self._nodes.told(values)

    def ended(self, domid: int) -> None:
        self._nodes.ended(domid)

    @property
    def queues(self) -> tuple[int, ...]:
        self._drop_abandoned()
        return tuple(mailbox.pending for mailbox in self._mailboxes)

    @property
    def overflows(self) -> int:
        return self._overflows + sum(box.overflows for box in self._mailboxes)

    @property
    def errors(self) -> int:
        return self._errors + sum(s.errors for s in self._subscriptions)

    def subscribe(
        self,
        handler: Handler,
        *,
        events: Collection[type[Event]] | None,
        where: Callable[[Domain], object] | None,
        replay: bool,
        queue: int,
        reboot_grace: float,
        on_error: ErrorHook | None,
        threaded: bool,
    ) -> Subscription:
        wanted = Wanted(events, where)
        opener = self._opener(replay, queue, reboot_grace)
        with self._source.lock:
            self._source.check_open()
            subscription = Subscription(
                handler,
                opener,
                self.forget,
                wanted=wanted,
                on_error=on_error,
                loop=None if threaded else self._loop(),
            )
            self._subscriptions.append(subscription)
            return subscription

    def stream(
        self,
        *,
        events: Collection[type[Event]] | None,
        where: Callable[[Domain], object] | None,
        replay: bool,
        queue: int,
        reboot_grace: float,
    ) -> EventStream:
        return EventStream(
            self._opener(replay, queue, reboot_grace), Wanted(events, where), self.forget
        )

    def open(
        self, wake: Callable[[], object], *, replay: bool, queue: int, reboot_grace: float
    ) -> Mailbox:
        return self._opener(replay, queue, reboot_grace)(wake)

    def fileno(self) -> int:
        with self._source.lock:
            self._source.check_open()
            return self._loop().fd

    def dispatch(self) -> int:
        with self._source.lock:
            self._source.check_open()
            loop = self._loop()
        return loop.dispatch()

    def watch(
        self,
        domain: Domain,
        path: str,
        handler: NodeHandler,
        *,
        threaded: bool,
        on_error: Refusal | None,
    ) -> NodeWatch:
        with self._source.lock:
            self._source.check_open()
            held = self._source.holds(domain)
            return self._nodes.add(held, path, handler, self._runner(threaded)._mailbox, on_error)

    def cut_off(self) -> list[Subscription]:
        self._nodes.clear()
        return list(self._subscriptions)

    def hang_up(self) -> None:
        for mailbox in list(self._mailboxes):
            mailbox.close()

    def close(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.close()

    def abandon(self) -> None:
        self._nodes._after_fork(self._source.lock)
        for mailbox in self._mailboxes:
            mailbox._after_fork()
        if self._dispatcher is not None:
            self._dispatcher._after_fork()

    def _runner(self, threaded: bool) -> Subscription:
        if threaded not in self._runners:

            def opened(wake: Callable[[], object]) -> Mailbox:
                mailbox = Mailbox(
                    self._source.lock, lambda: self._nodes.waiting(mailbox), wake, size=sys.maxsize
                )
                return mailbox

            self._runners[threaded] = runner = Subscription(
                run_handler,
                opened,
                self.forget,
                loop=None if threaded else self._loop(),
            )
            self._subscriptions.append(runner)
        return self._runners[threaded]

    def _opener(self, replay: bool, queue: int, reboot_grace: float) -> Opener:
        if queue < 1:
            raise ValueError(f"queue is a number of events of at least 1, not {queue!r}")
        if not 0 <= reboot_grace <= threading.TIMEOUT_MAX:
            raise ValueError(f"reboot_grace is seconds from 0, not {reboot_grace!r}")
        source = self._source

        def opened(wake: Callable[[], object]) -> Mailbox:
            with source.lock:
                source.check_open()
                mailbox = Mailbox(
                    source.lock, source.resync, wake, size=queue, reboot_grace=reboot_grace
                )
                mailbox.begin([*(source.present() if replay else ()), *source.whole(Synced())])
                self._drop_abandoned()
                self._mailboxes.append(mailbox)
                return mailbox

        return opened

    def forget(self, mailbox: Mailbox) -> None:
        with self._source.lock:
            if mailbox in self._mailboxes:
                self._mailboxes.remove(mailbox)
                self._overflows += mailbox.overflows
            for subscription in list(self._subscriptions):
                if subscription._hears(mailbox):
                    self._subscriptions.remove(subscription)
                    self._errors += subscription.errors

    def _drop_abandoned(self) -> None:
        for mailbox in [mailbox for mailbox in self._mailboxes if mailbox.closed]:
            self.forget(mailbox)

    def _loop(self) -> Dispatcher:
        if self._dispatcher is None:
            self._dispatcher = Dispatcher()
        return self._dispatcher
