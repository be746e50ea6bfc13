"""One script of the toolstack, played against the real Watcher in one chosen order.

Watcher, Reconciler and DomainTable run in this thread, over the ports of a SimulatedHost.
Nothing happens by itself: a step of the toolstack is done just before a call to a port, or while
the watcher waits. An order is how many steps are done before each call; so all orders are
all ways to choose these numbers (choices.py), and what two threads could do to each other is
played to its end, and can be played again.

After each step the true state of every life is noted. All that the watcher publishes is
held against these notes at once:

P1  a record is a state that its life had: domid, uuid, name and type at one moment, shutdown at
    any; all records of one `Life` belong to one life. So does a node's value.
P2  when all is done and the watcher waits, the table is the host. What no event tells of
    (`silent` scripts) is in it one probe later.
P3  a life that goes on is never Removed; a domid that was never seen empty is given to the
    next life in one generation. The events, from the first on, make the table.
P4  a Removed life is gone.
P6  a refresh leaves nothing in the table that is older than the call.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple
from unittest.mock import patch
from uuid import UUID

import domindex.following
import domindex.picture
import domindex.watcher
from domindex.core.nodes import Node, NodeValue
from domindex.core.table import Change
from domindex.domain import Domain, Life, OSType, ShutdownReason
from domindex.errors import HostError
from domindex.events import Added, Changed, Ready, Removed, Renamed, ShutDown, about
from domindex.keys import decode_name
from domindex.options import Timing
from domindex.picture import Picture
from domindex.ports import Row, Watch
from domindex.requests import Reading
from domindex.testing import SimulatedHost
from domindex.watcher import Watcher
from tests.orders.choices import Choices

ONE, TWO, THREE = UUID(int=1), UUID(int=2), UUID(int=3)
KINDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "plain": {},
    "depth": {"watch_depth": "paths"},
    "ids": {"unique_ids": True},
    "ids and depth": {"unique_ids": True, "watch_depth": True},
}
TIMING: Final = Timing(probe=5.0, audit=float("inf"))


class Step(NamedTuple):
    """A method of the host or, where it has none of that name, of the play."""

    name: str
    args: tuple[object, ...]
    options: dict[str, object]

    def __str__(self) -> str:
        options = (f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.name}({', '.join([*map(repr, self.args), *options])})"


IDLE: Final = Step("idle", (), {})
"""What comes after it is done when the watcher waits, and no sooner."""


@dataclass(frozen=True)
class Script:
    """Steps of a toolstack, on a host with one HVM domain: 1, `a` with uuid ONE.

    silent: no event tells of all of it. unsure: why lives cannot be told apart before Xen
    4.21, so that P3 is not asked for there.
    """

    steps: Sequence[Step]
    silent: bool = False
    unsure: str = ""
    kinds: Sequence[str] = tuple(KINDS)


class Moment(NamedTuple):
    """What one domid was at one moment. life: a number that is never given twice."""

    life: int
    uuid: UUID
    name: str | None
    type: OSType
    shutdown: ShutdownReason | None
    nodes: Mapping[bytes, bytes]


class Broken(BaseException):
    """A promise does not hold. No Exception, as the watcher outlives all of these."""


class Done(BaseException):
    """All steps are done, and the watcher waits."""


def promise(kept: object, *words: object) -> None:
    if not kept:
        raise Broken(" ".join(map(shown, words)))


class Port:
    """A port of the host; before each call as many of the next steps are done as are chosen.

    Watches and reads are pipelined: steps come between them too.
    """

    def __init__(self, port: Any, play: Play) -> None:
        self._port, self._play = port, play

    def __getattr__(self, name: str) -> Any:
        there = getattr(self._port, name)
        if name in ("watch", "unwatch", "read"):
            return lambda items, **options: [
                answer
                for item in items
                for answer in self._call(name, there, [item], **options) or [None]
            ]
        if name in ("list", "get", "unique_id", "is_introduced", "barrier", "events"):
            return lambda *args, **options: self._call(name, there, *args, **options)
        return there  # does not ask the host, or is called from other threads

    def _call(self, name: str, there: Any, *args: Any, **options: Any) -> Any:
        self._play.before_call()
        result = there(*args, **options)
        self._play.note_call(name, args, result)
        return result

    def wait(self, timeout: float) -> None:
        """Steps are done until there is a reason to return."""
        until = self._play.clock.now + timeout
        line = self._port
        while not (line._queue or line._woken or line._cut or self._play.clock.now >= until):
            self._play.next_step()
        self._play.note_call("wait", (timeout,), None)
        line.wait(0)


@dataclass
class Clock:
    """In place of the module `time`."""

    now: float = 1.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic

    def sleep(self, seconds: float) -> None:
        pass


class Checked(Picture):
    """Holds all that the watcher publishes against the notes of a play."""

    def __init__(self, play: Play) -> None:
        super().__init__(patience=math.inf, serves_old=True)
        self._play = play

    def commit(self, changes: Sequence[Change], *, inferred: bool = False) -> None:
        self._play.take(changes)

    def node_values(self, values: Sequence[NodeValue]) -> None:
        self._play.tell(values)


@dataclass
class Play:
    """One script on one kind of host, in one order.

    interruptions: before so many calls at most steps are done.
    """

    script: Script
    kind: str
    choices: Choices
    interruptions: float = float("inf")
    seen: set[int] = field(default_factory=set)  # domids not empty when last looked at
    trace: list[tuple[object, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = Clock()
        # Without a domain 0, which never changes and would be one more to ask for everything.
        self.host = SimulatedHost(idle=True, dom0=False, **KINDS[self.kind])
        self.host.create("a", uuid=ONE, type="hvm")
        self.sure = self.host._unique_ids or not self.script.unsure
        self.steps = list(self.script.steps)
        self.truth: list[dict[int, Moment]] = []
        self.meant: dict[Life, set[int]] = {}  # the lives that a record may be of
        self.heard: dict[int, Domain] = {}  # what a listener believes
        self.were_ready: set[Life] = set()
        self.followed: dict[Node, tuple[Life, list[object]]] = {}  # and the values told
        self.readings: dict[Reading, Life] = {}  # not answered yet
        self.refreshes: list[tuple[int, int]] = []  # ticket, and the moment it was asked for
        self.started = self.rested = False
        self.picture = Checked(self)
        self.table = self.picture.table
        self.watcher = Watcher(self, self.open_hypervisor(), self.picture, TIMING)
        self.note_truth()

    def run(self) -> None:
        """To the end. Raises Broken, or what the watcher failed with."""
        with (
            patch.object(domindex.watcher, "time", self.clock),
            patch.object(domindex.following, "time", self.clock),
            patch.object(domindex.picture, "time", self.clock),
        ):
            while True:
                try:
                    self.watcher._follow_line()
                except HostError as error:
                    self.watcher._went_down(error)
                except Done:
                    return

    def fault(self) -> str | None:
        """What broke, with the way there: None if all was kept."""
        try:
            self.run()
        except (Broken, Exception) as error:
            order = ",".join(map(str, self.choices.taken))
            story = (" ".join(map(shown, line)) for line in self.trace)
            return "\n".join(
                [*story, f"{type(error).__name__}: {error}", f"in this order: {order}"]
            )
        return None

    # -- the host ----------------------------------------------------------------------------

    def open_hypervisor(self) -> Any:
        return Port(self.host.open_hypervisor(), self)

    def open_store(self, timeout: float) -> Any:
        return Port(self.host.open_store(timeout), self)

    def before_call(self) -> None:
        if self.started and self.steps and self.interruptions:
            ahead = self.steps.index(IDLE) if IDLE in self.steps else len(self.steps)
            chosen = self.choices.choose(ahead + 1)
            self.interruptions -= chosen > 0
            for _ in range(chosen):
                self.next_step()

    def next_step(self) -> None:
        self.started = True
        if not self.steps:
            self.rest()
            return
        step = self.steps.pop(0)
        self.trace.append(("  step", step))
        of = self.host if hasattr(self.host, step.name) else self
        getattr(of, step.name)(*step.args, **step.options)
        self.note_truth()

    def rest(self) -> None:
        """All is done and taken in."""
        if self.rested or not self.script.silent:
            self.settled()
        if self.rested:
            raise Done
        self.rested = True
        self.probe()

    # -- steps that are not the host's -------------------------------------------------------

    def idle(self) -> None:
        """The watcher waits."""

    def probe(self) -> None:
        """Time passes: the next probe is due."""
        self.clock.now += TIMING.probe

    def refresh(self) -> None:
        """Another thread asks for one."""
        self.refreshes.append((self.watcher.request_refresh(), len(self.truth) - 1))

    def follow(self, domid: int, path: str) -> None:
        """Another thread follows a node of a domain that it has found in the table."""
        if (domain := self.table.get(domid)) is not None:
            node = Node(domid, b"/local/domain/%d/%s" % (domid, path.encode()))
            self.followed[node] = domain.life, []
            self.watcher.follow(domain.life, node)

    def read(self, domid: int, path: str) -> None:
        """Another thread reads a node of a domain that it has found in the table."""
        if (domain := self.table.get(domid)) is not None:
            reading = Reading(domain, [path])
            self.readings[reading] = domain.life
            self.watcher.request_reading(reading)

    # -- notes -------------------------------------------------------------------------------

    def note_truth(self) -> None:
        nodes: dict[int, dict[bytes, bytes]] = defaultdict(dict)
        for path, value in self.host._nodes.items():
            if (domid := path.split(b"/")[3:4]) != []:  # below /local/domain
                nodes[int(domid[0])][path] = value
        self.truth.append(
            {
                domid: Moment(
                    guest.unique_id,
                    UUID(bytes=guest.handle),
                    None if (name := self.host.name(domid)) is None else decode_name(name),
                    guest.type,
                    guest.shutdown,
                    nodes[domid],
                )
                for domid, guest in self.host._guests.items()
                if not guest.dying
            }
        )

    def note_call(self, name: str, args: Sequence[Any], result: Any) -> None:
        # The list is the caller's to keep, and to change.
        self.trace.append((name, args, result.copy() if isinstance(result, list) else result))
        if name == "list":
            self.seen = {row.domid for row in result if not row.dying}
        elif name == "get" and result is not None and not result.dying:
            self.seen.add(args[0])
        elif name == "get" or (name == "unique_id" and result is None):
            self.seen.discard(args[0])

    def moments(self, domid: int) -> list[Moment]:
        return [now[domid] for now in self.truth if domid in now]

    # -- what is published -------------------------------------------------------------------

    def take(self, changes: Sequence[Change]) -> None:
        for _, new in changes:
            if new is not None:
                self.record(new)
        told = self.table.apply(changes)
        added = {event.domain.domid for event in told if isinstance(event, Added)}
        for event in told:
            self.trace.append(("told", event))
            match event:
                case Removed(domain):
                    was = self.heard.pop(
                        domain.domid
                    )  # told under its last name, if it had lost it
                    same = replace(domain, name=was.name) == was
                    named = was.name in (domain.name, None)
                    promise(same and named, "P3:", event, "of another")
                    self.ended(domain, replaced=domain.domid in added)
                case Added(domain):
                    promise(domain.domid not in self.heard, "P3:", event, "beside another")
                    self.heard[domain.domid] = domain
                case Renamed(old, new) | Changed(old, new):
                    promise(self.heard[old.domid] == old, "P3:", event, "of another")
                    promise(old.life == new.life, "P3:", event, "of two lives")
                    self.heard[new.domid] = new
                case ShutDown(domain):
                    self.heard[domain.domid] = domain
                case Ready(domain):
                    promise(self.heard[domain.domid] == domain, "P8:", event, "is not held so")
                    first = domain.life not in self.were_ready
                    promise(first == (not event.ceased), "P8:", event, "is not once a life")
                    self.were_ready.add(domain.life)
        if told:
            ready = {domain.life for domain in self.table if domain.ready}
            promise(ready <= self.were_ready, "P8: some are ready, and no event says so")
            table = {domain.domid: domain for domain in self.table}
            promise(self.heard == table, "P3: the events do not make the table")
        for reading in [reading for reading in self.readings if reading.values is not None]:
            self.have_read(reading, self.readings.pop(reading))
        for ticket, asked in self.refreshes:
            if self.picture.refreshed >= ticket:
                self.refreshed(asked)

    def record(self, domain: Domain) -> None:
        moments = self.moments(domain.domid)
        lives = {moment.life for moment in moments if fits(domain, moment)}
        promise(lives, "P1:", domain, "never was")
        if self.sure:
            lives &= self.meant.get(domain.life, lives)
            promise(lives, "P1:", domain, "joins two lives")
        self.meant[domain.life] = lives
        states = {m.shutdown for m in moments if m.life in lives or not self.sure}
        promise(domain.shutdown in states, "P1:", domain, "never was stopped so")

    def ended(self, domain: Domain, *, replaced: bool) -> None:
        now = self.truth[-1].get(domain.domid)
        if self.sure:
            promise(
                not now or self.meant[domain.life] != {now.life},
                "P3, P4:",
                domain,
                "is Removed and lives",
            )
        empty = domain.domid not in self.seen
        promise(replaced or empty, "P3:", domain, "is Removed before the next life is Added")

    def tell(self, values: Sequence[NodeValue]) -> None:
        for node, value, _ in values:
            self.trace.append(("told", node, value))
            life, told = self.followed[node]
            told.append(value)
            had = [m.nodes.get(node.path) for m in self.moments(node.domid) if self.is_of(m, life)]
            promise(value in had, "P1:", value, "never was in", node, "of this life")

    def have_read(self, reading: Reading, life: Life) -> None:
        (node,), (value,) = reading.nodes, reading.values or ()
        self.trace.append(("was read", node, value, "of", life, "which runs" * reading.runs))
        if reading.runs:
            had = [m.nodes.get(node) for m in self.moments(life.domid) if self.is_of(m, life)]
            promise(value in had, "P1:", value, "never was in", node, "of this life")
        elif self.sure:
            now = self.truth[-1].get(life.domid)
            promise(not now or not self.is_of(now, life), "P3:", life, "runs and was not read")

    def is_of(self, moment: Moment, life: Life) -> bool:
        return moment.life in self.meant[life] or not self.sure

    def refreshed(self, asked: int) -> None:
        since = self.truth[asked:]
        for domid in {*since[0], *self.heard}:
            domain = self.heard.get(domid)
            there = [now.get(domid) for now in since]
            promise(
                None in there if domain is None else any(fits(domain, now) for now in there),
                "P6:",
                domain or f"no {domid}",
                "is older than the refresh",
            )

    def settled(self) -> None:
        now = self.truth[-1]
        promise(not self.readings, "P9:", *self.readings, "are not answered")
        promise(self.heard.keys() == now.keys(), "P2:", [*self.heard], "are there, not", [*now])
        for domid, moment in now.items():
            domain = self.heard[domid]
            same = fits(domain, moment) and domain.shutdown == moment.shutdown
            promise(same and self.is_of(moment, domain.life), "P2:", domain, "is not", moment)
        for node, (life, told) in self.followed.items():
            if (holder := self.heard.get(node.domid)) and holder.life == life:
                value = now[node.domid].nodes.get(node.path)
                promise(told[-1:] == [value], "P2:", node, "is", value, "and told was", told)


def fits(domain: Domain, moment: Moment | None) -> bool:
    """Whether the record may be of that moment; its life's name is compared where it has one."""
    return (
        moment is not None
        and (domain.uuid, domain.name, domain.type) == moment[1:4]
        and domain.life.unique_id in (None, moment.life)
    )


def shown(thing: object) -> str:
    """Something of a trace, in few words."""
    match thing:
        case Row(domid, handle):
            return f"{domid}:{UUID(bytes=handle).int}{' dying' * thing.dying}"
        case Domain(domid, uuid, name):
            stopped = "" if thing.shutdown is None else f" {thing.shutdown.name}"
            return f"{domid}:{uuid.int} {name!r}{stopped}"
        case Watch(path, token):
            return f"{path.decode()} as {token.decode()}"
        case Moment():
            stopped = "" if thing.shutdown is None else f" {thing.shutdown.name}"
            return f"{thing.uuid.int} {thing.name!r}{stopped} of life {thing.life}"
        case Node():
            return thing.path.decode()
        case Added() | Ready() | Removed() | ShutDown() | Renamed() | Changed():
            return f"{type(thing).__name__}({', '.join(map(shown, about(thing)))})"
        case list() | tuple() if not hasattr(thing, "_fields"):
            return f"[{', '.join(map(shown, thing))}]"
    return str(thing)
