"""What a person sees who types the name of a thing."""

from __future__ import annotations

import asyncio

import domindex
from domindex import aio
from domindex.testing import QUICK, SimulatedHost
from tests.whole.helpers import eventually


def test_an_index_says_how_many_and_whether_live() -> None:
    """Live, down and closed; it needs no call to the host."""
    with SimulatedHost() as host:
        host.create("web")
        index = host.connect(QUICK)
        assert repr(index) == "<Index: 2 domains, live>"
        host.stop_xenstored()
        eventually(lambda: not index.live)
        assert repr(index) == "<Index: 2 domains, down>"
        index.close()
        assert repr(index) == "<Index: closed>"


def test_an_index_of_asyncio_does_too() -> None:
    """By its own name."""

    async def main() -> list[str]:
        with SimulatedHost() as host:
            async with aio.connect(host) as index:
                said = repr(index)
            return [said, repr(index)]

    assert asyncio.run(main()) == ["<AsyncIndex: 1 domains, live>", "<AsyncIndex: closed>"]


def test_a_record_shows_what_a_person_looks_for() -> None:
    """Its keys, type and state; the life, which repeats them, stays out. Names are escaped."""
    with SimulatedHost() as host, host.connect() as index:
        domid = host.create("a\n\x1b", type="pvh")
        index.refresh()
        said = repr(index.by_id(domid))
        assert said.startswith(f"Domain(domid={domid}, uuid=UUID(")
        assert r"name='a\n\x1b'" in said
        assert "life=" not in said
        assert repr(domindex.Added(index.by_id(domid))).count(r"'a\n\x1b'") == 1
