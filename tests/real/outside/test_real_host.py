"""Real Xen hosts: everything that runs in their dom0, each test under its own name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.real.outside.real_host import (
    HOSTS,
    NOT_APPLICABLE,
    TIME_LIMIT,
    nodes_in_dom0,
    run_of,
    runs_on,
)
from tests.real.outside.table import SCENARIOS

# A host's first test waits for the whole host, and before that for packages that another fetches.
pytestmark = [pytest.mark.xen, pytest.mark.timeout(2 * TIME_LIMIT + 300)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One for each host and each test in its dom0; conftest.py keeps those of a host together."""
    if "test" in metafunc.fixturenames:
        cases = [(h, test) for test in nodes_in_dom0() for h in HOSTS if runs_on(h, test)]
        metafunc.parametrize(("host", "test"), cases)


def test_in_dom0(host: str, test: str, record_property: Callable[[str, object], None]) -> None:
    """The real host did as the simulated one does."""
    run = run_of(host)
    for name, value in (("host", host), ("test", test), ("times", run.times)):
        record_property(name, value)  # for the table
    if test not in run.results:
        pytest.fail("\n".join(["it never ran; dom0 said last:", *run.output[-60:]]))
    told = run.results[test]
    if told["outcome"] == "skipped":
        pytest.skip(f"{NOT_APPLICABLE}{told['reason']}")
    assert told["outcome"] == "passed", told["reason"]


def test_every_scenario_is_there() -> None:
    """The names of the table lead to tests that exist."""
    assert {f"tests/{test}" for test in SCENARIOS.values()} <= set(nodes_in_dom0())
