"""What a caller gives to be called: refused at once if the call would do nothing."""

from __future__ import annotations

import inspect


def check_callable(what: str, given: object) -> None:
    """Raises TypeError unless `given` can be called, and the call does the work.

    A call of an `async def` makes a coroutine, which is not awaited here; and as the answer of
    a filter it would be true of everything.
    """
    if not callable(given):
        raise TypeError(f"{what} is to be called, and {given!r} cannot be: give a function")
    for function in (given, type(given).__call__):  # an object may have an async __call__
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{what} is async, and would not be awaited: give a plain function, or in "
                "asyncio iterate over events() of domindex.aio"
            )
