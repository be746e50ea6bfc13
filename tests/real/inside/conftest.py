"""What the tests in dom0 share: the scenarios' stage, and a toolstack of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.both.scenarios.conftest import stage as stage
from tests.real.inside import xl
from tests.real.inside.toolstack import RealHost


@pytest.fixture
def toolstack() -> Iterator[RealHost]:
    """Makes real domains; ends with all that it made."""
    host = RealHost()
    host.create("first")  # its own connections are open from here on
    yield host
    host.close()


@pytest.fixture
def alone() -> Iterator[None]:
    """For tests that use `xl`: no domain is there before, and none after."""
    xl.clear()
    yield
    xl.clear()
