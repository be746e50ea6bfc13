"""A stage for each scenario: it starts with dom0 alone, and ends with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stage import Stage
from tests.stage import stage as stage_of_this_machine


@pytest.fixture
def stage() -> Iterator[Stage]:
    with stage_of_this_machine() as made:
        yield made
