"""The public interface: public_api.txt changes only together with the changelog."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import domindex
import domindex.aio
from tests.shape import public_api

WRITTEN = Path(__file__).with_name("public_api.txt").read_text(encoding="utf-8").splitlines()
NOT_ASYNC = {"dispatch", "fileno", "start", "subscribe"}
"""What of an index has no place in a loop."""
VERIFIED_APART = {"by_name", "by_uuid", "by_id", "os_type", "snapshot"}
"""What cannot take the same arguments there."""


def test_the_interface_is_as_written() -> None:
    """What comes, goes or takes other arguments is noticed here.

    If it is meant: `python -m tests.shape.public_api > tests/shape/public_api.txt`.
    """
    assert list(public_api.lines()) == WRITTEN


@pytest.mark.parametrize(
    "name",
    sorted(public_api.members(domindex.Index) - NOT_ASYNC - {"watch"}),  # without threaded
)
def test_the_index_is_the_same_in_asyncio(name: str) -> None:
    """By name, by arguments, and with words of its own or the index's."""
    ours, coat = (
        inspect.getattr_static(kind, name, None)
        for kind in (domindex.Index, domindex.aio.AsyncIndex)
    )
    if not inspect.isfunction(ours):
        return
    assert inspect.getdoc(coat)
    if name not in VERIFIED_APART:
        assert public_api.signature(coat) == public_api.signature(ours)


def test_what_asyncio_does_not_have() -> None:
    """And has instead."""
    there = public_api.members(domindex.aio.AsyncIndex)
    assert public_api.members(domindex.Index) - there == NOT_ASYNC | {"timing"}
    assert there - public_api.members(domindex.Index) == {"verified"}


@pytest.mark.parametrize("name", sorted(set(vars(domindex)) - {"Event"}))
def test_every_public_thing_is_documented(name: str) -> None:
    """help() says what it is; a dataclass's own signature is no sentence."""
    thing = getattr(domindex, name)
    if public_api.is_public(domindex, name, thing):
        assert thing.__doc__
        assert not thing.__doc__.startswith(f"{name}(")
