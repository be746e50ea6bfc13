"""Several members, one that is asked: whom to ask, and what follows a failure.

A line that failed is not used again: the next call opens a new one, to the next member. gRPC
would go on with a dead connection for as long as the kernel does.

Read after greeting.py; next stream.py.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from domindex import forking
from domindex.errors import Closed
from domindex.fleet.errors import EngineDenied, EngineError, LineLost, UnfitEngine
from domindex.fleet.etcd import wire
from domindex.fleet.etcd.greeting import version_of
from domindex.fleet.etcd.versions import OLDEST, Version, advice, dotted, parse_version
from domindex.fleet.etcd.wire import Line, Message
from domindex.fleet.url import Endpoint, Tls

_log = logging.getLogger(__name__)


class Members:
    """The members of one etcd. Safe from any thread."""

    def __init__(self, endpoints: Sequence[Endpoint], tls: Tls | None, timeout: float) -> None:
        self.endpoints: tuple[Endpoint, ...] = tuple(endpoints)
        self.timeout = timeout
        self._tls = tls
        self._lock = forking.rlock()
        self._order = list(endpoints)  # whom to ask first
        self._lines: dict[Endpoint, Line] = {}
        self._told = False  # that the version is too old to be advised
        self._history: tuple[int, int] | None = None
        self._closed = ""
        self._inherited: dict[Endpoint, Line] = {}
        forking.register(self._forked)

    def call(
        self, request: Message, timeout: float | None = None, *, once: bool = False
    ) -> Message:
        """The answer of the first member that gives one.

        The time is shared: a member that is silent leaves some of it for the others.

        Args:
            request: As `wire.py` makes them.
            timeout: Seconds for all together; None: those of the engine.
            once: After LineLost no other member is asked. For what must not be done twice.

        Raises:
            LineLost: None answered.
            EngineDenied, UnfitEngine: None answered, and this is what one of them said.
            Closed: The engine was closed, or belongs to the parent of this process.
            EngineFull, TooOld, TooLarge: As `wire.meaning` has it.
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        with self._lock:
            order = list(self._order)
        errors: list[Exception] = []
        for place, endpoint in enumerate(order):
            # Each of those that are left gets the same time.
            share = max(0.0, deadline - time.monotonic()) / (len(order) - place)
            try:
                line = self._line_to(endpoint, share)
            except (LineLost, UnfitEngine, EngineDenied) as error:
                self.blame(endpoint)
                errors.append(error)
                continue  # nothing was sent
            try:
                return self._on(line, request, min(share, max(0.0, deadline - time.monotonic())))
            except LineLost as error:
                self.blame(endpoint, line)
                errors.append(error)
                if once:
                    break
        raise self._worst(errors)

    def open(self, timeout: float) -> Line:
        """A line of its own, for a feed: to the member that answered last.

        A feed has its own, so that a call that was given up does not take its line away.

        Raises:
            LineLost, EngineDenied, UnfitEngine, Closed: As `call`.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            order = list(self._order)
        errors: list[Exception] = []
        for place, endpoint in enumerate(order):
            share = max(0.0, deadline - time.monotonic()) / (len(order) - place)
            try:
                return self._fresh(endpoint, share)
            except (LineLost, UnfitEngine, EngineDenied) as error:
                self.blame(endpoint)
                errors.append(error)
        raise self._worst(errors)

    def each(self, timeout: float) -> dict[Endpoint, tuple[Version, Message | None] | Exception]:
        """Of every member its version and status, or why not. For `check`.

        The status is None where the certificate has no right to it.
        """
        found: dict[Endpoint, tuple[Version, Message | None] | Exception] = {}
        for endpoint in self.endpoints:
            self.check()
            try:
                version = self._version(endpoint, timeout)
                line = Line(endpoint, self._tls)
                try:
                    found[endpoint] = version, line.call(wire.status(), timeout)
                except EngineDenied:
                    found[endpoint] = version, None
                finally:
                    line.close()
            except EngineError as error:
                found[endpoint] = error
        return found

    def blame(self, endpoint: Endpoint, line: Line | None = None) -> None:
        """It failed: ask it last.

        Args:
            endpoint: The member.
            line: The line that failed, if it is one for calls: it is not used again. Calls of
                other threads that wait on it end with LineLost too.
        """
        with self._lock:
            if self._order[0] == endpoint:
                self._order.append(self._order.pop(0))
            if line is None or self._lines.get(endpoint) is not line:
                return
            del self._lines[endpoint]
        line.close()

    def goes_on(self, cluster: int, term: int) -> bool:
        """Whether a quorum that says this has the history of the one that was heard before.

        A term never falls, but in a store that was restored from a copy: also where its position
        has passed the one that we know.
        """
        with self._lock:
            before = self._history or (cluster, term)  # none: a feed without a load
            if before[0] != cluster or before[1] > term:
                return False  # until `begin`
            self._history = cluster, term
            return True

    def begin(self, cluster: int, term: int) -> None:
        """Everything is loaded anew: the history that a quorum says it has is the one."""
        with self._lock:
            self._history = cluster, term

    def check(self) -> None:
        """Raises Closed."""
        if self._closed:
            raise Closed(self._closed)

    def close(self) -> None:
        """End the line and every call on it."""
        with self._lock:
            self._closed = self._closed or "the engine was closed"
            lines = list(self._lines.values())
            self._lines.clear()
        for line in lines:
            line.close()

    def _on(self, line: Line, request: Message, timeout: float) -> Message:
        try:
            return line.call(request, timeout)
        except LineLost:
            self.check()  # it was closed meanwhile: that is why
            raise

    def _line_to(self, endpoint: Endpoint, timeout: float) -> Line:
        with self._lock:
            if (line := self._lines.get(endpoint)) is not None:
                return line
        line = self._fresh(endpoint, timeout)
        with self._lock:
            # Another thread may have made one meanwhile; or we were closed.
            kept = line if self._closed else self._lines.setdefault(endpoint, line)
        if self._closed or kept is not line:
            line.close()
        self.check()
        return kept

    def _fresh(self, endpoint: Endpoint, timeout: float) -> Line:
        self.check()
        version = self._version(endpoint, timeout)
        if version < OLDEST:
            raise UnfitEngine(
                f"etcd at {endpoint} has version {dotted(version)}; at least {dotted(OLDEST)} is "
                "needed, whose watches miss no delete"
            )
        if warning := advice(version):
            with self._lock:
                told, self._told = self._told, True
            if not told:
                _log.warning("etcd at %s: %s", endpoint, warning)
        return Line(endpoint, self._tls)

    def _version(self, endpoint: Endpoint, timeout: float) -> Version:
        deadline = time.monotonic() + timeout
        if (version := version_of(endpoint, self._tls, timeout)) is not None:
            return version
        line = Line(endpoint, self._tls)
        try:
            said = line.call(wire.status(), max(0.0, deadline - time.monotonic())).version
        except LineLost as error:
            hint = "" if self._tls else "; if it wants certificates, give them with tls="
            raise LineLost(f"{error}{hint}") from error
        finally:
            line.close()
        if (version := parse_version(said)) is None:
            raise UnfitEngine(f"etcd at {endpoint} does not say its version, but {said!r}")
        return version

    def _worst(self, errors: Sequence[Exception]) -> Exception:
        # What is wrong for good says more than that another one was silent.
        telling = [error for error in errors if not isinstance(error, LineLost)]
        if telling or len(errors) == 1:
            return (telling or errors)[0]
        return LineLost("no member of etcd answers: " + "; ".join(map(str, errors)))

    def _forked(self) -> None:
        # The lines are kept, not ended: gRPC's threads do not exist in this child.
        self._closed = "the engine was opened by the parent of this forked process"
        self._inherited, self._lines = self._lines, {}
