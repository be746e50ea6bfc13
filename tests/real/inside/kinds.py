"""What the machine of this host has, where machines differ."""

from __future__ import annotations

import platform

import pytest

MACHINE = platform.machine()
KINDS = {"x86_64": ("pv", "pvh", "hvm"), "aarch64": ("pvh",)}[MACHINE]
"""The kinds of domain, the usual one first."""

saves = pytest.mark.skipif(MACHINE != "x86_64", reason="libxl saves no domain on Arm")
"""For tests that save, restore or migrate one."""


def kind(wanted: str | None) -> str:
    """The kind that is wanted, None for the usual one. The test is skipped if there is none."""
    if wanted not in (None, *KINDS):
        pytest.skip(f"on {MACHINE} there is no {wanted}, every domain is {KINDS[0]}")
    return wanted or KINDS[0]
