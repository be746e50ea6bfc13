"""Hypothesis profiles. `daily` is the default; HYPOTHESIS_PROFILE=long digs ten times deeper.

`few` is for `tests.measure.mutants`: most faults are found by the first examples. `quick` is for a
second Python or a second pyxs: what differs there shows in few examples.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

_SHARED: dict[str, Any] = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow],
}

settings.register_profile("quick", max_examples=10, **_SHARED)
settings.register_profile("daily", max_examples=100, **_SHARED)
settings.register_profile("few", max_examples=10, derandomize=True, **_SHARED)
settings.register_profile("long", max_examples=1000, **_SHARED)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "daily"))

# These run in the dom0 of a real host; `tests/real/outside` takes them there.
collect_ignore = [] if os.environ.get("DOMINDEX_DOM0") else ["real/inside"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give all tests of a real host to one process, which boots it once; the largest host first.

    `--dist loadgroup` would do it by marks, but has no effect with pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    from tests.real.build.host import RELEASES

    class ByHost(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
        """Each other test by itself."""

        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith("tests/packages/"):
                return "packages"  # they share what is built
            if nodeid.startswith("tests/fleet/"):
                return nodeid.partition("::")[0]  # they share a server
            if nodeid.startswith("tests/real/outside/test_published.py"):
                return "published"  # they share hosts and a server
            return max((h for h in RELEASES if f"_dom0[{h}-" in nodeid), key=len, default=nodeid)

    return ByHost(config, log)
