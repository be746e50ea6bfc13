"""The counts that are committed, and what is said of new ones beside them."""

from __future__ import annotations

import json
import platform
import re
import sysconfig
from collections.abc import Mapping
from pathlib import Path

COUNTS = Path(__file__).with_name("counts.json")
MOST, MOST_OF_A_HIT = 1.1, 1.03
"""What a count may be of the committed one. One attribute more is 3 % of a hit."""


def this_python() -> str:
    """The interpreter and how it was compiled: another one has other instructions."""
    levels = re.findall(r"-O\w", str(sysconfig.get_config_var("CFLAGS")))
    options = str(sysconfig.get_config_var("CONFIG_ARGS"))
    compiled = [*levels[-1:], *re.findall(r"--enable-optimizations|--with-lto", options)]
    return " ".join(
        [
            platform.python_implementation(),
            f"{platform.python_version()},",
            f"{platform.python_compiler()},",
            *compiled,
        ]
    )


def read() -> dict[str, dict[str, float]]:
    """By the Python they were counted with: so many floors for each work."""
    text = COUNTS.read_text(encoding="utf-8") if COUNTS.exists() else "{}"
    found: dict[str, dict[str, float]] = json.loads(text)
    return found


def write(counted: Mapping[str, float]) -> None:
    """In place of what there is for this Python; the others stay."""
    kept = read()
    kept[this_python()] = {what: float(f"{floors:.4g}") for what, floors in counted.items()}
    COUNTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def complaints(counted: Mapping[str, float], committed: Mapping[str, float]) -> list[str]:
    """A line for each work that costs too much more, or is only on one side."""
    found = []
    for what in [*counted, *(what for what in committed if what not in counted)]:
        if what not in committed:
            found.append(f"{what}: not committed")
        elif what not in counted:
            found.append(f"{what}: committed, and counted no more")
        elif counted[what] > committed[what] * (MOST_OF_A_HIT if "index." in what else MOST):
            more = counted[what] / committed[what] - 1
            found.append(
                f"{what}: {counted[what]:,.2f} floors, {committed[what]:,.2f} committed: "
                f"{more:.1%} more"
            )
    return found
