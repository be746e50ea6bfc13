"""A random walk through what may happen on a host, the same for the real and the simulated one.

A seed makes the whole walk. What must be true of each domain is kept beside it, from what was
done alone, so that an index is not only compared with another reader of the same host.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

import domindex
from domindex.domain import Domain, OSType, ShutdownReason
from domindex.events import Changed, Event, Lost, Recovered, Renamed
from domindex.ports import Host
from tests.delivery_log import DeliveryLog
from tests.stage import PATIENCE, Heard, Toolstack, believed, eventually

MOST = 12
"""Domains at once: few, so that names, uuids and domids clash."""
NAMES = ("a", "b", "c", "42", "", "web-1", "w" * 200)
UUIDS = tuple(UUID(int=number) for number in range(1, 5))
TYPES = ("pv", "pv", "pvh", "hvm")
FAR = (30_001, 30_002)
"""Domids that only left-over nodes have, or domains that ask for them."""


class Places(Toolstack, Protocol):
    """A toolstack that can also introduce what it left unannounced."""

    def introduce(self, domid: int) -> None: ...


@dataclass(frozen=True)
class Truth:
    """What an index must say of a domain."""

    uuid: UUID
    name: str | None
    type: OSType
    shutdown: ShutdownReason | None = None


class Walk:
    """The walker. cut: breaks the index's line."""

    def __init__(self, host: Places, seed: int, cut: Callable[[], None]) -> None:
        self.host = host
        self.random = random.Random(seed)
        self.alive: dict[int, Truth] = {}
        self.cuts = 0
        self.taken: list[str] = []
        self._zombies: dict[int, Callable[[], None]] = {}
        self._left: set[int] = set()
        self._unannounced: set[int] = set()
        self._dead: deque[int] = deque(maxlen=MOST)  # lately
        self._cut = cut
        self._ways: dict[Callable[[], str | None], int] = {
            self._create: 5,
            self._create_unannounced: 1,
            self._introduce: 1,
            self._rename: 4,
            self._swap_names: 1,
            self._shut_down: 2,
            self._crash: 1,
            self._destroy: 3,
            self._reuse: 3,
            self._make_zombie: 1,
            self._let_go: 1,
            self._leave_node: 1,
            self._clear_node: 1,
            self._change_handle: 1,
            self._cut_line: 1,
        }

    def step(self) -> None:
        """Do one thing, completely. What makes no sense just then is not counted."""
        while True:
            way = self.random.choices(tuple(self._ways), tuple(self._ways.values()))[0]
            if (done := way()) is not None:
                self.taken.append(done)
                return

    def end(self) -> None:
        """Let go of what only the walk knows of."""
        for let_go in self._zombies.values():
            let_go()
        self._zombies.clear()

    # -- what may happen ---------------------------------------------------------------------

    def _create(self, domid: int | None = None, *, introduce: bool = True) -> str | None:
        if len(self.alive) + len(self._zombies) >= MOST:
            return None
        if domid is None and self.random.random() < 0.2:
            domid = self._any(d for d in FAR if d not in self.alive and d not in self._zombies)
        name = self.random.choice((None, *NAMES))
        uuid = self.random.choice(UUIDS) if self.random.random() < 0.3 else self._uuid()
        return self._born(domid, Truth(uuid, name, OSType(self.random.choice(TYPES))), introduce)

    def _create_unannounced(self) -> str | None:
        return self._create(introduce=False)

    def _introduce(self) -> str | None:
        domid = self._any(self._unannounced)
        if domid is None:
            return None
        self._unannounced.discard(domid)
        self.host.introduce(domid)
        return f"introduce {domid}"

    def _rename(self) -> str | None:
        if (domid := self._any(self.alive)) is None:
            return None
        name = self.random.choice((None, *NAMES))
        self._name(domid, name)
        return f"rename {domid} to {name!r}"

    def _swap_names(self) -> str | None:
        if len(self.alive) < 2:
            return None
        one, two = self.random.sample(sorted(self.alive), 2)
        mine, theirs = self.alive[one].name, self.alive[two].name
        self._name(one, theirs)
        self._name(two, mine)
        return f"swap the names of {one} and {two}"

    def _shut_down(self, reason: ShutdownReason | None = None) -> str | None:
        up = [domid for domid, truth in self.alive.items() if truth.shutdown is None]
        if (domid := self._any(up)) is None:
            return None
        why = reason or self.random.choice((ShutdownReason.POWEROFF, ShutdownReason.REBOOT))
        self.host.shutdown(domid, why)
        self.alive[domid] = replace(self.alive[domid], shutdown=why)
        return f"shut {domid} down: {why.name}"

    def _crash(self) -> str | None:
        return self._shut_down(ShutdownReason.CRASH)

    def _destroy(self) -> str | None:
        if (domid := self._any(self.alive)) is None:
            return None
        order = self._end(domid)
        return f"destroy {domid} as {order}"

    def _reuse(self) -> str | None:
        if (domid := self._any(self.alive)) is None:
            return None
        old = self.alive[domid]
        order = self._end(domid)
        if self.random.random() < 0.3:
            new = Truth(self._uuid(), old.name, old.type)
            return f"after {order} again {self._born(domid, new)}"
        return f"after {order} again {self._create(domid)}"

    def _make_zombie(self) -> str | None:
        if (domid := self._any(self.alive)) is None or len(self._zombies) >= 3:
            return None
        self._forget(domid)
        self._zombies[domid] = self.host.zombie(domid)
        return f"make {domid} a zombie"

    def _let_go(self) -> str | None:
        if (domid := self._any(self._zombies)) is None:
            return None
        self._zombies.pop(domid)()
        return f"let go of {domid}"

    def _leave_node(self) -> str | None:
        dead = {*FAR, *self._zombies, *self._dead}
        if (domid := self._any(dead - self.alive.keys())) is None:
            return None
        name = self.random.choice(NAMES)
        self.host.leave_node(domid, name)
        self._left.add(domid)
        return f"leave {name!r} at {domid}"

    def _clear_node(self) -> str | None:
        if (domid := self._any(self._left)) is None:
            return None
        self._left.discard(domid)
        self.host.clear_node(domid)
        return f"clear {domid}"

    def _change_handle(self) -> str | None:
        if (domid := self._any(self.alive)) is None:
            return None
        uuid = self.random.choice((*UUIDS, self._uuid()))
        self.host.change_handle(domid, uuid)
        self.alive[domid] = replace(self.alive[domid], uuid=uuid)
        return f"change the handle of {domid} to {uuid}"

    def _cut_line(self) -> str:
        self.cuts += 1
        self._cut()
        return "cut the line"

    # -- within ------------------------------------------------------------------------------

    def _born(self, domid: int | None, truth: Truth, introduce: bool = True) -> str:
        made = self.host.create(
            truth.name, uuid=truth.uuid, type=truth.type, domid=domid, introduce=introduce
        )
        self._left.discard(made)
        self.alive[made] = truth
        if not introduce:
            self._unannounced.add(made)
        kind = "" if introduce else " unannounced"
        return f"create {made}{kind}: {truth.type.value} {truth.name!r} {truth.uuid}"

    def _name(self, domid: int, name: str | None) -> None:
        self.host.rename(domid, name)
        self.alive[domid] = replace(self.alive[domid], name=name)

    def _end(self, domid: int) -> str:
        order = self.random.choice(("libxl", "xapi"))
        self._forget(domid)
        self.host.destroy(domid, order=order)
        if order == "xapi":
            self._left.add(domid)
        return order

    def _forget(self, domid: int) -> None:
        del self.alive[domid]
        self._dead.append(domid)
        self._unannounced.discard(domid)
        self._left.discard(domid)

    def _uuid(self) -> UUID:
        return UUID(int=self.random.getrandbits(128), version=4)

    def _any(self, domids: Iterable[int]) -> int | None:
        found = sorted(domids)
        return self.random.choice(found) if found else None


class Reckoning:
    """What must hold while one walks: the index, a fresh look at the host, and the events."""

    def __init__(self, walk: Walk, index: domindex.Index, look_at: Host) -> None:
        self._walk, self._index, self._look_at = walk, index, look_at
        self._log = DeliveryLog(index)
        self._heard = Heard(log=self._log)
        self._believed: dict[int, Domain] = {}
        self._live = True
        self._lost = 0
        self._subscription = index.subscribe(self._heard)

    def reckon(self) -> None:
        """After a refresh the index holds what was done, and what a direct look finds."""
        self._index.refresh(timeout=PATIENCE)
        held = list(self._index)
        guests = {d.domid: Truth(d.uuid, d.name, d.type, d.shutdown) for d in held if d.domid}
        assert guests == self._walk.alive
        with domindex.direct.open(self._look_at, timeout=PATIENCE) as look:
            seen = look.all()
        assert [_facts(domain) for domain in held] == [_facts(domain) for domain in seen]
        assert self._index.live

    def believe(self) -> None:
        """Whoever heard nothing but the events knows the same, and of each loss its end."""
        expected = {domain.domid: domain for domain in self._index}
        eventually(
            lambda: self._hear() == expected and self._live,
            "the listener believes what the index holds, and that it is live",
        )
        made = self._log.check_whole(self._subscription, PATIENCE)
        self._log.forget(domindex.Snapshot(dict(made[max(made)]), max(made)))  # it may be long
        assert self._lost <= self._walk.cuts
        assert self._index.stats.listener_errors == 0

    def _hear(self) -> dict[int, Domain]:
        events = self._heard.rest()
        self._heard.events.clear()  # a walk may be long
        for event in events:
            self._line(event)
            match event:
                case Renamed(old, new) | Changed(old, new):
                    assert old.life == new.life, f"{event} joins two lives"
        self._believed = believed(events, list(self._believed.values()))
        return self._believed

    def _line(self, event: Event) -> None:
        if isinstance(event, (Lost, Recovered)):
            assert self._live == isinstance(event, Lost), f"{event} when that was so already"
            self._live = isinstance(event, Recovered)
            self._lost += isinstance(event, Lost)


def go(
    walk: Walk,
    index: domindex.Index,
    look_at: Host,
    steps: int,
    every_25: Callable[[], None] = lambda: None,
) -> None:
    """Take so many steps, reckoning after three of four. A failure tells how one got there."""
    reckoning = Reckoning(walk, index, look_at)
    try:
        for number in range(1, steps + 1):
            walk.step()
            if walk.random.random() < 0.75:
                reckoning.reckon()
            if number % 25 == 0 or number == steps:
                reckoning.reckon()
                reckoning.believe()
                every_25()
        walk.end()
        reckoning.reckon()
        reckoning.believe()
    except BaseException as error:
        last = "\n".join(walk.taken[-40:])
        error.add_note(f"after step {len(walk.taken)} of {steps}; the last were:\n{last}")
        raise


def seed() -> int:
    """DOMINDEX_SEED, or any."""
    given = os.environ.get("DOMINDEX_SEED")
    return random.SystemRandom().getrandbits(32) if given is None else int(given)


def steps(usual: int) -> int:
    """DOMINDEX_STEPS, or the usual number."""
    return int(os.environ.get("DOMINDEX_STEPS", usual))


def _facts(domain: Domain) -> tuple[object, ...]:
    return (domain.domid, domain.uuid, domain.name, domain.type, domain.shutdown)
