"""The two ports of one stage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from domindex.ports import Hypervisor, Store
from tests.stage import IN_DOM0, KINDS, PATIENCE, Stage, stage


@pytest.fixture(scope="module", params=["real"] if IN_DOM0 else [*KINDS])
def shared(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with stage(kind=request.param) as made:
        yield made


@pytest.fixture
def played(shared: Stage) -> Iterator[Stage]:
    """The stage; what a test leaves running is ended after it."""
    yield shared
    for domid in shared.toolstack.domids():
        shared.toolstack.destroy(domid)


@pytest.fixture
def hypervisor(played: Stage) -> Iterator[Hypervisor]:
    opened = played.host.open_hypervisor()
    yield opened
    opened.close()


@pytest.fixture(params=["socket", "xenbus"] if IN_DOM0 else ["simulated"])
def store(request: pytest.FixtureRequest, played: Stage) -> Iterator[Store]:
    if IN_DOM0:
        import domindex

        opened = domindex.XenHost(transport=request.param).open_store(PATIENCE)
    else:
        opened = played.host.open_store(PATIENCE)
    yield opened
    opened.close()
