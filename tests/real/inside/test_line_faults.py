"""A line to the real xenstored that goes wrong in every way: what the index makes of it.

Between the two is `line_proxy`. When a fault is over, the index must equal what another way to
the host says, its events must tell exactly the differences, and closing must leave nothing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import domindex
from domindex import Added, Lost, NotLive, Ready, Recovered, Removed, Renamed
from tests.stage import PATIENCE, eventually

from .following import Following, a_day, following
from .line_proxy import (
    LineProxy,
    Op,
    Packet,
    What,
    Where,
    cut,
    half_and_cut,
    half_and_silence,
    silence,
)
from .toolstack import RealHost

XENSTORED = Path("/run/xenstored/socket")


@pytest.fixture
def proxy() -> Iterator[LineProxy]:
    with (
        tempfile.TemporaryDirectory() as home,
        LineProxy(Path(home) / "socket", XENSTORED) as proxy,
    ):
        yield proxy
        eventually(lambda: proxy.lines == 0, "the index has closed its lines")


@pytest.fixture
def by_proxy(proxy: LineProxy) -> domindex.XenHost:
    return domindex.XenHost(transport="socket", path=str(proxy.path))


def first(packet: Packet) -> bool:
    """Whatever comes first: the question for features."""
    return True


def special_watch(packet: Packet) -> bool:
    return packet.asked and packet.op == Op.WATCH and packet.payload.startswith(b"@release")


def special_acknowledged(packet: Packet) -> bool:
    """The last thing on the line before the first list."""
    return not packet.asked and packet.op == Op.EVENT and packet.payload.startswith(b"@release")


def name_watch(packet: Packet) -> bool:
    return packet.asked and packet.op == Op.WATCH and b"/name\0node/" in packet.payload


def name_event(packet: Packet) -> bool:
    return not packet.asked and packet.op == Op.EVENT and b"/name\0node/" in packet.payload


def name_read(packet: Packet) -> bool:
    return packet.asked and packet.op == Op.READ


def name_answer(packet: Packet) -> bool:
    return not packet.asked and packet.op == Op.READ


PHASES = [first, special_watch, special_acknowledged, name_watch, name_event, name_read]
PHASES += [name_answer]
phases = pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)


@phases
@pytest.mark.parametrize("what", [cut, half_and_cut])
def test_a_line_that_breaks_while_the_index_is_opened(
    toolstack: RealHost, proxy: LineProxy, by_proxy: domindex.XenHost, phase: Where, what: What
) -> None:
    """`connect` opens another line, as long as it has time, and tells nobody of the first."""
    proxy.rule(phase, what)
    with following(by_proxy) as follower:
        assert proxy.struck == 1
        assert len(proxy.attempts) == 2
        follower.reckon(lost=0, by_xl=False)
    eventually(lambda: proxy.lines == 0, "the line is closed")


@phases
def test_a_line_that_breaks_and_breaks_again(
    toolstack: RealHost, proxy: LineProxy, by_proxy: domindex.XenHost, phase: Where
) -> None:
    """The second break, in any phase of the new line, is part of the same loss."""
    with following(by_proxy) as follower:
        proxy.cut(and_then=phase)
        a_day(toolstack)
        follower.heard.until(Recovered)
        assert proxy.struck == 1
        assert len(proxy.attempts) == 3
        follower.reckon(lost=1, by_xl=phase is name_read)
        _still_follows(follower, toolstack)


@pytest.mark.parametrize(
    ("where", "what"),
    [
        *((name_watch, what) for what in (cut, half_and_cut, silence)),
        *((name_event, what) for what in (cut, half_and_cut, half_and_silence)),
        *((name_answer, what) for what in (cut, half_and_cut, silence, half_and_silence)),
    ],
)
def test_a_line_that_fails_at_work(
    toolstack: RealHost, proxy: LineProxy, by_proxy: domindex.XenHost, where: Where, what: What
) -> None:
    """Broken, silent or with half a packet in the middle of a day: noticed, and made good."""
    with following(by_proxy) as follower:
        proxy.rule(where, what)
        a_day(toolstack)
        follower.heard.until(Lost)
        follower.heard.until(Recovered)
        follower.reckon(lost=1, by_xl=False)
        _still_follows(follower, toolstack)


def test_an_idle_line_that_goes_silent(
    toolstack: RealHost, proxy: LineProxy, by_proxy: domindex.XenHost
) -> None:
    """A line on which nothing comes is asked, found deaf, and replaced, whatever has happened."""
    with following(by_proxy) as follower:
        proxy.switch(silent=True)
        a_day(toolstack)
        follower.heard.until(Lost)
        follower.index.by_name("first")  # P4: the picture stays
        with pytest.raises(NotLive):
            follower.index.by_name("heir")
        proxy.clear()
        follower.heard.until(Recovered)
        follower.reckon(lost=1)
        assert follower.index.by_name("heir", verify=True).type is domindex.OSType.PVH


def test_a_line_that_cannot_be_had(
    toolstack: RealHost, proxy: LineProxy, by_proxy: domindex.XenHost
) -> None:
    """It is tried again and again, ever more rarely, and never more than once at a time."""
    with following(by_proxy) as follower:
        proxy.refuses = True
        proxy.cut()
        follower.heard.until(Lost)
        eventually(lambda: len(proxy.attempts) >= 9, "it is tried again")
        gaps = [b - a for a, b in zip(proxy.attempts[1:], proxy.attempts[2:], strict=False)]
        assert sum(gaps[:3]) < sum(gaps[-3:])
        assert max(gaps[-3:]) >= 0.15  # half of the longest pause
        a_day(toolstack)
        proxy.refuses = False
        follower.heard.until(Recovered)
        follower.reckon(lost=1, by_xl=False)


MISTREATED = {
    "late": {"delay": 0.1},
    "byte by byte": {"piece": 1},
    "byte by byte, with pauses": {"piece": 7, "pause": 0.002},
    "doubled": {"doubles": True},
    "doubled and late": {"doubles": True, "delay": 0.05},
    "merged": {"merges": True, "delay": 0.1},
    "read slowly": {"sip": 64, "thirst": 0.01},
}


@pytest.mark.parametrize("weather", MISTREATED.values(), ids=MISTREATED)
def test_a_line_that_is_mistreated(
    toolstack: RealHost, proxy: LineProxy, by_proxy: domindex.XenHost, weather: dict[str, object]
) -> None:
    """Slow, in pieces, with events doubled or merged: it is not lost, and nothing is missed."""
    proxy.switch(**weather)
    with following(by_proxy) as follower:
        a_day(toolstack)
        follower.reckon(lost=0, by_xl=False)  # in the bad weather
        assert follower.index.by_name("heir").type is domindex.OSType.PVH
        proxy.clear()
        _still_follows(follower, toolstack)
        follower.reckon(lost=0, by_xl=False)


def test_a_gap_without_a_change(
    toolstack: RealHost, proxy: LineProxy, by_proxy: domindex.XenHost
) -> None:
    """A loss in which nothing happened is told, and nothing else is."""
    with following(by_proxy) as follower:
        follower.reckon(lost=0)
        before = len(follower.heard.events)
        proxy.cut()
        follower.heard.until(Recovered)
        follower.reckon(lost=1)
        assert [type(e) for e in follower.heard.events[before:]] == [Lost, Recovered]


def test_a_gap_is_told_exactly(
    toolstack: RealHost, proxy: LineProxy, by_proxy: domindex.XenHost
) -> None:
    """After a gap each difference is one event, those of the same domid in their order."""
    gone, kept, reused = (toolstack.create(name) for name in ("gone", "kept", "reused"))
    with following(by_proxy) as follower:
        follower.reckon(lost=0, by_xl=False)
        before = len(follower.heard.events)
        proxy.refuses = True
        proxy.cut()
        follower.heard.until(Lost)
        toolstack.destroy(gone)
        toolstack.rename(kept, "b")
        toolstack.rename(kept, "c")
        toolstack.destroy(reused)
        toolstack.create("heir", domid=reused)
        toolstack.destroy(passed := toolstack.create("passed"))
        new = toolstack.create("new")
        proxy.refuses = False
        follower.heard.until(Recovered)
        follower.reckon(lost=1, by_xl=False)
        events = follower.heard.events[before:]
        said: dict[int, list[type]] = {}
        for event in events[1:-1]:
            match event:
                case Added(domain) | Ready(domain) | Removed(domain):
                    said.setdefault(domain.domid, []).append(type(event))
                case Renamed(_, domain):
                    said.setdefault(domain.domid, []).append(type(event))
        assert passed == new or passed not in said
        expected: dict[int, list[type]] = {
            gone: [Removed],
            kept: [Renamed],
            reused: [Removed, Added, Ready],
            new: [Added, Ready],
        }
        if new == gone:  # Xen gave the number out again
            expected[gone] = [Removed, Added, Ready]
        assert said == expected
        assert len(events) == 2 + sum(len(kinds) for kinds in expected.values())
        assert all(event.inferred for event in events if isinstance(event, Removed))


def test_a_line_that_breaks_all_the_time(
    toolstack: RealHost, proxy: LineProxy, by_proxy: domindex.XenHost
) -> None:
    """Ten breaks in a busy day: each loss has its recovery, and at the end all is well."""
    with following(by_proxy) as follower:
        domids = [toolstack.create(f"vm-{number}") for number in range(10)]
        for number, domid in enumerate(domids):
            proxy.cut()
            toolstack.rename(domid, f"new-{number}")
            if number % 2:
                toolstack.destroy(domid, order="xapi" if number % 4 == 1 else "libxl")
            time.sleep(0.02)
        follower.index.refresh(timeout=PATIENCE)
        follower.heard.rest()
        lost = follower.lost()
        assert 1 <= lost <= 10
        follower.reckon(lost=lost)


def test_closed_while_the_line_is_down(
    toolstack: RealHost, proxy: LineProxy, by_proxy: domindex.XenHost
) -> None:
    """Closing does not wait for a line: not for one that is refused, nor for a silent one."""
    for fault in ("refuses", "silent"):
        with following(by_proxy) as follower:
            if fault == "refuses":
                proxy.refuses = True
                proxy.cut()
                follower.heard.until(Lost)
            else:
                proxy.switch(silent=True)
            began = time.monotonic()
        assert time.monotonic() - began < 1.0
        proxy.clear()


@pytest.mark.parametrize("error", [b"EIO", b"EACCES", b"ENOMEM", b"EINVAL", b"EQUOTA"])
def test_a_name_that_is_refused(
    toolstack: RealHost, proxy: LineProxy, by_proxy: domindex.XenHost, error: bytes
) -> None:
    """P9, P5: it concerns that domain alone, which keeps its last name; a miss names it."""
    bad, other = toolstack.create("bad"), toolstack.create("other")
    with following(by_proxy) as follower:
        index = follower.index
        proxy.refuse(Op.READ, f"/local/domain/{bad}/name", error)
        toolstack.rename(bad, "worse")
        toolstack.rename(other, "better")
        follower.heard.until(Renamed, domid=other, name="better")
        eventually(lambda: index.stats.unreadable == (bad,), "the refusal is known")
        assert index.by_name("bad") == index.by_id(bad, verify=True)
        with pytest.raises(NotLive, match=f"domain {bad} "):
            index.by_name("worse")
        _still_follows(follower, toolstack)
        assert (index.live, follower.lost()) == (True, 0)
        with domindex.direct.open(by_proxy) as look:
            assert look.by_name("better").domid == other
            assert look.by_id(bad).name is None
        proxy.clear()
        index.refresh(timeout=PATIENCE, names=True)
        assert index.by_name("worse").domid == bad
        follower.reckon(lost=0, by_xl=False)


def test_a_refused_name_is_there_as_the_index_is_opened(
    toolstack: RealHost, proxy: LineProxy, by_proxy: domindex.XenHost
) -> None:
    """P9: all others are served; one whose watch is refused is read at each probe."""
    bad, shy = toolstack.create("bad"), toolstack.create("shy")
    proxy.refuse(Op.READ, f"/local/domain/{bad}/name", b"EIO")
    proxy.refuse(Op.WATCH, f"/local/domain/{shy}/name", b"EACCES")
    with following(by_proxy) as follower:
        assert follower.index.by_id(bad).name is None
        assert follower.index.by_name("first", verify=True)
        toolstack.rename(shy, "less shy")
        follower.heard.until(Renamed, domid=shy, name="less shy")
        assert follower.index.stats.unreadable == (bad,)


def _still_follows(follower: Following, toolstack: RealHost) -> None:
    """An event still comes by itself, without a refresh."""
    domid = toolstack.create("after all")
    follower.heard.named(domid, "after all")
