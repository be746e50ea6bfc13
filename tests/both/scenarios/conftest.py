"""A stage for each scenario: it starts with dom0 alone, and ends with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.delivery_log import all_checked
from tests.stage import IN_DOM0, KINDS, Stage
from tests.stage import stage as stage_of_this_machine


@pytest.fixture(params=["real"] if IN_DOM0 else [*KINDS])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with stage_of_this_machine(kind=request.param) as made:
        yield made


@pytest.fixture(autouse=True)
def _every_log_holds() -> Iterator[None]:
    """P8: whatever a scenario does, what its listeners received is what the index promises."""
    with all_checked():
        yield
