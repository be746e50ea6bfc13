"""A host name held on etcd: a lease, a key under it, and transactions that compare that key.

Read after feed.py; next engine.py.
"""

from __future__ import annotations

import contextlib
import math
import uuid
from collections.abc import Collection, Mapping
from typing import Final

from domindex.errors import DomindexError
from domindex.fleet import layout
from domindex.fleet.errors import (
    Alive,
    EngineDenied,
    EngineError,
    EngineFull,
    Fenced,
    HostTaken,
    LineLost,
)
from domindex.fleet.etcd import wire
from domindex.fleet.etcd.members import Members
from domindex.fleet.ports import check_commit

_TRIES = 5
"""Others may write between two of our requests so often, before we say that we lost."""
LOOK: Final = 4
"""At each renewal of so many, the keys are read too. An administrator may have deleted them, or set
the store back: the lease lives on, and who has nothing to commit would not notice."""


class EtcdClaim:
    """As `ports.Claim`.

    Each transaction compares two keys: the alive key, whose value is ours alone, and the position
    of the record, which nobody else writes while we are alive. The second fails where the store
    was set back to a copy in which we were alive too.
    """

    def __init__(
        self, members: Members, host: str, mine: Alive, ttl: float, lease: int, last: int
    ) -> None:
        self.host = host
        self.incarnation: str = mine.incarnation
        self.ttl = ttl
        self._members = members
        self._alive = layout.alive_key(host)
        self._record = layout.host_key(host)
        self._mine = layout.pack_alive(mine)
        self._lease = lease
        self._last = last  # where the record is: nobody else writes it while we are alive
        self._unsure: set[bytes] = set()  # records whose transaction gave no answer
        self._renewals = 0
        self._released = False
        self._ending = False  # a release gave no answer

    def commit(self, puts: Mapping[str, bytes], deletes: Collection[str] = ()) -> int:
        """As `Claim.commit`."""
        check_commit(self.host, puts, deletes)
        operations = [wire.put(key, value) for key, value in puts.items()]
        operations += [wire.delete(key) for key in dict.fromkeys(deletes)]
        return self._write(operations, puts[self._record])

    def renew(self) -> None:
        """As `Claim.renew`."""
        if self._released:
            raise Fenced(self.host, None)
        if self._members.call(wire.keep_alive(self._lease)).TTL <= 0:
            raise Fenced(self.host, holder_of(self._members, self.host))
        self._renewals += 1
        if self._renewals % LOOK == 0:
            self._look(self._members.call(wire.transaction([], self._ours())))

    def release(self, puts: Mapping[str, bytes] | None = None) -> None:
        """As `Claim.release`."""
        if self._released:
            return
        operations = [wire.delete(self._alive)]
        if puts is not None:
            check_commit(self.host, puts, ())
            operations += [wire.put(key, value) for key, value in puts.items()]
        try:
            self._write(operations, (puts or {}).get(self._record))
        except LineLost:
            self._ending = True
            raise
        except Fenced as error:
            if error.holder is not None or not self._ending:
                raise
            # The try before got no answer, and was done.
        self._released = True
        with contextlib.suppress(DomindexError):  # the key is gone: the lease holds nothing
            self._members.call(wire.revoke(self._lease))

    def _write(self, operations: list[wire.Message], record: bytes | None) -> int:
        if self._released:
            raise Fenced(self.host, None)
        for _ in range(_TRIES):
            request = wire.transaction(
                [wire.has_value(self._alive, self._mine), wire.is_from(self._record, self._last)],
                operations,
                self._ours(),
            )
            answer = self._ask(request, record)
            if answer.succeeded:
                self._last = answer.header.revision if record is not None else self._last
                self._unsure.clear()
                return int(answer.header.revision)
            self._look(answer)
        raise Fenced(self.host, None)

    def _ours(self) -> list[wire.Message]:
        return [wire.read(wire.range_of(key)) for key in (self._alive, self._record)]

    def _look(self, answer: wire.Message) -> None:
        """Raises Fenced, unless both keys are as we left them or may have left them."""
        alive, record = (one.response_range.kvs for one in answer.responses)
        if not alive or alive[0].value != self._mine:
            raise Fenced(self.host, layout.unpack_alive(alive[0].value) if alive else None)
        at = record[0].mod_revision if record else 0
        if at == self._last:
            return
        # The alive key is ours, and the record is not where our last commit left it. If a commit
        # of ours that got no answer wrote it, it was done; else this is not the store we wrote to.
        if at < self._last or record[0].value not in self._unsure:
            raise Fenced(self.host, None)
        self._last = at

    def _ask(self, request: wire.Message, record: bytes | None) -> wire.Message:
        # Several members are tried here, not in `call`: a transaction that got no answer may have
        # been done, so what is unsure is noted before it is sent again.
        tries = len(self._members.endpoints)
        while True:
            tries -= 1
            try:
                return self._members.call(request, once=True)
            except (LineLost, EngineFull) as error:
                # etcd does the write that fills it up, and answers that it is full.
                if record is not None:
                    self._unsure.add(record)
                if not tries or isinstance(error, EngineFull):
                    raise


def make_claim(members: Members, host: str, machine: str, ttl: float) -> EtcdClaim:
    """As `Engine.claim`.

    The lease comes first, since a key is put under it. If the rest fails it is given back; if that
    fails too, it runs out by itself.
    """
    mine = Alive(uuid.uuid4().hex, machine)
    make_epoch(members)
    lease = members.call(wire.grant(math.ceil(ttl)))
    try:
        last = _take(members, host, mine, lease.ID)
    except BaseException:
        with contextlib.suppress(DomindexError):  # what runs out by itself
            members.call(wire.revoke(lease.ID))
        raise
    return EtcdClaim(members, host, mine, float(lease.TTL), lease.ID, last)


def _take(members: Members, host: str, mine: Alive, lease: int) -> int:
    """Put the alive key under the lease.

    What is there is read, and replaced only if it is still that: so of two that claim at once one
    is told of the other.

    Returns:
        The position of the host's record; 0 if it has none.
    """
    key, value = layout.alive_key(host), layout.pack_alive(mine)
    for _ in range(_TRIES):
        found = members.call(wire.range_of(key)).kvs
        before = found[0] if found else None
        holder = None if before is None else layout.unpack_alive(before.value)
        if before is not None and (holder is None or holder.machine != mine.machine):
            raise HostTaken(host, holder or Alive("", "unknown"))
        answer = members.call(
            wire.transaction(
                [wire.is_from(key, before.mod_revision if before else 0)],
                [
                    wire.put(key, value, lease),
                    wire.read(wire.range_of(layout.host_key(host))),
                ],
            ),
            once=True,
        )
        if answer.succeeded:
            if before is not None and before.lease:
                # Nothing is under it any more. Who had it learns at its next renewal.
                with contextlib.suppress(EngineError):
                    members.call(wire.revoke(before.lease))
            record = answer.responses[1].response_range.kvs
            return int(record[0].mod_revision) if record else 0
    raise LineLost(f"host {host!r} is claimed by several at once; try again")


def make_epoch(members: Members) -> None:
    """Make the store's epoch, if it has none and we may."""
    try:
        if members.call(wire.range_of(layout.EPOCH, count_only=True)).count:
            return
    except EngineDenied:
        return  # a host needs no right to it; then an administrator has made it
    epoch = uuid.uuid4().hex.encode("ascii")
    members.call(wire.transaction([wire.is_from(layout.EPOCH, 0)], [wire.put(layout.EPOCH, epoch)]))


def holder_of(members: Members, host: str) -> Alive | None:
    """Who publishes a host now."""
    found = members.call(wire.range_of(layout.alive_key(host))).kvs
    return layout.unpack_alive(found[0].value) if found else None
