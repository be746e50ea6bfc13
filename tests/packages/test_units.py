"""The systemd units: systemd understands them, and lets them do no more than they must."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.packages.system import System
from tools import packages

UNITS = packages.PROJECT / "packaging/systemd"

_EXPOSED = 25
"""The most that `systemd-analyze security` may say, in tenths. Without any of the settings: 96."""


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
def test_this_machine_s_systemd_understands_them() -> None:
    """A misspelt setting would only be a warning in the log of the host."""
    command = ["systemd-analyze", "verify", *map(str, UNITS.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.timeout(900)
def test_trixie_s_systemd_understands_them_and_finds_them_safe(workshop: System) -> None:
    """A newer one, which also says how much a unit may do to its host."""
    done = workshop.run(
        "for unit in *; do systemd-analyze verify ./$unit && "
        f"systemd-analyze security --offline=yes --threshold={_EXPOSED} ./$unit; done",
        UNITS,
    )
    assert done.returncode == 0, done.stdout
    assert "ignoring" not in done.stdout, done.stdout
