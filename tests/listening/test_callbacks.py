"""What is given to be called: refused at once where the call would do nothing."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator

import pytest

from domindex.listening.callbacks import check_callable


async def coroutine(_: object) -> None:
    """Its call makes a coroutine."""


async def generator(_: object) -> AsyncIterator[int]:
    """Its call makes a generator."""
    yield 1


class Plain:
    def __call__(self, _: object) -> None: ...
    async def method(self, _: object) -> None: ...


class Async:
    async def __call__(self, _: object) -> None: ...


@pytest.mark.parametrize("given", [print, list.append, [].append, Plain(), Plain, lambda: None])
def test_what_works_when_it_is_called_is_taken(given: object) -> None:
    """Functions, methods, classes, objects, with Python or C behind them."""
    check_callable("a handler", given)


@pytest.mark.parametrize(
    "given", [coroutine, generator, functools.partial(coroutine), Plain().method, Async()]
)
def test_what_is_to_be_awaited_is_refused(given: object) -> None:
    """It says what to use."""
    with pytest.raises(TypeError, match=r"a handler is async.*plain function.*domindex\.aio"):
        check_callable("a handler", given)


@pytest.mark.parametrize("given", [None, "handler", 7])
def test_what_cannot_be_called_is_refused(given: object) -> None:
    """When it is given, not at the first event."""
    with pytest.raises(TypeError, match=r"a handler.*give a function"):
        check_callable("a handler", given)
