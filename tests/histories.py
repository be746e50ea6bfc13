"""Histories: what may happen on a host, in any order, and what a listener makes of it.

`steps` draws single happenings; `Player` performs them on a `SimulatedHost` and knows how to
make every fault good again. Few domids, uuids and names, so that they clash.

`Believer` is the listener that takes every event at its word: each must start where the last
one of the same domain ended (P8), and a reused domid must be removed before it is added (P3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from hypothesis import strategies as st

from domindex.testing import SimulatedHost

# -- happenings ------------------------------------------------------------------------------

DOMIDS: Final = (1, 2, 3, 4)
UUIDS: Final = tuple(UUID(int=number) for number in range(4))  # the nil uuid among them
NAMES: Final = (None, b"", b"a", b"b", b"c", b"42", b"\xff\n")
TYPES: Final = ("pv", "hvm", "pvh")
UNUSED: Final = 30_000
"""A domid no history gives to a domain: events about it concern nobody."""


@dataclass(frozen=True)
class Step:
    """One happening. What it does not need it does not look at."""

    what: str
    domid: int = 1
    other: int = 2
    uuid: UUID = UUIDS[0]
    name: bytes | None = None
    type: str = "pv"
    order: str = "libxl"
    number: int = 1

    def __repr__(self) -> str:  # short, for the report of a failing history
        return (
            f"Step({self.what!r}, {self.domid}, {self.other}, UUIDS[{self.uuid.int}], "
            f"{self.name!r}, {self.type!r}, {self.order!r}, {self.number})"
        )


TOOLSTACK: Final = (
    *("create",) * 4,
    "create unannounced",
    "introduce",
    *("rename",) * 3,
    "swap names",
    "shutdown",
    "crash",
    "reboot",
    *("destroy",) * 2,
    "zombie",
    "release zombies",
    *("reuse",) * 2,
    "reuse with same uuid",
    "change handle",
    "resume",
    "leave node",
    "clear node",
)
"""What a toolstack or a guest does; the more usual the oftener."""

FAULTS: Final = (
    "cut",
    "deafen",
    "stop xenstored",
    "start xenstored",
    "lose events",
    "double events",
    "halve lists",
    "refuse hypercalls",
    "allow hypercalls",
)
"""What goes wrong."""


def steps(happenings: Iterable[str] = TOOLSTACK + FAULTS) -> st.SearchStrategy[Step]:
    """Single happenings with all their particulars."""
    return st.builds(
        Step,
        what=st.sampled_from(tuple(happenings)),
        domid=st.sampled_from(DOMIDS),
        other=st.sampled_from(DOMIDS),
        uuid=st.sampled_from(UUIDS),
        name=st.sampled_from(NAMES),
        type=st.sampled_from(TYPES),
        order=st.sampled_from(("libxl", "xapi", "at once")),
        number=st.integers(1, 4),
    )


class Player:
    """Performs steps on a host. One that makes no sense just then does nothing."""

    def __init__(self, host: SimulatedHost) -> None:
        self.host = host
        self._zombies: dict[int, Callable[[], None]] = {}
        self._lost = self._halved = 0  # faults asked for, some of which may be still to come

    def perform(self, step: Step) -> None:
        """Do it, completely."""
        host, domid = self.host, step.domid
        there = domid in host.domids() and domid not in self._zombies
        free = domid not in host.domids()
        match step.what:
            case "create" if free:
                self._create(step)
            case "create unannounced" if free:
                self._create(step, introduce=False)
            case "introduce" if there:
                host.introduce(domid)
            case "rename" if there:
                host.rename(domid, step.name)
            case "swap names" if there and step.other in host.domids():
                mine, theirs = host.name(domid), host.name(step.other)
                host.rename(domid, theirs)
                host.rename(step.other, mine)
            case "shutdown" if there:
                host.shutdown(domid, step.number % 3)
            case "crash" if there:
                host.crash(domid)
            case "reboot" if there:
                host.reboot(domid, order="at once" if step.order == "xapi" else step.order)
            case "destroy" if there:
                host.destroy(domid, order=step.order)
            case "zombie" if there:
                self._zombies[domid] = host.zombie(domid, order=step.order)
            case "release zombies":
                self._release_zombies()
            case "reuse" if there:
                host.destroy(domid, order=step.order)
                self._create(step)
            case "reuse with same uuid" if there:
                uuid = self._uuid(domid)
                host.destroy(domid, order=step.order)
                host.create(step.name, uuid=uuid, type=step.type, domid=domid)
            case "change handle" if there:
                host.change_handle(domid, step.uuid)
            case "resume" if there:
                host.resume(domid)
            case "leave node" if free:
                host.leave_node(domid, step.name or b"left")
            case "clear node":
                host.clear_node(domid)
            case "cut":
                host.cut_line()
            case "deafen":
                host.deafen_line()
            case "stop xenstored":
                host.stop_xenstored()
            case "start xenstored":
                host.start_xenstored()
            case "lose events":
                self._lost += step.number
                host.lose_events(step.number)
            case "double events":
                self._lost += step.number
                host.double_events(step.number)
            case "halve lists":
                self._halved += step.number
                host.halve_lists(step.number)
            case "refuse hypercalls":
                host.refuse_hypercalls()
            case "allow hypercalls":
                host.refuse_hypercalls(False)

    def clear_faults(self) -> None:
        """Make everything good: from here on the host works. Changes nothing of its domains."""
        self.host.refuse_hypercalls(False)
        self.host.start_xenstored()
        self.host.cut_line()  # a deaf line never hears again
        for _ in range(self._lost):  # used up on what concerns nobody
            self.host.leave_node(UNUSED, b"x")
        hypervisor = self.host.open_hypervisor()
        for _ in range(self._halved):
            hypervisor.list()
        self._lost = self._halved = 0

    def _create(self, step: Step, *, introduce: bool = True) -> None:
        self.host.create(
            step.name, uuid=step.uuid, type=step.type, domid=step.domid, introduce=introduce
        )

    def _uuid(self, domid: int) -> UUID:
        self.host.refuse_hypercalls(False)
        info = self.host.open_hypervisor().info(domid)
        assert info is not None
        return info.uuid

    def _release_zombies(self) -> None:
        for release in self._zombies.values():
            release()
        self._zombies.clear()
