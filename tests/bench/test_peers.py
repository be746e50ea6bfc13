"""The peers: each says why it is missing, and is asked for what it knows."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from domindex.testing import SimulatedHost
from tests.bench import peers
from tests.bench.run import simulated
from tests.bench.subject import ABSENT, Subject
from tests.bench.ways import Missing, Peer, Timed, Way, measure


def subject_of(host: SimulatedHost) -> Subject:
    with host.connect() as index:
        return Subject.of(host, tuple(index))


def opened(peer: Peer, host: SimulatedHost) -> list[Timed]:
    """Each way of the peer, called."""
    with ExitStack() as stack:
        return measure(peer.opened(subject_of(host), stack), rounds=3, budget=0.0)


@pytest.fixture
def host() -> SimulatedHost:
    return simulated(4)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace a module that a peer imports. Without members: it cannot be imported."""

    def put(name: str, **members: object) -> None:
        made = ModuleType(name)
        vars(made).update(members)
        monkeypatch.setitem(sys.modules, name, made if members else None)

    return put


def test_a_peer_that_is_not_there_says_so(
    host: SimulatedHost, module: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with a reason of its own."""
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
    """It does not know domains that others made, and the table says so."""
    connection = FakeLibvirt(*known)
    module(
        "libvirt",
        libvirtError=LibvirtError,
        registerErrorHandler=lambda *_: None,
        openReadOnly=lambda _: connection,
    )
    timed = opened(peers.LIBVIRT, host)
    assert [way.missing for way in timed] == [""] * 5
    assert all((note in way.cost) and (bool(note) == (";" in way.cost)) for way in timed)
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
    """It fails for a name that is not there; that is the expected answer."""
    script = tmp_path / "xl"
    script.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/arguments\n[ "$2" != {ABSENT} ]\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert [way.missing for way in opened(peers.XL, host)] == ["", "", ""]
    started = set((tmp_path / "arguments").read_text().splitlines())
    assert started == {"domid vm-2", f"domid {ABSENT}", "domname 2"}


@pytest.mark.parametrize("name", ["-h", "42"])
def test_xl_is_not_asked_for_a_name_like_an_option_or_a_domid(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no option that says that this is a name."""
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
def test_the_ways_of_a_peer_that_cannot_be_opened_have_the_reason(
    error: Exception, reason: str
) -> None:
    """Whatever it raises; the others go on."""

    def closed(*_: object) -> dict[str, object]:
        raise error

    peer = Peer((Way("q", "a", "pass", ""), Way("q", "b", "pass", "")), closed)
    assert [way.missing for way in opened(peer, SimulatedHost())] == [reason] * 2
