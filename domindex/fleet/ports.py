"""What is asked of an engine: the store that a fleet's hosts write and its readers follow.

`memory.py` has it within one process, `etcd.py` on etcd. The contract tests in `tests/fleet`
hold both to what is written here. An engine knows where keys are (`layout.py`) and who may write
a host; of values it knows those of `alive` and `epoch` only.

A *position* is a number that grows with each change of the store. Read after layout.py; next
memory.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol, runtime_checkable

from domindex.fleet.errors import TooLarge
from domindex.fleet.layout import check_host, dom_prefix, host_key

NEW: Final = 1
"""The position of a store that nothing was ever written to."""
OPERATIONS: Final = 128
"""Puts and deletes that one `Claim.commit` takes. The caller splits."""
BYTES: Final = 1_000_000
"""Bytes of keys and values that one `Claim.commit` takes."""
TIMEOUT: Final = 5.0
"""Seconds that one request to an engine may take, unless the engine was opened with another."""
SILENCE: Final = 3.5
"""Seconds within which a feed tells progress or raises `LineLost`, whatever happened."""
LONGEST_LEASE: Final = 86400.0
"""Seconds. A host that is silent for a day and still counts as live helps nobody."""


class Change(NamedTuple):
    """A key got this value; None: it was deleted, or its lease ran out."""

    key: str
    value: bytes | None


class Batch(NamedTuple):
    """All changes of one transaction, which moved the store to `position`."""

    position: int
    changes: Sequence[Change]


class Progress(NamedTuple):
    """Every change up to `position` was told. The line works, by a quorum of the engine."""

    position: int


class Loaded(NamedTuple):
    """What the store held at one position.

    Attributes:
        epoch: Which store it is; None if nobody ever published there, and where only some hosts
            were asked for, whose rights need not reach it.
        position: Of everything in `pairs`. A feed from here has no gap and tells nothing twice.
        pairs: Keys and values, without the epoch's: of each host alive and record first, then the
            domains, host by host. They come in blocks while it is iterated, which may raise
            LineLost or TooOld. A feed that is opened before gets ready meanwhile.
    """

    epoch: str | None
    position: int
    pairs: Iterator[tuple[str, bytes]]


class Health(NamedTuple):
    """What `domindex fleet check` shows of an engine.

    Attributes:
        engine: "memory" or "etcd".
        version: Of the engine; the lowest, if it has several members.
        epoch: As in `Loaded`.
        members: Each endpoint and how it answers: "" if it is well, else a sentence.
        size: Bytes in use, None if it has no limit.
        quota: Bytes at which it takes no more; None if that is not known.
        warnings: Sentences. Empty if all is well.
    """

    engine: str
    version: str
    epoch: str | None
    members: Mapping[str, str]
    size: int | None
    quota: int | None
    warnings: Sequence[str]


class Claim(Protocol):
    """One host name, held for this process by a lease. Driven by one thread at a time.

    Attributes:
        host: The name.
        incarnation: What tells this claim from each other one of the host, before and after.
        ttl: Seconds that the lease lasts without `renew`. The engine may give more than was asked.
    """

    host: str
    incarnation: str
    ttl: float

    def commit(self, puts: Mapping[str, bytes], deletes: Collection[str] = ()) -> int:
        """Write in one transaction, and only while the host is this claim's.

        It is done whole or not at all. After LineLost nobody knows which; then the same may be
        committed again, or something that is built on neither.

        Args:
            puts: Values by key. The host's record must be among them, and so is written each
                time. It is also compared: where it is not as the last commit left it, the store
                is another one.
            deletes: Keys. One that is not there is no error.

        Returns:
            The position of the store after it.

        Raises:
            Fenced: Somebody else has the host, or nobody, or the store is another one.
            LineLost: No answer.
            EngineFull: The store takes no data. The lease may still be renewed.
            EngineDenied: The rights do not reach.
            TooLarge: More than OPERATIONS or BYTES.
            ValueError: A key of another host, or no record.

        Cost: One request.
        """
        ...

    def renew(self) -> None:
        """Have the lease last `ttl` seconds from now.

        Raises:
            Fenced: It ran out, or somebody else has the host; or the keys are not as they were
                left, which one of a few renewals looks at.
            LineLost: No answer.
            EngineDenied: The rights do not reach.

        Cost: One request; where the keys are looked at, two.
        """
        ...

    def release(self, puts: Mapping[str, bytes] | None = None) -> None:
        """Give the host up at once, and write in the same transaction, as `commit` does.

        After it every other method raises Fenced. Released twice is no error, nor is to try again
        after LineLost.

        Args:
            puts: The host's record, with why it ended. None: nothing is written, which a full
                store takes too.

        Raises:
            Fenced, LineLost, EngineFull, EngineDenied: As `commit`.

        Cost: Two requests.
        """
        ...


class Feed(Protocol):
    """What happens in the store, in order. `next` is called by one thread."""

    def next(self, timeout: float | None = None) -> Batch | Progress | None:
        """What came next.

        A reader is live with the first Progress, not before: until then the store may still say
        that it cannot tell. From then on one comes at least every SILENCE seconds, unless
        batches come. Positions never fall. Each batch is told once, and whole.

        Args:
            timeout: Seconds to wait; None: until something comes. 0 only looks at what is here.

        Returns:
            None if the time has passed without.

        Raises:
            LineLost: The line broke, or is silent. Follow again from the last position.
            TooOld: The store cannot tell what came next. Load anew.
            EngineDenied, UnfitEngine: As they say; trying again is of use once somebody acts.
            Closed: The feed or its engine was closed.

        Once it raised it raises the same again.
        """
        ...

    def ask(self) -> None:
        """From any thread: have Progress told soon, so that a barrier need not wait for it."""
        ...

    def close(self) -> None:
        """From any thread: make the current and each later `next` raise Closed."""
        ...


@runtime_checkable
class Engine(Protocol):
    """A line to the store. Safe from any thread.

    Every call has a time limit and may raise LineLost, EngineDenied or UnfitEngine; Closed
    after `close`, and in a forked child.
    """

    def claim(self, host: str, machine: str, ttl: float) -> Claim:
        """Become the publisher of a host, and make the store's epoch if there is none.

        From the same machine it is taken over at once: the claim before is fenced, and the alive
        key has the new incarnation without ever being absent. What the host has in the store
        stays as it is: `load` it to know what to change.

        Args:
            host: Its name, as `layout.check_host` takes it.
            machine: The machine-id.
            ttl: Seconds after which the host counts as lost if this process is not heard of.

        Raises:
            HostTaken: Another machine has it, or nobody can tell who.
            InvalidHost, ValueError, TypeError: As `check_claim`.
            EngineFull: The store takes no data.

        Cost: Five requests.
        """
        ...

    def load(self, hosts: Collection[str] | None = None) -> Loaded:
        """Everything in the store at one position.

        Args:
            hosts: Only what is stored of these, for which their own rights are enough.

        Raises:
            LineLost, EngineDenied, UnfitEngine: As every call.

        Cost: One request, and one for each 50 hosts as the pairs are iterated; with `hosts` one
        for each.
        """
        ...

    def follow(self, position: int, epoch: str | None) -> Feed:
        """Every change after `position`.

        Nothing is waited for: whether the store can tell is seen by the first `Feed.next`.

        Args:
            position: As `load` gave it, or the last that another feed told.
            epoch: As `load` gave it of the whole store. A store with another one is not followed,
                wherever it is. None: there was none at `position`. One that is made later is told
                as any change, one that is older is another store's. Without one nothing shows
                that a store which has passed `position` is the one that was loaded: load anew
                before each feed and, if `position` was above NEW, when the first epoch is told.
        """
        ...

    def position(self, timeout: float | None = None) -> int:
        """Where the store is now: all that was committed before the call is at or below.

        A quorum of the engine says so, never one member alone.

        Args:
            timeout: Seconds; None: those of the engine.

        Raises:
            LineLost: No quorum answered in time.

        Cost: One request.
        """
        ...

    def replace(self, host: str, expected: bytes, record: bytes | None) -> int:
        """Write the record of a host that nobody publishes: an operator's word.

        Args:
            host: Its name.
            expected: Its record as it was seen, which binds this to an incarnation.
            record: The new one. None deletes it, with all domains of the host.

        Returns:
            The position of the store after it.

        Raises:
            Fenced: The host has a publisher, or its record is another one. Nothing was written.
            LineLost: No answer; whether it was done is not known.

        Cost: One request.
        """
        ...

    def health(self) -> Health:
        """For `check`. An engine that answers badly is told of, not raised."""
        ...

    def close(self) -> None:
        """End every feed and call. Claims are not released: their leases run out. May be called
        twice, from any thread.
        """
        ...


def check_claim(host: str, machine: str, ttl: float) -> None:
    """What every engine refuses of a claim.

    Raises:
        InvalidHost: As `layout.check_host`.
        TypeError: An argument is of another type.
        ValueError: `machine` is empty, or `ttl` is no time that a lease can last.
    """
    check_host(host)
    if not isinstance(machine, str):
        raise TypeError(f"machine is a str, not {machine!r}")
    if not machine:
        raise ValueError("machine is empty: it is what tells two machines apart")
    if not isinstance(ttl, (int, float)) or isinstance(ttl, bool):
        raise TypeError(f"ttl is a number of seconds, not {ttl!r}")
    if not 0 < ttl <= LONGEST_LEASE:
        raise ValueError(f"ttl is above 0 and at most {LONGEST_LEASE:.0f} seconds, not {ttl!r}")


def check_commit(host: str, puts: Mapping[str, bytes], deletes: Collection[str]) -> None:
    """What every engine refuses, before it asks anybody.

    Raises:
        TooLarge: More than OPERATIONS or BYTES.
        ValueError: A key outside the host, one that is both put and deleted, or no record.
    """
    record, domains = host_key(host), dom_prefix(host)
    if record not in puts:
        raise ValueError(f"a commit writes the record {record!r} each time")
    for key in (*puts, *deletes):
        if key != record and not key.startswith(domains):
            raise ValueError(f"{key!r} is not of host {host!r}")
    if both := puts.keys() & set(deletes):
        raise ValueError(f"both put and deleted: {sorted(both)}")
    if len(puts) + len(deletes) > OPERATIONS:
        raise TooLarge(f"{len(puts) + len(deletes)} changes at once, at most {OPERATIONS}")
    size = sum(len(key) + len(value) for key, value in puts.items()) + sum(map(len, deletes))
    if size > BYTES:
        raise TooLarge(f"{size} bytes at once, at most {BYTES}")
