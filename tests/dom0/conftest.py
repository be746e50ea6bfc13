"""A stage for each test, as the scenarios have it."""

from tests.scenarios.conftest import stage as stage
