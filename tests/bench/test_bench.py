"""The benchmark as a whole: every way is in the report, nothing is written unasked."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from domindex.testing import SimulatedHost
from tests.bench import peers
from tests.bench.floors import BARE
from tests.bench.measures import BESIDE, UNDISTURBED, Measure, own_name
from tests.bench.ours import DIRECT
from tests.bench.report import Report, from_json, lines
from tests.bench.run import Settings, bench, simulated
from tests.bench.ways import Timed

QUICK = Settings(rounds=3, budget=0.0, pause=0.0, idle=0.0)
DOMAINS = 4


@pytest.fixture(scope="module")
def report() -> Report:
    """Of a small simulated host, with all that writing allows; what was written is removed."""
    host = simulated(DOMAINS)
    made = bench(host, replace(QUICK, write=True, idle=0.01))
    node = f"/local/domain/0/{own_name()}".encode()
    store = host.open_store(1.0)
    assert store.read([node, node + b"/0"]) == [None, None]
    store.close()
    return made


def test_every_way_is_measured_or_missing_with_a_reason(report: Report) -> None:
    """None is dropped. Without Xen all of ours are measured, and no peer is."""
    ways = {(way.question, way.name): way for way in report.ways}
    assert len(ways) == len(report.ways)
    peer_ways = [way for peer in peers.PEERS for way in peer.ways]
    for way in peer_ways:
        assert ways.pop((way.question, way.name)).missing
    for way in (way for peer in (*BARE, DIRECT) for way in peer.ways):
        assert (way.question, way.name) in ways
    for timed in ways.values():
        assert not timed.missing, timed
        assert 0 < timed.fastest <= timed.low <= timed.median <= timed.high
        assert timed.calls > 0
        beside = [way for way in ways.values() if way.floor == timed.name]
        assert timed.samples == 3 + 3 * len(beside)
        assert bool(timed.of_floor) == bool(timed.floor)
        assert timed.of_floor_low <= timed.of_floor <= timed.of_floor_high


def test_every_floor_was_measured_in_the_same_run(report: Report) -> None:
    """A ratio between two runs would mean nothing."""
    measured = {way.name for way in report.ways if not way.missing}
    assert {way.floor for way in report.ways if way.floor} <= measured


def test_all_measures_are_taken(report: Report) -> None:
    """Memory, idle wake-ups, events, and the load on xenstored."""
    assert len(report.measures) == 7
    for taken in report.measures:
        assert not taken.missing, taken
        assert taken.detail
    assert all(taken.median > 0 for taken in report.measures if "wake-ups" not in taken.what)


def test_nothing_is_written_unless_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs it says so."""
    host = simulated(DOMAINS)
    writes: list[tuple[object, ...]] = []
    monkeypatch.setattr(host, "write", lambda *written: writes.append(written))
    monkeypatch.setattr(host, "rename", lambda *written: writes.append(written))
    made = bench(host, QUICK)
    assert not writes
    why = {taken.what: taken.missing for taken in made.measures if taken.missing}
    assert why.pop("wake-ups of the idle index") == "--idle is 0"
    assert why.pop("from a rename to its handler")
    assert len(why) == 4
    assert all("--write" in reason for reason in why.values())


def test_a_host_without_guests() -> None:
    """Dom0 has no uuid of its own: that way is missing, with the error of the look-up."""
    made = bench(SimulatedHost(), QUICK)
    why = {way.name: way.missing for way in made.ways if way.question == "by uuid"}
    assert "NoSuchDomain" in why["index.by_uuid"]
    assert "NoSuchDomain" in why["direct.by_uuid"]


def test_a_report_read_from_its_json_is_equal(report: Report) -> None:
    """So that runs can be drawn together later."""
    assert from_json(report.to_json()) == report
    assert set(json.loads(report.to_json())) == set(asdict(report))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "ways": [{}]}'])
def test_text_that_is_no_report_is_refused(text: str) -> None:
    """Always with a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        from_json(text)


def test_the_table_has_a_row_for_each_way(report: Report) -> None:
    """Its title says that there was no Xen."""
    title, machine, *rest = lines(report)
    assert "not Xen" in title
    assert "python" in machine
    rows = [line for line in rest if line.startswith("  ")]
    for row, way in zip(rows, report.ways, strict=True):
        assert row.startswith(f"  {way.name} ")
        assert ("missing: " in row) == bool(way.missing)


def test_relative_times_are_multiples_of_a_dict_get() -> None:
    """Other numbers of an emulated machine mean nothing."""
    ways = (
        Timed("floors", "a bare dict.get", "", "", 2e-8, 2e-8, 2e-8, 2e-8, 3, 1),
        Timed("by name", "slow", "", "a bare dict.get", 4e-5, 4e-5, 4e-5, 4e-5, 3, 1),
    )
    taken = (
        Measure("latency", "s", 1e-3, 1e-3, 1e-3),
        Measure(*UNDISTURBED, 200.0, 200.0, 200.0),
        Measure(*BESIDE, 150.0, 150.0, 150.0),
    )
    made = Report(3, False, "now", {"xen": "Xen"}, [], ways, taken, relative=True)
    text = "\n".join(lines(made))
    assert "2,000x" in text
    assert "50,000x" in text
    assert "beside an index: 0.75x" in text
    assert " us" not in text
    assert " ms" not in text


def test_foreign_text_cannot_reach_the_terminal(report: Report) -> None:
    """Such as the error of a peer."""
    bad = replace(report.ways[0], missing="\x1b[2J\n")
    assert "\x1b" not in "".join(lines(replace(report, ways=(bad,))))
