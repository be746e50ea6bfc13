"""`domindex bench`: what it tells, that nothing is left out in silence, what it never does."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from domindex.bench import peers
from domindex.bench.measures import BESIDE, UNDISTURBED, Measure
from domindex.bench.ours import BARE, DIRECT
from domindex.bench.report import Report, from_json, lines
from domindex.bench.run import Settings, bench, simulated
from domindex.bench.subject import ABSENT, Subject
from domindex.bench.ways import Missing, Peer, Timed, Way, _Run, measure, spread
from domindex.cli import main
from domindex.domain import NIL_UUID
from domindex.testing import SimulatedHost

QUICK = Settings(rounds=3, budget=0.0, pause=0.0, idle=0.0)
DOMAINS = 4


def subject_of(host: SimulatedHost) -> Subject:
    with host.connect() as index:
        return Subject.of(host, tuple(index))


@pytest.fixture(scope="module")
def report() -> Report:
    """Of a small simulated host, with all that writing allows; and what was written is gone."""
    host = simulated(DOMAINS)
    before = dict(host._nodes)
    made = bench(host, replace(QUICK, write=True, idle=0.01))
    assert host._nodes == before
    return made


# -- the whole -------------------------------------------------------------------------------


def test_every_way_is_measured_or_missing_with_a_reason(report: Report) -> None:
    """None is dropped; without Xen all of ours are measured, and no peer is."""
    told = {(way.question, way.name): way for way in report.ways}
    assert len(told) == len(report.ways)
    peer_ways = [way for peer in peers.PEERS for way in peer.ways]
    for way in peer_ways:
        assert told.pop((way.question, way.name)).missing
    for way in (way for peer in (*BARE, DIRECT) for way in peer.ways):
        assert (way.question, way.name) in told
    for timed in told.values():
        assert not timed.missing, timed
        assert 0 < timed.fastest <= timed.low <= timed.median <= timed.high
        assert timed.calls > 0
        beside = [way for way in told.values() if way.floor == timed.name]
        assert timed.samples == 3 + 3 * len(beside)
        assert bool(timed.of_floor) == bool(timed.floor)
        assert timed.of_floor_low <= timed.of_floor <= timed.of_floor_high


def test_every_floor_was_measured_in_the_same_run(report: Report) -> None:
    """A ratio to something else would mean nothing."""
    measured = {way.name for way in report.ways if not way.missing}
    assert {way.floor for way in report.ways if way.floor} <= measured


def test_all_measures_are_taken(report: Report) -> None:
    """Memory, idleness, the way of an event, and what the host bears."""
    assert len(report.measures) == 7
    for taken in report.measures:
        assert not taken.missing, taken
        assert taken.detail
    assert all(taken.median > 0 for taken in report.measures if "wake-ups" not in taken.what)


def test_nothing_is_written_unless_allowed() -> None:
    """And what would need it says so."""
    host = simulated(DOMAINS)
    before = dict(host._nodes)
    told = bench(host, QUICK)
    assert host._nodes == before
    why = {taken.what: taken.missing for taken in told.measures if taken.missing}
    assert why.pop("wake-ups of the idle index") == "it was not to be watched"
    assert why.pop("from a rename to the handler that is told")
    assert len(why) == 4
    assert all("--write" in reason for reason in why.values())


def test_a_host_without_guests() -> None:
    """Dom0 has no uuid of its own: that way is missing, and says what the look-up said."""
    told = bench(SimulatedHost(), QUICK)
    why = {way.name: way.missing for way in told.ways if way.question == "by uuid"}
    assert "NoSuchDomain" in why["index.by_uuid"]
    assert "NoSuchDomain" in why["direct.by_uuid"]


# -- the target ------------------------------------------------------------------------------


def test_the_target_is_in_the_middle_and_has_keys_of_its_own() -> None:
    """A scan then reads half of the host; and no look-up is Ambiguous."""
    host = SimulatedHost()
    for name in ("a", "twin", "twin", "b", None, "c"):
        host.create(name)
    assert subject_of(host).name == "b"


def test_dom0_where_there_is_nobody_else() -> None:
    """Better than nothing."""
    subject = subject_of(SimulatedHost())
    assert (subject.name, subject.target.uuid) == ("Domain-0", NIL_UUID)


# -- timing ----------------------------------------------------------------------------------


def test_ways_take_turns() -> None:
    """In each round each once, whatever the order."""
    called: list[str] = []
    ways = [
        Way("q", name, "sleep(0.011); note(name)", "", scope=scope(called, name)) for name in "abc"
    ]
    measure(ways, rounds=4, budget=10.0)
    rounds = [sorted(called[start : start + 3]) for start in range(3, len(called), 3)]
    assert called[:3] == ["a", "b", "c"]
    assert rounds == [["a", "b", "c"]] * 4


def test_each_sample_comes_after_one_of_its_floor() -> None:
    """What the machine does beside hits both: their ratio is told, and not that of two medians."""
    called: list[str] = []
    floor, way = (
        Way("q", name, f"sleep({seconds}); note(name)", "", "least", scope=scope(called, name))
        for name, seconds in (("least", 0.011), ("way", 0.022))
    )
    least, timed = measure([floor, way], rounds=4, budget=10.0)
    assert [called[at - 1] for at, name in enumerate(called) if name == "way"][1:] == ["least"] * 4
    assert (least.of_floor, least.samples) == (0, 8)
    assert 0 < timed.of_floor_low <= timed.of_floor <= timed.of_floor_high


def scope(called: list[str], name: str) -> dict[str, Any]:
    return {"sleep": time.sleep, "note": called.append, "name": name}


@pytest.mark.parametrize(("budget", "samples"), [(0.0, 3), (100.0, 8)])
def test_a_slow_way_is_called_less_often_but_not_dropped(budget: float, samples: int) -> None:
    """Three samples, whatever it costs; all of them within its share of the time."""
    (timed,) = measure([Way("q", "slow", "pass", "")], rounds=8, budget=budget)
    assert timed.samples == samples


def test_a_slow_way_takes_part_from_the_first_rounds_to_the_last() -> None:
    """So that it is not put to it alone if the machine was slow at the start."""
    run = _Run(Way("q", "slow", "pass", ""))
    run.warm_up(9, 0.0)
    assert [turn for turn in range(9) if run.takes(turn)] == [0, 3, 6]


def test_a_way_that_fails_says_how_and_the_others_go_on() -> None:
    """Whatever a peer raises."""
    bad, good = measure(
        [Way("q", "bad", "1 / 0", ""), Way("q", "good", "pass", "")], rounds=3, budget=1.0
    )
    assert bad.missing == "failed: ZeroDivisionError: division by zero"
    assert good.samples == 3


def test_the_spread() -> None:
    """Median and quartiles; of one sample there is none."""
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == (3.0, 2.0, 4.0)
    assert spread([7.0]) == (7.0, 7.0, 7.0)


# -- the report ------------------------------------------------------------------------------


def test_json_comes_back_as_it_went(report: Report) -> None:
    """So that runs can be drawn together later."""
    assert from_json(report.to_json()) == report
    assert set(json.loads(report.to_json())) == set(asdict(report))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "ways": [{}]}'])
def test_what_is_no_report_is_refused(text: str) -> None:
    """With a ValueError, whatever it is."""
    with pytest.raises(ValueError, match=r"."):
        from_json(text)


def test_the_table_has_a_row_for_each(report: Report) -> None:
    """And says in its title that no Xen was asked."""
    title, machine, *rest = lines(report)
    assert "not Xen" in title
    assert "python" in machine
    rows = [line for line in rest if line.startswith("  ")]
    for row, way in zip(rows, report.ways, strict=True):
        assert row.startswith(f"  {way.name} ")
        assert ("missing: " in row) == bool(way.missing)


def test_relative_times_are_multiples_of_a_dict_get() -> None:
    """Of an emulated machine no other number is told."""
    ways = (
        Timed("floors", "a bare dict.get", "", "", 2e-8, 2e-8, 2e-8, 2e-8, 3, 1),
        Timed("by name", "slow", "", "a bare dict.get", 4e-5, 4e-5, 4e-5, 4e-5, 3, 1),
    )
    taken = (
        Measure("latency", "s", 1e-3, 1e-3, 1e-3),
        Measure(*UNDISTURBED, 200.0, 200.0, 200.0),
        Measure(*BESIDE, 150.0, 150.0, 150.0),
    )
    told = Report(3, False, "now", {"xen": "Xen"}, [], ways, taken, relative=True)
    text = "\n".join(lines(told))
    assert "2,000x" in text
    assert "50,000x" in text
    assert "beside an index: 0.75x" in text
    assert " us" not in text
    assert " ms" not in text


def test_foreign_text_cannot_reach_the_terminal(report: Report) -> None:
    """A peer's error is not ours."""
    bad = replace(report.ways[0], missing="\x1b[2J\n")
    assert "\x1b" not in "".join(lines(replace(report, ways=(bad,))))


# -- peers -----------------------------------------------------------------------------------


def opened(peer: Peer, host: SimulatedHost) -> list[Timed]:
    """Each way of the peer, called."""
    with ExitStack() as stack:
        return measure(peer.opened(subject_of(host), stack), rounds=3, budget=0.0)


@pytest.fixture
def host() -> SimulatedHost:
    return simulated(DOMAINS)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a module in the place of one that is looked for; None: it is not there."""

    def put(name: str, **members: object) -> None:
        made = ModuleType(name)
        vars(made).update(members)
        monkeypatch.setitem(sys.modules, name, made if members else None)

    return put


def test_what_is_not_there_says_so(
    host: SimulatedHost, module: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each peer by itself."""
    module("libvirt")
    module("xen.lowlevel.xs")
    monkeypatch.setenv("PATH", "")
    reasons = {
        peer.ways[0].name: {way.missing for way in opened(peer, host)} for peer in peers.PEERS
    }
    assert len(reasons) == 5
    for (reason,) in reasons.values():
        assert reason
    assert "XenD is gone" in min(reasons["XenD"])


class LibvirtError(Exception):
    pass


class FakeLibvirt:
    """A connection that knows `names`."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def listAllDomains(self) -> list[SimpleNamespace]:  # noqa: N802
        return [
            SimpleNamespace(
                name=lambda name=name: name, UUIDString=str, ID=int, OSType=lambda: "xen"
            )
            for name in self.names
        ]

    def lookupByName(self, name: str) -> SimpleNamespace:  # noqa: N802
        for domain in self.listAllDomains():
            if domain.name() == name:
                return domain
        raise LibvirtError(name)

    def lookupByID(self, _: int) -> None: ...  # noqa: N802
    def lookupByUUIDString(self, _: str) -> None: ...  # noqa: N802


@pytest.mark.parametrize(
    ("known", "note"), [(("vm-2", "vm-1"), ""), (("Domain-0",), "knows 1 of 4 domains")]
)
def test_libvirt_is_asked_for_what_it_knows(
    host: SimulatedHost, module: Callable[..., None], known: tuple[str, ...], note: str
) -> None:
    """Domains that others made it does not know, and the table says so."""
    connection = FakeLibvirt(*known)
    module(
        "libvirt",
        libvirtError=LibvirtError,
        registerErrorHandler=lambda *_: None,
        openReadOnly=lambda _: connection,
    )
    told = opened(peers.LIBVIRT, host)
    assert [way.missing for way in told] == [""] * 5
    assert all((note in way.cost) and (bool(note) == (";" in way.cost)) for way in told)
    assert connection.closed


def test_libvirt_that_does_not_answer(host: SimulatedHost, module: Callable[..., None]) -> None:
    """As without its daemon, or with one for another hypervisor."""

    def refuse(_: str) -> None:
        raise LibvirtError("no connection driver")

    module("libvirt", libvirtError=LibvirtError, registerErrorHandler=print, openReadOnly=refuse)
    assert all("no connection driver" in way.missing for way in opened(peers.LIBVIRT, host))


def test_the_scan_reads_until_it_hits(host: SimulatedHost, module: Callable[..., None]) -> None:
    """Which is half of the host for the target, and all of it for a miss."""
    reads: list[str] = []

    class Store:
        def ls(self, _: str, path: str) -> list[str]:
            assert path == "/local/domain"
            return ["0", "1", "2", "3"]

        def read(self, _: str, path: str) -> str:
            reads.append(path)
            return f"vm-{path.split('/')[3]}"

        def close(self) -> None: ...

    module("xen.lowlevel.xs", xs=Store)
    with ExitStack() as stack:
        by_name, no_name, _ = peers.SCAN.opened(subject_of(host), stack)
        exec(by_name.code, {**by_name.scope})
        assert len(reads) == 3
        exec(no_name.code, {**no_name.scope})
        assert len(reads) == 3 + 4


def test_xl_is_started_with_the_name(
    host: SimulatedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is not there is its failure, and no failure of ours."""
    script = tmp_path / "xl"
    script.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/said\n[ "$2" != {ABSENT} ]\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert [way.missing for way in opened(peers.XL, host)] == ["", "", ""]
    said = set((tmp_path / "said").read_text().splitlines())
    assert said == {"domid vm-2", f"domid {ABSENT}", "domname 2"}


@pytest.mark.parametrize("name", ["-h", "42"])
def test_xl_is_not_asked_for_what_it_would_take_for_something_else(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no way to say that this is a name."""
    (tmp_path / "xl").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    host = SimulatedHost()
    host.create(name)
    assert {way.missing for way in opened(peers.XL, host)} == {
        f"xl would take {name!r} for an option or a domid"
    }


@pytest.mark.parametrize(
    ("error", "reason"),
    [(Missing("it is Sunday"), "it is Sunday"), (KeyError("x"), "failed: KeyError: 'x'")],
)
def test_a_peer_that_cannot_be_opened_is_told_with_each_of_its_ways(
    error: Exception, reason: str
) -> None:
    """Whatever it raises, the others go on."""

    def closed(*_: object) -> dict[str, object]:
        raise error

    peer = Peer((Way("q", "a", "pass", ""), Way("q", "b", "pass", "")), closed)
    assert [way.missing for way in opened(peer, SimulatedHost())] == [reason] * 2


# -- the command -----------------------------------------------------------------------------


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*argv: str) -> tuple[int, str, str]:
        quick = ("--rounds", "3", "--budget", "0", "--pause", "0", "--idle", "0", "--domains", "2")
        status = main(["bench", *argv, *quick])
        return status, *capsys.readouterr()

    return run


def test_the_command_writes_what_it_is_asked_for(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    """Table, JSON and picture; and takes the JSON of several runs up again."""
    pytest.importorskip("matplotlib")
    saved, picture = tmp_path / "a.json", tmp_path / "a.svg"
    status, out, _ = command("--simulated", "--json", str(saved), "--svg", str(picture))
    assert (status, "not Xen" in out) == (0, True)
    told = from_json(saved.read_text())
    assert told.domains == 2
    other = tmp_path / "b.json"
    other.write_text(replace(told, domains=20).to_json())
    status, out, _ = command("--plot", str(saved), str(other), "--svg", str(picture))
    assert (status, out.count("domindex bench: ")) == (0, 2)
    drawn = picture.read_text()
    assert drawn.startswith("<?xml")
    assert "simulated host (no Xen)" in drawn
    for name in ("index.by_name", "xl domid NAME: it would need", "XenD: XenD is gone"):
        assert f">{name}" in drawn


@pytest.mark.skipif(os.path.exists("/proc/xen/privcmd"), reason="this is a Xen host")
def test_without_xen_it_is_simulated_and_says_so(
    command: Callable[..., tuple[int, str, str]],
) -> None:
    """Nobody takes the numbers for Xen's."""
    status, out, err = command()
    assert status == 0
    assert "a simulated host: Python and round trips in memory are measured, not Xen" in out
    assert "simulated, as" in err


@pytest.mark.parametrize("option", ["--idle", "--pause"])
@pytest.mark.parametrize("seconds", ["inf", "1e300", "nan", "-1", "soon"])
def test_what_would_never_end_is_refused(
    option: str, seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """P9: with a sentence."""
    assert main(["bench", option, seconds]) == 2
    assert f"{seconds!r} is no number of seconds" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [("--rounds", "2"), ("--domains", "0"), ("--plot", "nowhere")])
def test_wrong_use(command: Callable[..., tuple[int, str, str]], argv: tuple[str, ...]) -> None:
    """Ends with a sentence."""
    if argv[0] == "--plot":
        assert command(*argv)[0] == 3
    else:
        assert main(["bench", *argv]) == 2


def test_a_plot_of_what_is_no_report(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    """Names the file."""
    (tmp_path / "x").write_text("{}")
    status, _, err = command("--plot", str(tmp_path / "x"))
    assert status == 2
    assert "no report" in err


def test_without_matplotlib_a_plot_says_what_to_install(
    command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is measured."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "domindex.bench.plot", raising=False)
    status, out, err = command("--simulated", "--svg", "x.svg")
    assert (status, out) == (2, "")
    assert "domindex[plot]" in err
