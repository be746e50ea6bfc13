"""The hypervisor of every release on every machine, played in memory, and what can go wrong.

What is right is worked out here from the values that were put into an entry, by the names of
its fields; how they lie in memory is the fake's business, and how a guest's type is told is
tested in `test_layouts.py`.
"""

from __future__ import annotations

import dataclasses
import errno
import faulthandler
import gc
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import domindex.xen.probe
from domindex.domain import Domain, DomainInfo, Life, OSType, Role, ShutdownReason
from domindex.errors import (
    AccessDenied,
    Closed,
    DomindexError,
    HostError,
    HypercallFailed,
    InvalidKey,
    NotControlDomain,
    UnknownXen,
)
from domindex.ports import Row, unique_id_of
from domindex.xen import _privcmd
from domindex.xen._privcmd import Privcmd
from domindex.xen.hypercall import PrivcmdHypervisor
from domindex.xen.layouts import DYING, os_type, shutdown_reason

from .fake_hypervisor import ABI, PAIRS, FakeDomain, FakeLibc, FakePrivcmd, FakeXen
from .test_layouts import BY_NAME, LISTED

Open = Callable[..., PrivcmdHypervisor]
Call = Callable[[PrivcmdHypervisor], object]

NEWEST = "4.22"
CALLS: dict[str, Call] = {
    "list": lambda hypervisor: hypervisor.list(),
    "get": lambda hypervisor: hypervisor.get(0),
    "info": lambda hypervisor: hypervisor.info(0),
    "infos": lambda hypervisor: hypervisor.infos(),
    "state": lambda hypervisor: hypervisor.state(0),
}


@pytest.fixture
def open_on() -> Iterator[Open]:
    """Opens hypervisors on fakes, and closes them in the end."""
    opened: list[PrivcmdHypervisor] = []

    def open_one(xen: FakeXen, *, plain: bool = False) -> PrivcmdHypervisor:
        opened.append(PrivcmdHypervisor(FakePrivcmd(xen, plain=plain), xen.machine))
        return opened[-1]

    yield open_one
    for hypervisor in opened:
        hypervisor.close()


def handle(domain: FakeDomain, xen: FakeXen) -> bytes:
    return domain.value("handle", xen.layout["offsets"]["handle"][1])


def number(domain: FakeDomain, name: str) -> int:
    size = 4 if name == "nr_online_vcpus" else 8
    return int.from_bytes(domain.value(name, size), "little")


# -- every release ---------------------------------------------------------------------------


@pytest.mark.parametrize(("release", "machine"), PAIRS)
def test_every_release_is_recognised(open_on: Open, release: str, machine: str) -> None:
    """By its interface versions, and what it says of itself is repeated."""
    xen = FakeXen(release, machine)
    hypervisor = open_on(xen)
    facts = ABI["releases"][release]
    assert hypervisor.version == (
        f"Xen {xen.number[0]}.{xen.number[1]} "
        f"(domctl {facts['domctl']:#x}, sysctl {facts['sysctl']:#x})"
    )
    assert hypervisor.has_unique_ids is (xen.number >= (4, 21))
    assert [row.domid for row in hypervisor.list()] == [0]


@pytest.mark.parametrize(("release", "machine"), PAIRS)
def test_what_xen_says_of_itself_decides_nothing(open_on: Open, release: str, machine: str) -> None:
    """Vendors change it: the versions that Xen accepts are what counts."""
    facts = ABI["releases"][release]
    for says in ((4, 10), (3, 1), (4, 22), (0, 0), (2, 0), (9, 99)):
        xen = FakeXen(release, machine)
        xen.says = says
        found = open_on(xen).version
        assert found.startswith(f"Xen {says[0]}.{says[1]} ")
        assert found.endswith(f"(domctl {facts['domctl']:#x}, sysctl {facts['sysctl']:#x})")


@pytest.mark.parametrize("padding", [b"\0", b"\xa5", b"\x5a", b"\xff"])
@pytest.mark.parametrize(("release", "machine"), PAIRS)
def test_every_field_is_read_back(
    open_on: Open, release: str, machine: str, padding: bytes
) -> None:
    """A domain at a time and all together, whatever there is between the fields."""
    xen = FakeXen(release, machine, [FakeDomain(d) for d in (0, 1, 7, 300, 9999, 10000, 0x7FEF)])
    xen.padding = padding
    hypervisor = open_on(xen)
    expected = [
        Row(
            domid=domid,
            handle=handle(domain, xen),
            type=OSType.PV,
            shutdown=None,
            dying=False,
            cpu_time=number(domain, "cpu_time"),
            frame=number(domain, "shared_info_frame"),
        )
        for domid, domain in sorted(xen.domains.items())
    ]
    assert [row[:7] for row in hypervisor.list()] == [row[:7] for row in expected]
    assert [hypervisor.get(domid) for domid in sorted(xen.domains)] == hypervisor.list()
    for domid, domain in xen.domains.items():
        assert hypervisor.info(domid) == DomainInfo(
            domid=domid,
            uuid=UUID(bytes=handle(domain, xen)),
            type=OSType.PV,
            paused=False,
            blocked=False,
            running=False,
            shutdown=None,
            dying=False,
            memory=number(domain, "tot_pages") * 4096,
            max_memory=number(domain, "max_pages") * 4096,
            cpu_time=number(domain, "cpu_time"),
            vcpus=number(domain, "nr_online_vcpus"),
        )
    infos = hypervisor.infos()
    assert [*infos] == sorted(xen.domains)
    assert [*infos.values()] == [hypervisor.info(domid) for domid in infos]


@pytest.mark.parametrize(("release", "machine"), PAIRS)
def test_types_are_told(open_on: Open, release: str, machine: str) -> None:
    """By flags or by emulated devices; only of a PV guest the shared page is told."""
    xen = FakeXen(release, machine)
    xen.add(1, flags=0, arch_config=b"\0")
    xen.add(2, flags=0x2, arch_config=(0x3FF).to_bytes(4, "little"))
    xen.add(3, flags=0x2, arch_config=(0x1).to_bytes(4, "little"))
    xen.add(4, flags=0x2, arch_config=(0x1).to_bytes(4, "little") + b"\xff" * 4)
    if machine == "aarch64":
        expected = [OSType.PV, OSType.PVH, OSType.PVH, OSType.PVH]
    elif release in LISTED:
        expected = [OSType.PV, OSType.HVM, OSType.PVH, OSType.PVH]
    elif xen.number >= (4, 7):
        expected = [OSType.PV, *[OSType.UNKNOWN] * 3]
    else:
        expected = [OSType.PV, *[OSType.HVM] * 3]
    hypervisor = open_on(xen)
    rows = hypervisor.list()[1:]
    assert [row.type for row in rows] == expected
    infos = [hypervisor.info(domid) for domid in (1, 2, 3, 4)]
    assert [info and info.type for info in infos] == expected
    assert [row.frame is not None for row in rows] == [True, False, False, False]


@pytest.mark.parametrize(("release", "machine"), PAIRS)
def test_states_are_told(open_on: Open, release: str, machine: str) -> None:
    """Dying, shut down and why, paused, blocked, running; stray upper bits mean nothing."""
    xen = FakeXen(release, machine)
    reasons = [*range(7), 254, 255]
    for code in reasons:
        xen.add(100 + code, flags=0x4 | code << 16)
        xen.add(1100 + code, flags=code << 16)
    xen.add(1, flags=0x1)
    xen.add(2, flags=0x5 | 3 << 16)
    for domid, flags in ((3, 0x8), (4, 0x10), (5, 0x20), (6, 0xFFFF0000)):
        xen.add(domid, flags=flags)
    hypervisor = open_on(xen)
    rows = {row.domid: row for row in hypervisor.list()}
    for code in reasons:
        expected = ShutdownReason(code)
        assert (expected is ShutdownReason.UNKNOWN) == (code > 5)
        assert rows[100 + code].shutdown is expected
        assert rows[1100 + code].shutdown is None
        info = hypervisor.info(100 + code)
        assert info is not None
        assert info.shutdown is expected
    assert [domid for domid, row in rows.items() if row.dying] == [1, 2]
    assert rows[2].shutdown is ShutdownReason.CRASH
    states = []
    for domid in range(1, 7):
        info = hypervisor.info(domid)
        assert info is not None
        states.append(info.state)
    assert states == ["dying", "dying", "paused", "blocked", "running", "runnable"]


@pytest.mark.parametrize(("release", "machine"), PAIRS)
def test_a_domain_that_is_not_there_is_none(open_on: Open, release: str, machine: str) -> None:
    """Although Xen answers for the next higher one."""
    xen = FakeXen(release, machine, [FakeDomain(5), FakeDomain(0x7FEF)])
    hypervisor = open_on(xen)
    for domid in (1, 4, 6, 0x7FEE):
        assert hypervisor.get(domid) is None
        assert hypervisor.info(domid) is None
    xen.remove(0x7FEF)
    assert hypervisor.get(0x7FEF) is None
    assert hypervisor.info(6) is None
    nobody: list[Any] = [-1, 0x7FF0, 0x10000, "5"]
    for domid in nobody:
        with pytest.raises(InvalidKey):
            hypervisor.info(domid)


@pytest.mark.parametrize("release", ["4.21", "4.22", "4.23-dev"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_each_life_has_its_unique_id(open_on: Open, release: str, machine: str) -> None:
    """None for one that is gone or dead; one that is shut down or being destroyed has it."""
    xen = FakeXen(release, machine)
    for domid, state in ((1, 0x1), (2, 0x3), (3, 0x5), (4, 0x9), (5, 0xD)):
        xen.add(domid).state = state
    hypervisor = open_on(xen)
    ids = [xen.domains[d].unique_id for d in (0, 1, 2, 3)]
    assert [unique_id_of(hypervisor, d) for d in range(7)] == [*ids, None, None, None]
    xen.domains[1].unique_id = 0xFFFFFFFFFFFFFFFF
    assert unique_id_of(hypervisor, 1) == 0xFFFFFFFFFFFFFFFF


@pytest.mark.parametrize(("release", "machine"), PAIRS)
def test_roles_are_what_this_xen_tells(open_on: Open, release: str, machine: str) -> None:
    """By the state from 4.21 on; before by the list, which marks xenstore domains from 4.7 on."""
    xen = FakeXen(release, machine)
    flag = ABI["releases"][release]["flags"].get("xs_domain", 0)
    xen.add(1)
    xen.add(2).fields["flags"] = flag
    for domid, caps in ((3, 1), (4, 2), (5, 4), (6, 0xFFF8)):
        xen.add(domid).caps = caps
    hypervisor = open_on(xen)
    listed = [row.roles for row in hypervisor.list()]
    assert listed == [row.roles for d in range(7) if (row := hypervisor.get(d)) is not None]
    dom0 = Role.CONTROL | Role.HARDWARE
    if xen.number >= (4, 21):
        assert listed == [None] * 7
        states = [state.roles for d in range(7) if (state := hypervisor.state(d)) is not None]
        kinds = [Role.CONTROL, Role.HARDWARE, Role.XENSTORE]
        assert states == [dom0, Role(0), Role(0), *kinds, Role(0)]
    elif xen.number >= (4, 7):
        assert listed == [dom0, Role(0), Role.XENSTORE, *[Role(0)] * 4]
    else:
        assert listed == [dom0, *[None] * 6]


@pytest.mark.parametrize(("release", "machine"), PAIRS)
def test_no_other_call_is_ever_made(open_on: Open, release: str, machine: str) -> None:
    """P12: and once it is open, only the list and, where there is one, the state."""
    xen = FakeXen(release, machine, [FakeDomain(3)])
    hypervisor = open_on(xen)
    assert set(xen.calls) <= {(17, 0), (35, 6), (36, 5), (36, 90)}
    assert len(xen.calls) < 40
    xen.calls.clear()
    hypervisor.list()
    hypervisor.get(3)
    hypervisor.info(3)
    hypervisor.infos()
    assert xen.calls == [(35, 6)] * 4
    if hypervisor.has_unique_ids:
        hypervisor.state(3)
        assert xen.calls[4:] == [(36, 90)]


# -- long lists ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "calls"), [(1, 1), (1023, 1), (1024, 2), (1025, 2), (2048, 3), (2049, 3), (5000, 5)]
)
@pytest.mark.parametrize("first", [1, 20_000])
def test_a_long_list_is_read_in_pages(open_on: Open, count: int, calls: int, first: int) -> None:
    """1,024 domains in a call; the next begins after the last domid seen."""
    domids = [0, *range(first, first + 2 * (count - 1), 2)]
    xen = FakeXen("4.17", domains=[FakeDomain(domid) for domid in domids])
    hypervisor = open_on(xen)
    xen.lengths.clear()
    assert [row.domid for row in hypervisor.list()] == domids
    assert len(xen.lengths) == calls
    assert max(xen.lengths) <= 1024


def test_the_highest_domids_end_the_list(open_on: Open) -> None:
    """After 0x7fef there is none: a full page that ends there is the last."""
    domids = [0, *range(0x7FEF - 1022, 0x7FF0)]
    assert len(domids) == 1024
    xen = FakeXen("4.17", domains=[FakeDomain(domid) for domid in domids])
    hypervisor = open_on(xen)
    xen.lengths.clear()
    assert [row.domid for row in hypervisor.list()] == domids
    assert xen.lengths == [1024]


def test_every_domid_there_can_be_is_listed(open_on: Open) -> None:
    """32,752 domains in 32 calls."""
    xen = FakeXen(NEWEST, domains=[FakeDomain(domid) for domid in range(0x7FF0)])
    hypervisor = open_on(xen)
    xen.lengths.clear()
    assert [row.domid for row in hypervisor.list()] == [*range(0x7FF0)]
    assert len(xen.lengths) == 32


def test_a_list_that_changes_between_pages_is_in_order(open_on: Open) -> None:
    """Two pages are not one moment: who lives through the call is listed, once."""
    xen = FakeXen("4.17", domains=[FakeDomain(domid) for domid in range(2000)])
    hypervisor = open_on(xen)

    def churn(domains: list[FakeDomain]) -> list[FakeDomain]:
        if domains and domains[0].domid > 0:
            for domid in (5, 1023, 1500):
                xen.domains.pop(domid, None)
            xen.domains[4000] = FakeDomain(4000)
            return [d for d in domains if d.domid != 1500] + [xen.domains[4000]]
        return domains

    xen.arrange = churn
    domids = [row.domid for row in hypervisor.list()]
    assert domids == sorted(set(domids))
    assert set(range(2000)) - set(domids) <= {1500}
    assert 4000 in domids


@pytest.mark.parametrize("count", [1, 2, 33, 34, 100, 1023, 1024, 1025, 1100])
def test_every_change_shows_in_the_next_list(open_on: Open, count: int) -> None:
    """What is kept of one list for the next is never told of what differs: births, ends, and any
    one field, at either end and in the middle."""
    xen = FakeXen("4.17", domains=[FakeDomain(2 * domid) for domid in range(count)])
    hypervisor = open_on(xen)
    rng = random.Random(count)

    def lists_the_truth() -> Sequence[Row]:
        listed = hypervisor.list()
        assert listed == open_on(xen).list()
        assert [row.domid for row in listed] == sorted(xen.domains)
        return listed

    before = lists_the_truth()
    assert all(old is new for old, new in zip(before, hypervisor.list(), strict=True))
    for domid in {0, 2 * (count - 1), 2 * rng.randrange(count)}:
        for field, value in (("flags", 0x4), ("cpu_time", 1), ("handle", bytes(16))):
            xen.domains[domid].fields[field] = value
            lists_the_truth()
    for domid in (1, 2 * count + 1, 2 * rng.randrange(count) + 1):
        xen.add(domid)
        lists_the_truth()
    for domid in rng.sample([*xen.domains], min(3, count)):
        if domid:
            xen.remove(domid)
            lists_the_truth()


def test_every_change_shows_in_the_next_infos(open_on: Open) -> None:
    """Memory and states are of no interest to a list, and of all interest here."""
    xen = FakeXen("4.17", domains=[FakeDomain(domid) for domid in range(100)])
    hypervisor = open_on(xen)
    before = hypervisor.infos()
    assert all(info is before[domid] for domid, info in hypervisor.infos().items())
    for field, value in (
        ("flags", 0x20),
        ("flags", 0x21),
        ("flags", 0x8),
        ("tot_pages", 7),
        ("max_pages", 9),
        ("cpu_time", 1),
        ("nr_online_vcpus", 3),
        ("handle", bytes(16)),
    ):
        xen.domains[50].fields[field] = value
        hypervisor.list()
        infos = hypervisor.infos()
        assert infos == open_on(xen).infos() != before
        assert infos[50] == hypervisor.info(50)
        assert infos.dying == ((50,) if infos[50].dying else ())
        assert [*infos.chosen(dying=False)] == [d for d in infos if not infos[d].dying]
        before = infos
    xen.remove(7)  # all entries behind it have other places now
    assert hypervisor.infos() == open_on(xen).infos()


def test_what_is_kept_of_a_list_does_not_hide_one_out_of_order(open_on: Open) -> None:
    """P4: pieces that were right alone, in the wrong order or twice."""
    xen = FakeXen("4.17", domains=[FakeDomain(domid) for domid in range(200)])
    hypervisor = open_on(xen)
    before = hypervisor.list()
    for arranged in (
        lambda domains: [domains[0], *domains[33:65], *domains[1:33], *domains[65:]],
        lambda domains: [*domains[:65], *domains[33:65], *domains[65:]],
        lambda domains: [*domains[:33], domains[0], *domains[33:]],
    ):
        xen.arrange = arranged
        with pytest.raises(HypercallFailed, match="is listed after"):
            hypervisor.list()
    xen.arrange = list
    assert hypervisor.list() == before


def test_what_decides_a_type_is_remembered_within_bounds(open_on: Open) -> None:
    """Flags that a hypervisor invents do not fill the memory of a long-lived program."""
    domains = [
        FakeDomain(d, {"flags": 0x2, "arch_config": d.to_bytes(4, "little")}) for d in range(3000)
    ]
    hypervisor = open_on(FakeXen("4.17", domains=domains))
    rows = hypervisor.list()
    assert [row.type is OSType.HVM for row in rows] == [d & 0x6C != 0 for d in range(3000)]
    assert len(hypervisor._kinds) <= 257


@pytest.mark.parametrize(("release", "machine"), PAIRS)
def test_what_is_remembered_of_one_domain_is_not_told_of_another(
    open_on: Open, release: str, machine: str
) -> None:
    """Domains that differ in one flag alone follow each other, in both orders."""
    low = [bits | more for bits in range(8) for more in (0, 0x80, 0x100, 0x180)]
    kinds = [flags | reason << 16 for flags in low for reason in (0, 3, 0x13, 0xFF)]
    row = BY_NAME[release]
    for flags in (kinds, kinds[::-1]):
        domains = [FakeDomain(d, {"flags": f, "arch_config": b"\4"}) for d, f in enumerate(flags)]
        rows = open_on(FakeXen(release, machine, domains)).list()
        tell = os_type(row.kind(machine))
        emulation = 4 if machine == "x86_64" and release in LISTED else 0
        for flag, found in zip(flags, rows, strict=True):
            told = (found.type, found.shutdown, found.dying)
            assert told == (tell(flag, emulation), shutdown_reason(flag), bool(flag & DYING))


# -- answers that cannot be believed ---------------------------------------------------------


@pytest.mark.parametrize(
    "arrange",
    [
        lambda domains: domains[::-1],
        lambda domains: [domains[0], *domains],
        lambda domains: [domains[0], domains[2], domains[1]],
        lambda domains: [*domains, domains[1]],
        lambda domains: [],
        lambda domains: [*domains, FakeDomain(0x7FF0)],
        lambda domains: [*domains, FakeDomain(0x7FFF)],
        lambda domains: [*domains, FakeDomain(0xFFFF)],
    ],
    ids=[
        "backwards",
        "dom0 twice",
        "disordered",
        "one again",
        "nothing",
        "DOMID_SELF",
        "DOMID_IDLE",
        "the highest number",
    ],
)
def test_a_list_that_cannot_be_whole_is_refused(
    open_on: Open, arrange: Callable[[list[FakeDomain]], list[FakeDomain]]
) -> None:
    """P4: out of order, doubled, empty, or with domids that are nobody's."""
    xen = FakeXen("4.17", domains=[FakeDomain(1), FakeDomain(2)])
    hypervisor = open_on(xen)
    xen.arrange = arrange
    with pytest.raises(HypercallFailed):
        hypervisor.list()
    xen.arrange = list
    assert len(hypervisor.list()) == 3


@pytest.mark.parametrize("call", ["list", "get", "info"])
def test_more_domains_than_were_asked_for_are_refused(open_on: Open, call: str) -> None:
    """They would lie behind the end of the buffer."""
    xen = FakeXen("4.17")
    hypervisor = open_on(xen)
    for xen.excess in (1024, 0xFFFFFFFF - 1):
        with pytest.raises(HypercallFailed, match="asked"):
            CALLS[call](hypervisor)
    xen.excess = 0
    CALLS[call](hypervisor)


@pytest.mark.parametrize(
    "error", [errno.EIO, errno.EFAULT, errno.ENOMEM, errno.EPERM, errno.EACCES]
)
@pytest.mark.parametrize("call", CALLS)
def test_a_refused_call_is_an_error_with_its_number(open_on: Open, call: str, error: int) -> None:
    """And the next one works."""
    xen = FakeXen(NEWEST)
    hypervisor = open_on(xen)
    xen.failing = error
    with pytest.raises(HypercallFailed, match="the hypervisor would not") as caught:
        CALLS[call](hypervisor)
    assert caught.value.errno == error
    xen.failing = 0
    CALLS[call](hypervisor)


# -- hypervisors that cannot be used ---------------------------------------------------------


def refusal(xen: FakeXen, machine: str | None = None) -> DomindexError:
    """What opening raises. `nothing_left` sees that it leaves nothing open."""
    with pytest.raises(DomindexError) as caught:
        PrivcmdHypervisor(FakePrivcmd(xen), machine or xen.machine)
    assert isinstance(caught.value, HostError)
    return caught.value


@pytest.fixture(params=[True, False, None], ids=["control_d", "domU", "no xenfs"])
def control(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool | None:
    """What /proc/xen/capabilities says."""
    found: bool | None = request.param
    monkeypatch.setattr(domindex.xen.probe, "_is_control_domain", lambda: found)
    return found


@pytest.mark.parametrize("release", ["3.1", "3.4", "4.0", "4.17", "4.22"])
def test_in_a_guest_it_says_so(release: str, control: bool | None) -> None:
    """EPERM: a domU, as its capabilities tell, or a dom0 that has been restricted."""
    xen = FakeXen(release)
    xen.guest = True
    error = refusal(xen)
    if control is False:
        assert isinstance(error, NotControlDomain)
        assert "guest" in str(error)
        assert "dom0" in str(error)
    else:
        assert isinstance(error, AccessDenied)
        assert error.errno == errno.EPERM


def test_a_restricted_device_says_so(control: bool | None) -> None:
    """After IOCTL_PRIVCMD_RESTRICT even the version is refused."""
    xen = FakeXen("4.17")
    xen.restricted = True
    error = refusal(xen)
    assert isinstance(error, NotControlDomain if control is False else AccessDenied)


@pytest.mark.parametrize(("release", "machine"), PAIRS)
def test_a_policy_that_denies_is_not_taken_for_another_version(release: str, machine: str) -> None:
    """Flask says EACCES, as Xen does of a version that it does not speak: both are named."""
    xen = FakeXen(release, machine)
    xen.flask = True
    error = refusal(xen)
    assert isinstance(error, AccessDenied)
    assert "Flask" in str(error)
    assert "vendor" in str(error)
    assert f"Xen {xen.number[0]}.{xen.number[1]}" in str(error)


@pytest.mark.parametrize("versions", [(0x19, 0x17), (0x19, 0x16), (0x18, 0x17), (0x100, 0x100)])
@pytest.mark.parametrize("says", [(4, 24), (5, 0), (4, 100)])
def test_a_newer_xen_is_not_guessed_at(versions: tuple[int, int], says: tuple[int, int]) -> None:
    """UnknownXen, which names it and what would help."""
    xen = FakeXen(NEWEST)
    xen.versions, xen.says = versions, says
    error = refusal(xen)
    assert isinstance(error, UnknownXen)
    assert f"Xen {says[0]}.{says[1]} is newer" in str(error)


@pytest.mark.parametrize("versions", [(0x15, 0x14), (0x14, 0x15), (0x12, 0x11), (0x5, 0x7)])
def test_versions_that_never_went_together_are_refused(versions: tuple[int, int]) -> None:
    """Neither alone says what an entry looks like."""
    xen = FakeXen("4.17")
    xen.versions = versions
    assert isinstance(refusal(xen), AccessDenied)


@pytest.mark.parametrize(("release", "machine"), PAIRS)
def test_longer_entries_than_known_are_refused(release: str, machine: str) -> None:
    """A vendor's patch: every entry after the first would be read wrongly."""
    for extra in (1, 4, 8, 16, 400):
        xen = FakeXen(release, machine)
        xen.extra = extra
        error = refusal(xen)
        assert isinstance(error, UnknownXen)
        size = xen.layout["size"]
        assert f"{size + extra} bytes" in str(error)
        assert str(size) in str(error)
        assert "vendor" in str(error)


@pytest.mark.parametrize("padding", [b"\0", b"\xa5", b"\x5a"])
@pytest.mark.parametrize(
    ("release", "versions"),
    [("4.15", (0x14, 0x14)), ("4.10.0", (0xF, 0x10)), ("4.10.1+", (0xE, 0x10)), ("3.4", (6, 7))],
)
def test_entries_of_another_release_are_refused(
    release: str, versions: tuple[int, int], padding: bytes
) -> None:
    """The versions of one and the size of another, shorter or longer."""
    xen = FakeXen(release)
    xen.versions, xen.padding = versions, padding
    assert isinstance(refusal(xen), UnknownXen)


@pytest.mark.parametrize("machine", ["i686", "riscv64", "ppc64le"])
def test_an_unknown_machine_is_refused(machine: str) -> None:
    """Nothing was measured there."""
    error = refusal(FakeXen(NEWEST), machine)
    assert isinstance(error, UnknownXen)
    assert machine in str(error)


def test_arm_runs_no_release_before_it_was_there() -> None:
    """A version that only x86 has had is not spoken on arm64."""
    xen = FakeXen("4.3", "aarch64")
    xen.versions = (0x8, 0x9)
    assert isinstance(refusal(xen), AccessDenied)


@pytest.mark.parametrize(("release", "machine"), PAIRS)
@pytest.mark.parametrize("why", ["absent", "hidden"])
def test_a_host_without_domain_0_is_served(
    open_on: Open, release: str, machine: str, why: str
) -> None:
    """P4: a control domain need not be domain 0, and a policy may hide that one: the versions and
    the size of an entry are found out all the same."""
    xen = FakeXen(release, machine, [FakeDomain(1), FakeDomain(7)])
    if why == "hidden":
        xen.hidden = {0}
    else:
        xen.remove(0)
    hypervisor = open_on(xen)
    facts = ABI["releases"][release]
    assert hypervisor.version.endswith(
        f"(domctl {facts['domctl']:#x}, sysctl {facts['sysctl']:#x})"
    )
    assert [row.domid for row in hypervisor.list()] == [1, 7]
    assert hypervisor.get(0) is None
    assert hypervisor.has_unique_ids is (xen.number >= (4, 21))
    if hypervisor.has_unique_ids:
        assert unique_id_of(hypervisor, 7) == xen.domains[7].unique_id


@pytest.mark.parametrize("release", ["4.14", "4.17", "4.20", "4.22"])
def test_a_policy_that_hides_every_domain_is_named(release: str) -> None:
    """AccessDenied, in one sentence: an empty list is no host without domains."""
    xen = FakeXen(release, domains=[FakeDomain(1)])
    xen.hidden = {0, 1}
    error = refusal(xen)
    assert isinstance(error, AccessDenied)
    assert "Flask" in str(error)


def test_the_highest_domid_may_be_in_use(open_on: Open) -> None:
    """What the version is tried on may exist; it is not changed."""
    xen = FakeXen(NEWEST, domains=[FakeDomain(0x7FEF)])
    assert [row.domid for row in open_on(xen).list()] == [0, 0x7FEF]


@pytest.mark.parametrize("error", [errno.EACCES, errno.EPERM])
def test_a_state_that_a_policy_refuses_concerns_that_domain_alone(
    open_on: Open, error: int
) -> None:
    """P9: HypercallFailed with its number; the others have theirs."""
    xen = FakeXen(NEWEST, domains=[FakeDomain(1), FakeDomain(2)])
    xen.secret[1] = error
    hypervisor = open_on(xen)
    with pytest.raises(HypercallFailed) as caught:
        unique_id_of(hypervisor, 1)
    assert caught.value.errno == error
    assert unique_id_of(hypervisor, 2) == xen.domains[2].unique_id


# -- confirming a record ---------------------------------------------------------------------


def record(hypervisor: PrivcmdHypervisor, domid: int) -> Domain:
    """What an index would hold of it."""
    row = hypervisor.get(domid)
    assert row is not None
    number = unique_id_of(hypervisor, domid) if hypervisor.has_unique_ids else None
    uuid = UUID(bytes=row.handle)
    return Domain(domid, uuid, "web", row.type, Life(domid, number, uuid, 0.0), 0.0, row.shutdown)


CHANGES: dict[str, Callable[[FakeXen], object]] = {
    "gone": lambda xen: xen.remove(3),
    "another uuid": lambda xen: xen.domains[3].fields.update(handle=b"another"),
    "another type": lambda xen: xen.domains[3].fields.update(flags=0x2),
    "shut down": lambda xen: xen.domains[3].fields.update(flags=0x4 | 3 << 16),
    "dying": lambda xen: xen.domains[3].fields.update(flags=0x1),
}


@pytest.mark.parametrize("release", ["4.14", "4.17", "4.20", "4.22"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_record_is_confirmed_in_all_that_it_takes_from_here(
    open_on: Open, release: str, change: str
) -> None:
    """P7: life, uuid, type and shutdown, on every Xen."""
    xen = FakeXen(release, domains=[FakeDomain(3), FakeDomain(4)])
    hypervisor = open_on(xen)
    domain, other = record(hypervisor, 3), record(hypervisor, 4)
    assert hypervisor.confirms(domain)
    CHANGES[change](xen)
    assert not hypervisor.confirms(domain)
    assert hypervisor.confirms(other)


@pytest.mark.parametrize("release", ["4.14", "4.17", "4.20", "4.22"])
def test_a_resumed_or_equal_record_is_told_apart(open_on: Open, release: str) -> None:
    """P7: one that runs again, and, by its unique id, another life that looks the same."""
    xen = FakeXen(release, domains=[FakeDomain(3, {"flags": 0x4 | 2 << 16})])
    hypervisor = open_on(xen)
    domain = record(hypervisor, 3)
    assert hypervisor.confirms(domain)
    xen.domains[3].fields["flags"] = 0
    assert not hypervisor.confirms(domain)
    domain = record(hypervisor, 3)
    xen.domains[3].unique_id += 1
    assert hypervisor.confirms(domain) is not hypervisor.has_unique_ids


def test_confirming_costs_one_call_or_two(open_on: Open) -> None:
    """P7: the entry; where the life has an id, the state after it."""
    for release, calls in (("4.20", [(35, 6)]), (NEWEST, [(35, 6), (36, 90)])):
        xen = FakeXen(release, domains=[FakeDomain(3)])
        hypervisor = open_on(xen)
        domain = record(hypervisor, 3)
        xen.calls.clear()
        assert hypervisor.confirms(domain)
        assert xen.calls == calls


@pytest.mark.parametrize("error", [errno.EACCES, errno.EPERM, errno.EIO])
def test_where_the_state_is_refused_the_entry_decides(open_on: Open, error: int) -> None:
    """P7: also for a record without an id. Another error is one."""
    xen = FakeXen(NEWEST, domains=[FakeDomain(3)])
    hypervisor = open_on(xen)
    domain = record(hypervisor, 3)
    xen.secret[3] = error
    without = dataclasses.replace(domain, life=Life(3, None, domain.uuid, 0.0))
    assert hypervisor.confirms(without)
    if error == errno.EIO:
        with pytest.raises(HypercallFailed):
            hypervisor.confirms(domain)
    else:
        assert hypervisor.confirms(domain)
    xen.domains[3].fields["handle"] = b"another"
    assert not hypervisor.confirms(domain)
    assert not hypervisor.confirms(without)


def test_a_life_that_follows_between_the_two_calls_is_not_confirmed(open_on: Open) -> None:
    """P7: the entry is read first, so that an id that still is its own says whose it was."""
    xen = FakeXen(NEWEST, domains=[FakeDomain(3)])
    hypervisor = open_on(xen)
    domain = record(hypervisor, 3)

    def end(domains: list[FakeDomain]) -> list[FakeDomain]:
        listed = list(domains)
        xen.domains[3] = FakeDomain(3, dict(xen.domains[3].fields), 12345)
        return listed

    xen.arrange = end
    assert not hypervisor.confirms(domain)


# -- numbers that are refused ----------------------------------------------------------------


def test_a_count_that_is_too_high_is_not_opened() -> None:
    """Two for one asked."""
    xen = FakeXen("4.17")
    xen.excess = 1
    assert isinstance(refusal(xen), HypercallFailed)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOMEM, errno.EFAULT, errno.EINVAL])
def test_another_error_on_opening_keeps_its_number(error: int) -> None:
    """No version would mend it, so no other is tried."""
    xen = FakeXen("4.17")
    xen.failing = error
    refused = refusal(xen)
    assert isinstance(refused, HypercallFailed)
    assert refused.errno == error


# -- the life of a handle --------------------------------------------------------------------


@pytest.mark.parametrize("plain", [True, False])
def test_it_can_be_closed_twice(
    libc: FakeLibc, monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    """Descriptors are given back once, and memory once nobody can use it any more."""
    mapped: list[tuple[int, int]] = []
    unmapped: list[tuple[int, int]] = []
    mmap = libc.mmap
    munmap = libc.munmap

    def munmap_(at: Any, length: int, /) -> int:
        unmapped.append((int(_privcmd.ffi.cast("uintptr_t", at)), length))
        return int(munmap(at, length))

    def mmap_(at: Any, length: int, *others: int) -> Any:
        made = mmap(at, length, *others)
        mapped.append((int(_privcmd.ffi.cast("uintptr_t", made)), length))
        return made

    monkeypatch.setattr(libc, "mmap", mmap_)
    monkeypatch.setattr(libc, "munmap", munmap_)
    privcmd = FakePrivcmd(FakeXen("4.17"), plain=plain)
    hypervisor = PrivcmdHypervisor(privcmd, "x86_64")
    hypervisor.list()
    busy = hypervisor._take_spare()  # as a call that is under way in another thread does
    hypervisor.close()
    hypervisor.close()
    gc.collect()
    assert bytes(busy.memory)  # reading it is no crash
    del hypervisor, privcmd, busy
    gc.collect()
    assert not Counter(mapped) - Counter(unmapped)  # other tests' memory may go meanwhile
    assert len(mapped) > 2


def in_a_child(report: Callable[[], str]) -> str:
    """What `report` says in a forked child, or the signal that killed it."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        try:
            said = report()
        except BaseException as error:
            said = repr(error)
        os.write(writable, said.encode())
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable, encoding="utf-8") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return signal.Signals(status).name if os.WIFSIGNALED(status) else said


def tried(hypervisor: PrivcmdHypervisor, call: Call) -> str:
    """The name of what it raises."""
    try:
        call(hypervisor)
    except Exception as error:
        return type(error).__name__
    return "an answer"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("plain", [True, False])
def test_it_cannot_be_used_once_it_is_closed(call: str, plain: bool) -> None:
    """Closed, and the process lives. Tried in a child, since it may not."""

    def report() -> str:
        hypervisor = PrivcmdHypervisor(FakePrivcmd(FakeXen(NEWEST), plain=plain), "x86_64")
        CALLS[call](hypervisor)
        hypervisor.close()
        return tried(hypervisor, CALLS[call])

    assert in_a_child(report) == Closed.__name__


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("plain", [True, False])
def test_it_cannot_be_used_in_a_child(
    open_on: Open, call: str, plain: bool, request: pytest.FixtureRequest
) -> None:
    """Closed, and both processes live: the parent goes on, whatever the child does."""
    hypervisor = open_on(FakeXen(NEWEST, domains=[FakeDomain(3)]), plain=plain)
    assert in_a_child(lambda: tried(hypervisor, CALLS[call])) == Closed.__name__
    CALLS[call](hypervisor)


@pytest.mark.parametrize("plain", [True, False])
def test_a_child_may_close_it(open_on: Open, plain: bool) -> None:
    """As it may when it cleans up: that is no business of the parent's."""
    hypervisor = open_on(FakeXen(NEWEST, domains=[FakeDomain(3)]), plain=plain)

    def report() -> str:
        hypervisor.close()
        hypervisor.close()
        return "closed"

    assert in_a_child(report) == "closed"
    assert [row.domid for row in hypervisor.list()] == [0, 3]


def test_many_threads_may_ask_at_once(open_on: Open) -> None:
    """Each gets the answer to its own question."""
    xen = FakeXen(NEWEST, domains=[FakeDomain(domid) for domid in range(0, 60, 2)])
    hypervisor = open_on(xen)
    everyone = hypervisor.list()
    barrier = threading.Barrier(8)

    def ask(own: int) -> None:
        barrier.wait(10)
        for step in range(100):
            domid = (own * 7 + step) % 62
            row = hypervisor.get(domid)
            info = hypervisor.info(domid)
            if domid in xen.domains:
                assert row == everyone[domid // 2]
                assert info is not None
                assert info.uuid.bytes == everyone[domid // 2].handle
                assert unique_id_of(hypervisor, domid) == xen.domains[domid].unique_id
            else:
                assert (row, info, hypervisor.state(domid)) == (None, None, None)
            if step % 10 == own:
                assert hypervisor.list() == everyone

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(ask, own) for own in range(8)]:
            done.result(30)


def test_closing_under_the_hands_of_other_threads_is_safe() -> None:
    """A call that is under way is finished first; the next one raises Closed."""

    def report() -> str:
        hypervisor = PrivcmdHypervisor(FakePrivcmd(FakeXen(NEWEST)), "x86_64")
        asked = threading.Barrier(len(CALLS) + 1)

        def ask(call: Call) -> str:
            call(hypervisor)
            asked.wait(10)
            while (said := tried(hypervisor, call)) == "an answer":
                pass
            return said

        with ThreadPoolExecutor(len(CALLS)) as pool:
            asking = [pool.submit(ask, call) for call in CALLS.values()]
            asked.wait(10)
            hypervisor.close()
            return " ".join(sorted({done.result(10) for done in asking}))

    assert in_a_child(report) == Closed.__name__


class Interrupting(FakePrivcmd):
    """Something happens amid a call: before Xen fills the caller's memory, or after."""

    amid: Callable[[], object] | None = None
    late = False

    def call(self, prepared: Any) -> int:
        amid, self.amid = self.amid, None
        if amid is not None and not self.late:
            amid()
        result = super().call(prepared)
        if amid is not None and self.late:
            amid()
        return result


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("inner", CALLS)
@pytest.mark.parametrize("outer", CALLS)
def test_a_call_amid_a_call_of_the_same_thread_disturbs_it_not(
    outer: str, inner: str, late: bool
) -> None:
    """P1: a signal's handler, or `__del__`, asks of others; each has its own answer."""
    xen = FakeXen(NEWEST, domains=[FakeDomain(3), FakeDomain(5)])
    privcmd = Interrupting(xen)
    privcmd.late = late
    hypervisor = PrivcmdHypervisor(privcmd, xen.machine)
    calls: dict[str, Callable[[int], object]] = {
        "list": lambda _: hypervisor.list(),
        "get": hypervisor.get,
        "info": hypervisor.info,
        "infos": lambda _: hypervisor.infos(),
        "state": hypervisor.state,
    }
    expected = calls[outer](3), calls[inner](5)
    told: list[object] = []
    privcmd.amid = lambda: told.append(calls[inner](5))
    assert (calls[outer](3), told) == (expected[0], [expected[1]])
    hypervisor.close()


def test_a_list_amid_the_decoding_of_a_list_is_right() -> None:
    """P1: what is kept of the last list is only used by whoever has it alone."""
    xen = FakeXen(NEWEST, domains=[FakeDomain(domid) for domid in range(100)])
    hypervisor = PrivcmdHypervisor(FakePrivcmd(xen), xen.machine)
    usual = hypervisor._decode
    told: list[object] = []

    def decode(entry: tuple[Any, ...]) -> Row:
        if not told:
            told.append(None)
            xen.remove(7)
            told[0] = [row.domid for row in hypervisor.list()]
        return usual(entry)

    (listing,) = hypervisor._listings
    listing._decode = decode
    assert [row.domid for row in hypervisor.list()] == [*range(100)]
    assert told == [[d for d in range(100) if d != 7]]
    assert [row.domid for row in hypervisor.list()] == told[0]
    hypervisor.close()


def test_a_call_that_was_broken_off_leaves_nothing_half_done() -> None:
    """P1: Ctrl-C amid a list, and the next one is right."""
    xen = FakeXen(NEWEST, domains=[FakeDomain(domid) for domid in range(100)])
    privcmd = Interrupting(xen)
    hypervisor = PrivcmdHypervisor(privcmd, xen.machine)
    before = hypervisor.list()

    def interrupt() -> None:
        raise KeyboardInterrupt

    for call in CALLS.values():
        privcmd.amid = interrupt
        with pytest.raises(KeyboardInterrupt):
            call(hypervisor)
        call(hypervisor)
    assert hypervisor.list() == before
    hypervisor.close()


@pytest.mark.parametrize("call", CALLS)
def test_closing_waits_for_no_other_threads_call(call: str) -> None:
    """P9: descriptors are given back at once, whatever Xen keeps the other thread for."""
    xen = FakeXen(NEWEST, domains=[FakeDomain(3)])
    privcmd = Interrupting(xen)
    hypervisor = PrivcmdHypervisor(privcmd, xen.machine)
    inside, go_on = threading.Event(), threading.Event()

    def amid() -> None:
        inside.set()
        assert go_on.wait(10)

    privcmd.amid = amid
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(tried, hypervisor, CALLS[call])
        assert inside.wait(10)
        closing = pool.submit(hypervisor.close)
        try:
            closing.result(5)
            assert privcmd.closed
        finally:
            go_on.set()
        assert asking.result(10) == Closed.__name__


# -- the device ------------------------------------------------------------------------------


@pytest.fixture
def devices(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the devices are looked for: `privcmd`, then `old`, and `hypercall`; none is there."""
    monkeypatch.setattr(_privcmd, "PRIVCMD", (f"{directory}/privcmd", f"{directory}/old"))
    monkeypatch.setattr(_privcmd, "BUFFERS", f"{directory}/hypercall")
    return directory


@pytest.fixture
def libc(monkeypatch: pytest.MonkeyPatch) -> FakeLibc:
    """A C library whose ioctl reaches a fake Xen of 4.17 with domains 0 and 3."""
    found = FakeLibc(FakeXen("4.17", domains=[FakeDomain(3)]), _privcmd.libc)
    monkeypatch.setattr(_privcmd, "libc", found)
    return found


def buffer_device(directory: Path) -> None:
    """One that gives fresh, shared memory to each mapping."""
    (directory / "hypercall").symlink_to("/dev/zero")


@pytest.mark.parametrize("node", ["privcmd", "old"])
@pytest.mark.parametrize("buffers", [True, False])
def test_the_devices_are_found(devices: Path, libc: FakeLibc, node: str, buffers: bool) -> None:
    """The new place or the old one, with the device for buffers or without; by one ioctl."""
    (devices / node).touch()
    if buffers:
        buffer_device(devices)
    hypervisor = PrivcmdHypervisor(Privcmd(), "x86_64")
    assert [row.domid for row in hypervisor.list()] == [0, 3]
    hypervisor.close()
    assert {request for _, request in libc.ioctls} == {0x305000}


def test_without_a_device_this_is_no_xen_host(devices: Path) -> None:
    """Both places are named, and the module that makes them."""
    with pytest.raises(NotControlDomain) as caught:
        PrivcmdHypervisor()
    for word in (f"{devices}/privcmd", f"{devices}/old", "xen-privcmd"):
        assert word in str(caught.value)


@pytest.mark.parametrize("error", [errno.ENOENT, errno.ENXIO, errno.ENODEV])
def test_a_device_without_a_driver_is_as_good_as_none(
    devices: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """So the kernel answers where Xen is not."""
    refuse_to_open(monkeypatch, {f"{devices}/privcmd": error, f"{devices}/old": error})
    with pytest.raises(NotControlDomain):
        Privcmd()


def refuse_to_open(monkeypatch: pytest.MonkeyPatch, errors: dict[str, int]) -> None:
    """Have `os.open` fail for these paths."""
    usual = os.open

    def open_(path: Any, *arguments: Any, **named: Any) -> int:
        if path in errors:
            raise OSError(errors[path], os.strerror(errors[path]), path)
        return usual(path, *arguments, **named)

    monkeypatch.setattr(os, "open", open_)


@pytest.mark.parametrize("error", [errno.EACCES, errno.EPERM])
@pytest.mark.parametrize("node", ["privcmd", "hypercall"])
def test_not_allowed_says_so(
    devices: Path, monkeypatch: pytest.MonkeyPatch, node: str, error: int
) -> None:
    """The device is named, and what to do; what was open before is closed."""
    (devices / "privcmd").touch()
    refuse_to_open(monkeypatch, {f"{devices}/{node}": error})
    with pytest.raises(AccessDenied, match="run as root") as caught:
        Privcmd()
    assert f"{devices}/{node}" in str(caught.value)
    assert caught.value.errno == error


@pytest.mark.parametrize("error", [errno.EMFILE, errno.EIO, errno.EBUSY])
@pytest.mark.parametrize("node", ["privcmd", "hypercall"])
def test_another_error_of_a_device_is_told_as_it_is(
    devices: Path,
    monkeypatch: pytest.MonkeyPatch,
    node: str,
    error: int,
    request: pytest.FixtureRequest,
) -> None:
    """To be root would not help: it is not said."""
    (devices / "privcmd").touch()
    refuse_to_open(monkeypatch, {f"{devices}/{node}": error})
    with pytest.raises(HypercallFailed) as caught:
        Privcmd()
    assert f"{devices}/{node}" in str(caught.value)
    assert caught.value.errno == error


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_page_that_moves_is_survived(devices: Path, libc: FakeLibc, times: int) -> None:
    """EFAULT while the kernel moves plain memory: the call is made again."""
    (devices / "privcmd").touch()
    hypervisor = PrivcmdHypervisor(Privcmd(), "x86_64")
    for call in ("list", "get", "info"):
        libc.xen.spurious = times
        CALLS[call](hypervisor)
        assert libc.xen.spurious == 0
    hypervisor.close()


def test_a_fault_that_stays_is_an_error(devices: Path, libc: FakeLibc) -> None:
    """Not for ever; and memory of the device never faults, so that there it is an error at once."""
    for buffers in (False, True):
        (devices / "privcmd").touch()
        if buffers:
            buffer_device(devices)
        hypervisor = PrivcmdHypervisor(Privcmd(), "x86_64")
        libc.xen.spurious = 1 if buffers else 100
        with pytest.raises(HypercallFailed) as caught:
            hypervisor.list()
        assert caught.value.errno == errno.EFAULT
        assert 90 < libc.xen.spurious < 100 or buffers
        libc.xen.spurious = 0
        hypervisor.close()


def test_without_memory_to_lock_it_says_so(
    devices: Path, libc: FakeLibc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is named; the device is closed again."""
    (devices / "privcmd").touch()

    def exhausted(*_: object) -> Any:
        _privcmd.ffi.errno = errno.EAGAIN
        return _privcmd.ffi.cast("void *", -1)

    monkeypatch.setattr(libc, "mmap", exhausted)
    with pytest.raises(HypercallFailed, match="RLIMIT_MEMLOCK") as caught:
        PrivcmdHypervisor(Privcmd(), "x86_64")
    assert caught.value.errno == errno.EAGAIN
