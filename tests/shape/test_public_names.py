"""The public interface: public_api.txt changes only together with the changelog."""

from __future__ import annotations

import importlib.metadata
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


@pytest.mark.parametrize(
    "name", sorted(set(domindex.__all__) - {"Event", "Handler", "NodeHandler"})
)
def test_every_public_thing_is_documented(name: str) -> None:
    """help() says what it is; a dataclass's own signature is no sentence."""
    thing = getattr(domindex, name)
    if public_api.is_public(domindex, name, thing):
        assert thing.__doc__
        assert not thing.__doc__.startswith(f"{name}(")


def test_all_public_names_are_named() -> None:
    """`__all__` has what is without an underscore, but for the modules, and `direct`."""
    public = {name for name in vars(domindex) if public_api.is_public(domindex, name, None)}
    modules = {name for name in public if inspect.ismodule(getattr(domindex, name))}
    assert set(domindex.__all__) == public - modules | {"direct"}
    assert domindex.__all__ == sorted(domindex.__all__)


def test_the_version_is_the_one_that_is_installed() -> None:
    """It has one source, `__version__`, from which the packages are made."""
    assert domindex.__version__ == importlib.metadata.version("domindex")
