"""A stage for each scenario: it starts with dom0 alone, and ends with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stage import IN_DOM0, Stage
from tests.stage import stage as stage_of_this_machine


@pytest.fixture(params=["real"] if IN_DOM0 else ["plain", "newest"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with stage_of_this_machine(newest=request.param == "newest") as made:
        yield made
