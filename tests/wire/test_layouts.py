"""What is known of each release, held against what the headers of that release say."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from domindex.domain import OSType, ShutdownReason
from domindex.xen import layouts
from domindex.xen.layouts import Layout, Release

from .fake_hypervisor import ABI, ARCHITECTURES, PAIRS, RELEASES

NAMES = {"4.10-0": "4.10.0", "4.10-1": "4.10.1+"}
"""Releases that are called otherwise here and there."""
BY_NAME = {NAMES.get(name, name): row for row in layouts.RELEASES for name in row.names.split()}


def facts(release: str, machine: str) -> dict[str, Any]:
    """The entry's layout in that release, as it was measured."""
    architecture = ARCHITECTURES[machine]
    found: dict[str, Any] = ABI["layouts"][architecture][
        ABI["releases"][release]["layout"][architecture]
    ]
    return found


def layout(release: str, machine: str) -> Layout:
    found = BY_NAME[release].layout(machine)
    assert found is not None
    return found


def test_every_release_is_known_once() -> None:
    """And none that there never was."""
    names = [NAMES.get(n, n) for row in layouts.RELEASES for n in row.names.split()]
    assert sorted(names) == sorted(RELEASES)


def test_the_newest_release_comes_first() -> None:
    """The order in which they are tried, and what "newer than known" is measured by."""
    assert [RELEASES.index(name) for name in BY_NAME] == [*range(len(RELEASES))][::-1]


@pytest.mark.parametrize("release", RELEASES)
def test_the_interface_versions_are_those_of_the_headers(release: str) -> None:
    """Both numbers, and the machines the release runs on."""
    row, measured = BY_NAME[release], ABI["releases"][release]
    assert (row.domctl, row.sysctl) == (measured["domctl"], measured["sysctl"])
    runs_on = [m for m in ARCHITECTURES if row.layout(m) is not None]
    assert runs_on == [m for m, name in ARCHITECTURES.items() if name in measured["layout"]]
    assert row.layout("riscv64") is row.layout("i686") is None


def test_every_point_release_is_one_of_the_rows() -> None:
    """Both numbers together, on each machine, lead to a layout of the right size."""
    for name, (domctl, sysctl, known) in ABI["points"].items():
        (row,) = [r for r in layouts.RELEASES if (r.domctl, r.sysctl) == (domctl, sysctl)]
        for machine, architecture in ARCHITECTURES.items():
            if architecture in known:
                found = row.layout(machine)
                assert found is not None, name
                assert found.size == ABI["layouts"][architecture][known[architecture]]["size"]
        major, minor = name.split("-")[0].split(".")[:2]
        assert row.covers(int(major), int(minor)), name


@pytest.mark.parametrize(("release", "machine"), PAIRS)
def test_offsets_and_size_are_those_of_the_headers(release: str, machine: str) -> None:
    """Of each field that is read, the emulation flags included."""
    mine, measured = layout(release, machine), facts(release, machine)
    at = {name: offset for name, (offset, _) in measured["offsets"].items()}
    assert mine.size == measured["size"]
    assert (mine.frame, mine.cpu_time) == (at["shared_info_frame"], at["cpu_time"])
    assert (mine.vcpus, mine.handle) == (at["nr_online_vcpus"], at["handle"])
    assert (at["domain"], at["flags"], at["tot_pages"], at["max_pages"]) == (0, 4, 8, 16)
    lists_devices = machine == "x86_64" and "arch_config" in at
    assert mine.emulation == (at["arch_config"] if lists_devices else None)


@pytest.mark.parametrize(("release", "machine"), PAIRS)
def test_the_formats_read_what_an_independent_format_wrote(release: str, machine: str) -> None:
    """`row` and `info` of an entry packed by the compiler's own view of the structure."""
    mine, measured = layout(release, machine), facts(release, machine)
    values: list[int | bytes] = []
    for name in measured["names"]:
        _, size = measured["offsets"][name]
        raw = bytes(range(len(values) * 8, len(values) * 8 + size))
        values.append(raw if name in ("handle", "arch_config") else int.from_bytes(raw, "little"))
    entry = struct.pack(measured["format"], *values)
    by_name = dict(zip(measured["names"], values, strict=True))
    tail: list[int | bytes] = [b""]
    if mine.emulation is not None:
        devices = by_name["arch_config"]
        assert isinstance(devices, bytes)
        tail = [int.from_bytes(devices[:4], "little")]
    row = ["domain", "flags", "shared_info_frame", "cpu_time", "handle"]
    info = ["domain", "flags", "tot_pages", "max_pages", "cpu_time", "nr_online_vcpus", "handle"]
    assert mine.row.size == mine.info.size == measured["size"] == len(entry)
    assert [*mine.row.unpack(entry)] == [by_name[name] for name in row] + tail
    assert [*mine.info.unpack(entry)] == [by_name[name] for name in info] + tail


@pytest.mark.parametrize("release", RELEASES)
def test_flags_are_those_of_the_headers(release: str) -> None:
    """Of each release that has them."""
    flags = ABI["releases"][release]["flags"]
    assert flags["dying"] == layouts.DYING
    assert flags["hvm_guest"] == layouts.HVM_GUEST
    assert flags["shutdown"] == layouts.SHUTDOWN
    assert flags["paused"] == layouts.PAUSED
    assert flags["blocked"] == layouts.BLOCKED
    assert flags["running"] == layouts.RUNNING
    assert flags.get("pvh_guest", layouts.PVH_GUEST) == layouts.PVH_GUEST
    if devices := ABI["releases"][release]["emulation"]:
        device_model = [devices[name] for name in ("pm", "rtc", "pic", "vga")]
        assert sum(device_model) == layouts.DEVICE_MODEL


# -- types -----------------------------------------------------------------------------------

HVM, PVHV1, HAP, OTHERS = 0x2, 0x80, 0x100, 0xFFFF0078
LAPIC, ALL, NO_PIRQ, PVH_DOM0 = 0x1, 0x3FF, 0x1FF, 0x411
PV_, HVM_, PVH_, UNKNOWN_ = OSType.PV, OSType.HVM, OSType.PVH, OSType.UNKNOWN

NO_PVH = ("3.1", "3.2", "3.3", "3.4", "4.0", "4.1", "4.2", "4.3")
FLAGGED = ("4.4", "4.5", "4.6")
BOTH = ("4.7", "4.8")
SILENT = ("4.9", "4.10.0")
LISTED = tuple(r for r in RELEASES if r not in (*NO_PVH, *FLAGGED, *BOTH, *SILENT))

TYPES: dict[tuple[str, ...], list[tuple[int, int, OSType]]] = {
    NO_PVH: [(0, 0, PV_), (HVM, 0, HVM_)],
    FLAGGED: [(0, 0, PV_), (HVM, 0, HVM_), (PVHV1, 0, PVH_)],
    BOTH: [(0, 0, PV_), (HVM, 0, UNKNOWN_), (HAP, 0, PV_), (HVM | HAP, 0, UNKNOWN_)],
    SILENT: [
        (0, 0, PV_),
        (HVM, 0, UNKNOWN_),
        (HVM | HAP, 0, UNKNOWN_),
        (PVHV1, 0, PV_),  # there the bit marks the domain of xenstore
        (HVM | PVHV1, 0, UNKNOWN_),
    ],
    LISTED: [
        (0, 0, PV_),
        (0, 0x100, PV_),  # dom0 has a PIT
        (HVM, ALL, HVM_),
        (HVM | HAP, NO_PIRQ, HVM_),
        (HVM | HAP, LAPIC, PVH_),
        (HVM, 0, PVH_),  # as 4.10 says it
        (HVM, PVH_DOM0, PVH_),
        (HVM | HAP | PVHV1, LAPIC, PVH_),  # the domain of xenstore
        (PVHV1, 0, PV_),
    ],
}
"""By era: flags, emulation flags, and what the guest is."""


@pytest.mark.parametrize("release", RELEASES)
def test_types_are_told_as_that_release_tells_them(release: str) -> None:
    """Whatever the other flags are."""
    row: Release = BY_NAME[release]
    tell = layouts.os_type(row.kind("x86_64"))
    (table,) = [table for era, table in TYPES.items() if release in era]
    for flags, emulation, expected in table:
        for others in (0, OTHERS):
            assert tell(flags | others, emulation) is expected, (hex(flags), hex(emulation))


@pytest.mark.parametrize("release", BOTH)
def test_pvhv1_has_its_flag_until_4_8(release: str) -> None:
    """An old PVH guest is flagged so, and not as hvm_guest: it is not PV."""
    assert ABI["releases"][release]["flags"]["pvh_guest"] == PVHV1
    tell = layouts.os_type(BY_NAME[release].kind("x86_64"))
    assert tell(PVHV1, 0) is OSType.PVH


@pytest.mark.parametrize("release", [r for r, machine in PAIRS if machine == "aarch64"])
def test_on_arm_there_is_one_type(release: str) -> None:
    """PVH where it is flagged as hvm_guest, as from 4.12 on; PV before."""
    tell = layouts.os_type(BY_NAME[release].kind("aarch64"))
    for others in (0, OTHERS, HAP, PVHV1):
        assert tell(others, 0) is OSType.PV
        assert tell(HVM | others, 0) is OSType.PVH


# -- shutdown --------------------------------------------------------------------------------


def test_a_reason_counts_only_where_there_was_a_shutdown() -> None:
    """Six are known; another is UNKNOWN, and 0xffff of a running guest is none."""
    names = ["POWEROFF", "REBOOT", "SUSPEND", "CRASH", "WATCHDOG", "SOFT_RESET"]
    for code in range(256):
        flags = code << 16 | 0xFF000000
        known = ShutdownReason[names[code]] if code < len(names) else ShutdownReason.UNKNOWN
        for others in (0, 0x1, 0xFB):
            assert layouts.shutdown_reason(flags | others | 0x4) is known
            assert layouts.shutdown_reason((flags | others) & ~0x4) is None
