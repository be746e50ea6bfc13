"""Publishing one host: the difference of its index to what was written, again and again.

It is level-triggered: what counts is what the index holds now, not which events led there. So an
event that is lost, a write that fails and a lease that runs out all have one repair, which is the
next step. The lease is renewed only while nothing waits to be written: a host whose changes do
not get through (a full store still renews leases) becomes lost, and does not look live with an
old picture.

`step` does what is due and returns. The publisher's thread calls it in a loop, and so may a test.

Read after records.py and ports.py; next publisher.py.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from domindex.core.snapshot import Snapshot
from domindex.domain import Domain
from domindex.errors import Closed, DomindexError
from domindex.fleet.errors import Fenced, HostTaken
from domindex.fleet.layout import DOM, check_host, dom_key, host_key
from domindex.fleet.ports import BYTES, OPERATIONS, Claim, Engine
from domindex.fleet.records import HostRecord, host_of, pack_domain, pack_host
from domindex.index import Index

log: logging.Logger = logging.getLogger("domindex")

LEAST_TTL: Final = 2.0
_RECORD: Final = 4_000
"""Bytes to leave for the host's record and the keys of one transaction's head."""
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
_JITTER: Final = 1.0
"""Seconds over which hosts spread, at random, when they all have to claim anew."""


class Superseded(DomindexError, RuntimeError):
    """Another publisher of this machine has taken over, and this one has stopped for good."""


class Publishing:
    """What the publisher's thread does. Raises TypeError, ValueError, InvalidHost.

    Attributes:
        host: The name under which it publishes.
        written: The generation of the index up to which all is in the store; -1 before that.
        problem: Why it does not publish just now; None while it does.
        transactions: Writes that got through.
    """

    def __init__(
        self,
        index: Index,
        engine: Engine,
        *,
        host: str,
        machine: str,
        boot: str,
        ttl: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not isinstance(index, Index):
            raise TypeError(f"what is published is an Index, not {index!r}")
        if not isinstance(ttl, (int, float)) or isinstance(ttl, bool):
            raise TypeError(f"ttl is a number of seconds, not {ttl!r}")
        if not LEAST_TTL <= ttl < math.inf:
            raise ValueError(f"ttl is seconds from {LEAST_TTL:g}, not {ttl!r}")
        self.host: str = check_host(host)
        self.written: int = -1
        self.problem: BaseException | None = None
        self.transactions: int = 0
        self._index = index
        self._engine = engine
        self._machine = machine
        self._boot = boot
        self._ttl = float(ttl)
        self._clock = clock
        self._claim: Claim | None = None
        self._held: dict[int, Domain] = {}  # what the store has, by our own writes
        self._left: set[int] = set()  # domids of which the store may have something else
        self._state: tuple[int, str] | None = None  # generation and state as last written
        self._whole = False
        self._renew_at = 0.0
        self._retry_at = -math.inf
        self._pause = 0.0

    def claim(self) -> None:
        """Become the publisher of the host. Raises what the engine raises, HostTaken first."""
        claim = self._engine.claim(self.host, self._machine, self._ttl)
        left: set[int] = set()
        for key, _ in self._engine.load([self.host]).pairs:
            about = host_of(key)
            if about is not None and key.startswith(DOM) and about[1] is not None:
                left.add(about[1])
        self._claim = claim
        # All is written anew: a record is then never of another incarnation's generation.
        self._held.clear()
        self._left = left
        self._state = None
        self._whole = False
        self._renewed()

    def step(self) -> float:
        """Do what is due; the seconds until something will be, if the index does not change.

        Raises Closed when the index is closed, Superseded and HostTaken.
        """
        now = self._clock()
        if now < self._retry_at:
            return self._retry_at - now
        try:
            if self._claim is None:
                self.claim()
            self._write()
            if self._clock() >= self._renew_at:
                assert self._claim is not None
                self._claim.renew()
                self._renewed()
        except Fenced as error:
            self._fenced(error)
        except Closed:
            raise
        except HostTaken as error:
            self._failed(error, self._ttl)
        except (DomindexError, OSError) as error:
            self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            self._failed(error, self._pause)
        else:
            if self.problem is not None:
                log.info("host %s is published again", self.host)
            self.problem = None
            self._pause = 0.0
            self._retry_at = -math.inf
        return max(0.0, max(self._renew_at, self._retry_at) - self._clock())

    def release(self, why: str) -> None:
        """Write what is left to write, and give the host up with a reason. Raises as `Claim`."""
        if (claim := self._claim) is None:
            return
        generation = -1 if self._state is None else self._state[0]
        record = self._record(generation, len(self._held), whole=self._whole, state="ended")
        self._claim = None
        claim.release({host_key(self.host): pack_host(replace(record, why=why))})

    # -- within ------------------------------------------------------------------------------

    def _write(self) -> None:
        """Write the difference, in as many transactions as it takes; the last says `whole`."""
        claim = self._claim
        assert claim is not None
        index = self._index
        live = index.live  # before the snapshot: what is said to be live is at least so new
        if not math.isfinite(index.age):  # it has not seen the host yet: nothing is known
            index.snapshot("serve")  # raises Closed
            if self._state != (-1, "blind"):
                self._commit(claim, {}, [], -1, 0, whole=False, state="blind")
            return
        snapshot = index.snapshot("serve")
        state = "live" if live else "blind"
        if self._whole and self._state == (snapshot.generation, state):
            return
        domains = {domid: domain for domid, domain in snapshot.items() if domid}
        chunks = list(self._chunks(domains, snapshot))
        for number, (puts, deletes) in enumerate(chunks, 1):
            self._commit(
                claim,
                puts,
                deletes,
                snapshot.generation,
                len(domains),
                whole=number == len(chunks),
                state=state,
            )
            self._left.difference_update(puts, deletes)
            self._held.update((domid, domains[domid]) for domid in puts)
        self.written = snapshot.generation

    def _chunks(
        self, domains: dict[int, Domain], snapshot: Snapshot
    ) -> Iterator[tuple[dict[int, bytes], list[int]]]:
        """What to put and to delete, in pieces that fit into a transaction; one at least."""
        puts: dict[int, bytes] = {}
        deletes: list[int] = []
        size = _RECORD
        held = self._held
        gone = sorted((held.keys() | self._left) - domains.keys())
        for domid in (*gone, *domains):
            if domid in domains:
                if held.get(domid) == domains[domid]:
                    continue
                value = pack_domain(domains[domid], snapshot.generation)
                cost = len(value) + len(dom_key(self.host, domid))
            else:
                value, cost = b"", len(dom_key(self.host, domid))
            if len(puts) + len(deletes) >= OPERATIONS - 1 or size + cost > BYTES:
                yield puts, deletes
                puts, deletes, size = {}, [], _RECORD
            size += cost
            if domid in domains:
                puts[domid] = value
            else:
                deletes.append(domid)
        yield puts, deletes

    def _commit(
        self,
        claim: Claim,
        puts: dict[int, bytes],
        deletes: list[int],
        generation: int,
        domains: int,
        *,
        whole: bool,
        state: str,
    ) -> None:
        record = self._record(generation, domains, whole=whole, state=state)
        pairs = {dom_key(self.host, domid): value for domid, value in puts.items()}
        pairs[host_key(self.host)] = pack_host(record)
        # If this fails it is not known what the store has of these: all of it is written again.
        self._whole = False
        self._left.update(puts, deletes)
        for domid in (*puts, *deletes):
            self._held.pop(domid, None)
        claim.commit(pairs, [dom_key(self.host, domid) for domid in deletes])
        self.transactions += 1
        self._whole = whole
        self._state = generation, state

    def _record(self, generation: int, domains: int, *, whole: bool, state: str) -> HostRecord:
        age = self._index.age if state == "blind" else 0.0
        assert self._claim is not None
        return HostRecord(
            incarnation=self._claim.incarnation,
            generation=generation,
            domains=domains,
            whole=whole,
            state=state,
            machine=self._machine,
            boot=self._boot,
            ttl=self._claim.ttl,
            age=round(age, 3) if math.isfinite(age) else 0.0,
            why="its index does not follow the host" if state == "blind" else "",
        )

    def _renewed(self) -> None:
        assert self._claim is not None
        self._renew_at = self._clock() + self._claim.ttl / 3 * random.uniform(0.8, 1.0)

    def _fenced(self, error: Fenced) -> None:
        self._claim = None
        if error.holder is None:  # the lease ran out, or the store lost it: claim anew
            self._failed(error, random.uniform(0.0, min(_JITTER, self._ttl / 10)))
        elif error.holder.machine == self._machine:
            raise Superseded(f"another publisher of this machine publishes host {self.host!r} now")
        else:
            self._failed(HostTaken(self.host, error.holder), self._ttl)

    def _failed(self, error: BaseException, pause: float) -> None:
        if self.problem is None or type(self.problem) is not type(error):
            log.warning("host %s is not published: %s", self.host, error)
        self.problem = error
        self._retry_at = self._clock() + pause
