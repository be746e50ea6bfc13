"""A simulated host of each kind, and an index of it that nothing disturbs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest

from domindex.index import Index
from domindex.testing import SimulatedHost
from tests.delivery_log import all_checked
from tests.whole.helpers import CALM, eventually, our_threads

Depth = bool | Literal["paths"]

KINDS: list[tuple[bool, Depth]] = [
    *((False, False), (True, False), (False, True), (True, True)),
    (False, "paths"),
]


def name_of(kind: tuple[bool, Depth]) -> str:
    """As it stands in the report: what such a host can do."""
    unique_ids, watch_depth = kind
    depth = "paths" if watch_depth == "paths" else "depth" if watch_depth else ""
    return "+".join(filter(None, ["ids" if unique_ids else "", depth])) or "plain"


@pytest.fixture(params=KINDS, ids=name_of)
def host(request: pytest.FixtureRequest) -> SimulatedHost:
    """With and without unique ids, with and without watch depth, and with that on paths alone."""
    unique_ids, watch_depth = request.param
    return SimulatedHost(unique_ids=unique_ids, watch_depth=watch_depth)


@pytest.fixture
def index(host: SimulatedHost) -> Iterator[Index]:
    """An index that follows `host` and does nothing by itself."""
    with host.connect(timing=CALM) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """P9: whatever a test does, once its indexes are closed no thread of theirs is alive."""
    before = len(our_threads())
    yield
    eventually(lambda: len(our_threads()) <= before)


@pytest.fixture(autouse=True)
def _every_log_holds() -> Iterator[None]:
    """P8: whatever a test does, what its listeners received is what the index promises."""
    with all_checked():
        yield
