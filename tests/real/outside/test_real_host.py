"""Real Xen hosts: everything that runs in their dom0, each test under its own name."""

from __future__ import annotations

import pytest

from tests.real.outside.real_host import (
    HOSTS,
    SCENARIOS,
    TIME_LIMIT,
    nodes_in_dom0,
    run_of,
    runs_on,
)

pytestmark = [pytest.mark.xen, pytest.mark.timeout(len(HOSTS) * TIME_LIMIT + 300)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One for each host and each test in its dom0."""
    if "test" in metafunc.fixturenames:
        cases = [(host, test) for test in nodes_in_dom0() for host in HOSTS if runs_on(host, test)]
        metafunc.parametrize(("host", "test"), cases)


def test_in_dom0(host: str, test: str) -> None:
    """The real host did as the simulated one does."""
    run = run_of(host)
    if test not in run.results:
        pytest.fail("\n".join(["it never ran; dom0 said last:", *run.output[-60:]]))
    told = run.results[test]
    if told["outcome"] == "skipped":
        pytest.skip(f"not applicable: {told['reason']}")
    assert told["outcome"] == "passed", told["reason"]


def test_every_scenario_is_there() -> None:
    """The names of the report lead to tests that exist."""
    assert {f"tests/{test}" for test in SCENARIOS.values()} <= set(nodes_in_dom0())
