"""Puts the man page and the completions into the wheel. hatchling calls it; see manual.py."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualHook(BuildHookInterface):
    """None of them is committed: they are made for each wheel, and then removed here."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # it has no place for them, and may lack sortedcontainers
            return
        sys.path.insert(0, self.root)
        from tools import manual

        self.made = Path(tempfile.mkdtemp())
        for path in manual.write(self.made):
            build_data["shared_data"][str(path)] = str(path.relative_to(self.made))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            shutil.rmtree(self.made)
