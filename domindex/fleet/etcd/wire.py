"""One line to one etcd: requests, answers, and what its errors mean.

The only file that imports grpc and aetcd, which have no types. The messages of etcd are `Any` from
here on; `kv.proto` and `rpc.proto` of etcd 3.5 say what is in them.

Read after ports.py and url.py; next versions.py.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol, TypeAlias

# What gRPC would write to stderr by itself is told by our errors.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
from aetcd import rpc
from aetcd.rpc import rpc_pb2_grpc as stubs

from domindex import forking
from domindex.fleet.errors import (
    EngineDenied,
    EngineError,
    EngineFull,
    LineLost,
    TooLarge,
    TooOld,
    UnfitEngine,
)
from domindex.fleet.url import Endpoint, Tls

Message: TypeAlias = Any

_OPTIONS: Final = [
    # 4 MiB is the default; a block of hosts, or one batch of a large host, may be more.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A new line is a new connection: not the one of a channel that was given up as dead.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    # Nobody waits for gRPC's own attempts: a line that failed is replaced.
    ("grpc.enable_retries", 0),
]


class Stream(Protocol):
    """A call that gives answers until it is cancelled or breaks."""

    def __iter__(self) -> Iterator[Message]: ...
    def cancel(self) -> object: ...


class Line:
    """A connection to one member. Safe from any thread.

    It is made at the first call, and stays with the member whatever happens; once a call raised
    LineLost it should be closed and replaced.

    Attributes:
        endpoint: The member.
    """

    def __init__(self, endpoint: Endpoint, tls: Tls | None) -> None:
        self.endpoint = endpoint
        target = f"dns:///{endpoint}"
        if tls is None:
            self._channel = grpc.insecure_channel(target, _OPTIONS)
        else:
            # Read anew for each line, so that certificates may be replaced while we run.
            credentials = grpc.ssl_channel_credentials(*tls.read())
            self._channel = grpc.secure_channel(target, credentials, _OPTIONS)
        self._pid = os.getpid()
        keyed = stubs.KVStub(self._channel)
        leases = stubs.LeaseStub(self._channel)
        self._watch = stubs.WatchStub(self._channel).Watch
        self._calls: dict[type[Any], Any] = {
            rpc.RangeRequest: keyed.Range,
            rpc.TxnRequest: keyed.Txn,
            rpc.LeaseGrantRequest: leases.LeaseGrant,
            rpc.LeaseRevokeRequest: leases.LeaseRevoke,
            rpc.StatusRequest: stubs.MaintenanceStub(self._channel).Status,
        }
        self._renewals = _Renewals(leases.LeaseKeepAlive)

    def call(self, request: Message, timeout: float) -> Message:
        """The answer to one request.

        Args:
            request: As the functions below make them.
            timeout: Seconds.

        Raises:
            EngineError: Or one of its kinds, as `meaning` has it.
            TooLarge: The request is more than etcd takes.
        """
        try:
            if isinstance(request, rpc.LeaseKeepAliveRequest):
                return self._renewals.ask(request, timeout)
            return self._calls[type(request)](request, timeout=timeout)
        except StopIteration:
            raise LineLost(f"etcd at {self.endpoint} ended a call without an answer") from None
        except grpc.RpcError as error:
            raise meaning(error, self.endpoint) from error
        except ValueError as error:  # the channel was closed by another thread
            raise LineLost(f"the line to {self.endpoint} was closed") from error

    def start(
        self, request: Message, timeout: float, done: Callable[[Message | EngineError], None]
    ) -> None:
        """Send one request, and do not wait.

        Args:
            request: As for `call`.
            timeout: Seconds.
            done: Is called once, from a thread of gRPC's or this one, with the answer or the
                error that `call` would raise.
        """

        def answered(future: Any) -> None:
            try:
                answer: Any = future.result()
            except grpc.RpcError as error:
                answer = meaning(error, self.endpoint)
            except grpc.FutureCancelledError:
                answer = LineLost(f"the line to {self.endpoint} was closed")
            done(answer)

        try:
            future = self._calls[type(request)].future(request, timeout=timeout)
        except ValueError:
            done(LineLost(f"the line to {self.endpoint} was closed"))
        else:
            future.add_done_callback(answered)

    def watch(self, requests: Iterable[Message]) -> Stream:
        """The stream of a watch. Iterating it raises what `broken` is for."""
        stream: Stream = self._watch(iter(requests))
        return stream

    def close(self) -> None:
        """End every call. In a forked child nothing is done: gRPC's threads are not there."""
        if self._pid == os.getpid():
            self._channel.close()
            self._renewals.close()


class _Renewals:
    """The stream on which leases are renewed. One for each renewal costs etcd three times that.

    Every host renews every few seconds, so this is most of what a large fleet asks of etcd.
    """

    def __init__(self, start: Callable[[Iterator[Message]], Any]) -> None:
        self._start = start
        self._lock = forking.rlock()  # one at a time: an answer does not say whose it is
        self._stream: Any = None
        self._requests: queue.SimpleQueue[Message | None] = queue.SimpleQueue()

    def ask(self, request: Message, timeout: float) -> Message:
        """The answer to one renewal. Raises grpc.RpcError, StopIteration."""
        deadline = time.monotonic() + timeout
        with self._lock:
            if self._stream is not None:
                try:
                    return self._asked(request, deadline)
                except (grpc.RpcError, StopIteration):
                    # It may have ended since the last renewal, with a member that is back by now.
                    if time.monotonic() >= deadline:
                        raise
            self._requests = queue.SimpleQueue()
            self._stream = self._start(iter(self._requests.get, None))
            return self._asked(request, deadline)

    def close(self) -> None:
        """End the thread of gRPC's that sends. The channel ends the stream."""
        self._requests.put(None)

    def _asked(self, request: Message, deadline: float) -> Message:
        # A stream that is kept has no time limit of its own.
        limit = threading.Timer(max(0.0, deadline - time.monotonic()), self._stream.cancel)
        limit.daemon = True
        limit.start()
        try:
            self._requests.put(request)
            return next(self._stream)
        except BaseException:
            self._stream.cancel()
            self._stream = None
            self._requests.put(None)
            raise
        finally:
            limit.cancel()
            limit.join()


Broken: Final[type[Exception]] = grpc.RpcError
"""What a `Stream` raises; `meaning` says what it means."""


def meaning(error: Any, endpoint: object) -> Exception:
    """The error of the fleet for one of gRPC.

    etcd's own errors have a code and a sentence, and some codes stand for several of them; then the
    sentence decides. What is not known is LineLost: it is tried again, and its text is shown.
    """
    code, said = error.code(), error.details() or ""
    where = f"etcd at {endpoint}"
    status = grpc.StatusCode
    if code is status.RESOURCE_EXHAUSTED and "space exceeded" in said:
        return EngineFull(f"{where} is full and takes no write: raise its quota, or compact it")
    if code is status.OUT_OF_RANGE:  # compacted, or a revision that is still to come
        return TooOld(f"{where} does not have that position: {said}")
    if code is status.INVALID_ARGUMENT and ("too large" in said or "too many op" in said):
        return TooLarge(f"{where} takes no transaction of that size: {said}")
    if code in (status.PERMISSION_DENIED, status.UNAUTHENTICATED) or "user name" in said:
        return EngineDenied(f"{where} refuses: {said}; `domindex fleet grant` prints what to allow")
    if code is status.UNIMPLEMENTED:
        return UnfitEngine(f"{endpoint} is no etcd: {said}")
    if code is status.DEADLINE_EXCEEDED or (code is status.CANCELLED and "application" in said):
        return LineLost(f"{where} did not answer in time")
    return LineLost(f"{where} did not answer: {said or code.name}")


# Requests. Keys are ASCII.


def range_of(key: str, end: str = "", *, revision: int = 0, count_only: bool = False) -> Message:
    """Read one key, or all from `key` up to before `end`. By quorum, which is the default."""
    return rpc.RangeRequest(
        key=key.encode("ascii"),
        range_end=end.encode("ascii"),
        revision=revision,
        count_only=count_only,
    )


def below(prefix: str, *, revision: int = 0) -> Message:
    """Read all keys that begin with this."""
    return range_of(prefix, end_of(prefix), revision=revision)


def end_of(prefix: str) -> str:
    """The first key behind all that begin with `prefix`."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def put(key: str, value: bytes, lease: int = 0) -> Message:
    """An operation of a transaction: write."""
    request = rpc.PutRequest(key=key.encode("ascii"), value=value, lease=lease)
    return rpc.RequestOp(request_put=request)


def delete(key: str, end: str = "") -> Message:
    """An operation of a transaction: delete one key, or all up to before `end`."""
    request = rpc.DeleteRangeRequest(key=key.encode("ascii"), range_end=end.encode("ascii"))
    return rpc.RequestOp(request_delete_range=request)


def read(request: Message) -> Message:
    """An operation of a transaction: read."""
    return rpc.RequestOp(request_range=request)


def has_value(key: str, value: bytes) -> Message:
    """A condition of a transaction. A key that is not there has no value."""
    return rpc.Compare(
        key=key.encode("ascii"), target=rpc.Compare.VALUE, result=rpc.Compare.EQUAL, value=value
    )


def is_from(key: str, revision: int) -> Message:
    """A condition: the key was last written at that revision; 0: it is not there."""
    return rpc.Compare(
        key=key.encode("ascii"),
        target=rpc.Compare.MOD,
        result=rpc.Compare.EQUAL,
        mod_revision=revision,
    )


def transaction(
    conditions: Iterable[Message], then: Iterable[Message], otherwise: Iterable[Message] = ()
) -> Message:
    """All of `then` if all conditions hold, else all of `otherwise`."""
    return rpc.TxnRequest(compare=conditions, success=then, failure=otherwise)


def grant(seconds: int) -> Message:
    """A new lease."""
    return rpc.LeaseGrantRequest(TTL=seconds)


def revoke(lease: int) -> Message:
    """The end of a lease."""
    return rpc.LeaseRevokeRequest(ID=lease)


def keep_alive(lease: int) -> Message:
    """Renew a lease."""
    return rpc.LeaseKeepAliveRequest(ID=lease)


def status() -> Message:
    """Ask one member for its version and state."""
    return rpc.StatusRequest()


def watch(prefix: str, revision: int) -> Message:
    """Everything below `prefix` from that revision on. An answer is never split."""
    create = rpc.WatchCreateRequest(
        key=prefix.encode("ascii"),
        range_end=end_of(prefix).encode("ascii"),
        start_revision=revision,
    )
    return rpc.WatchRequest(create_request=create)


def ask_progress() -> Message:
    """On a watch's own stream: say how far you are."""
    return rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())


def is_delete(event: Message) -> bool:
    """Whether a watched key is gone."""
    return bool(event.type == rpc.Event.DELETE)


def pairs(answer: Message) -> list[tuple[str, bytes]]:
    """Keys and values of a range. A key that is not ASCII is kept apart from all that are."""
    return [(text(item.key), item.value) for item in answer.kvs]


def text(key: bytes) -> str:
    """A key as str. Ours are ASCII; of a stranger's nothing is lost."""
    return key.decode("ascii", "backslashreplace")
