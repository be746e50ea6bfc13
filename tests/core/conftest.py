"""What the tests of the reconciler share."""

from __future__ import annotations

import pytest

from tests.core.by_hand import Watcher


@pytest.fixture
def watcher() -> Watcher:
    """The reconciler, driven by hand."""
    return Watcher()
