"""A wrong argument is refused with a sentence, whatever it is and wherever it is given.

The calls are taken from the signatures: one that is added is tried, too. `RIGHT` has for each name of
an argument one that fits.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import domindex
from domindex import DomindexError, InvalidKey, NoSuchDomain, aio, direct, prometheus
from domindex.testing import QUICK, SimulatedHost
from tests.shape import public_api

PACKAGE = str(Path(domindex.__file__).parent)
UUID_OF_WEB = UUID(int=7)


class Call:
    """A thing to be called."""

    def __call__(self, *_: object) -> None: ...


WRONG: dict[str, object] = {
    "None": None,
    "no text": "",
    "text": "web?",
    "bytes": b"\xff/",
    "below zero": -1,
    "huge": 1 << 70,
    "NaN": math.nan,
    "bool": True,
    "object": object(),
    "list": [],
    "list in list": [[]],
    "dict": {},
    "type": domindex.Added,
    "class": SimulatedHost,
}


class Given:
    """A host, an index and what belongs to them, and arguments that fit."""

    def __init__(self, stack: ExitStack) -> None:
        self.host = stack.enter_context(SimulatedHost())
        self.web = self.host.create("web", uuid=UUID_OF_WEB)
        self.index = stack.enter_context(self.host.connect(timing=QUICK))
        self.record = self.index.by_id(self.web)
        self.right: dict[str, Callable[[], object]] = {
            "count": lambda: 1,
            "deaf": lambda: False,
            "domain": lambda: self.record,
            "domid": lambda: self.web,
            "first": lambda: "a",
            "generation": lambda: 0,
            "handler": Call,
            "host": lambda: self.host,
            "index": lambda: self.index,
            "key": lambda: 1,
            "key_function": lambda: Call(),
            "name": lambda: "web",
            "nanoseconds": lambda: 1,
            "older": self.index.snapshot,
            "path": lambda: "memory/target",
            "paths": lambda: "memory/target",
            "text": lambda: "web",
            "timeout": lambda: 0.01,
            "uuid": lambda: UUID_OF_WEB,
            "value": lambda: b"1",
        }

    def arguments(self, call: Callable[..., object]) -> Iterator[tuple[str, dict[str, Any]]]:
        """For each argument and each wrong value of it: what is said of it, and all arguments."""
        parameters = inspect.signature(call).parameters
        needed = {
            name: self.right[name]
            for name, parameter in parameters.items()
            if parameter.default is parameter.empty and name != "self" or name == "timeout"
        }
        for name in parameters.keys() - {"self"}:
            for what, wrong in WRONG.items():
                if name == "timeout" and what in ("None", "huge"):
                    continue  # it would wait for as long
                others = {other: make() for other, make in needed.items() if other != name}
                yield f"{name}={what}", {**others, name: wrong}


def complaint(error: Exception) -> str:
    """What is wrong with this error, empty if it is a sentence of ours."""
    if isinstance(error, re.error) and str(error):
        return ""  # the word of `re` on a pattern, as documented
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = last.filename.startswith(PACKAGE) and (last.line or "").startswith("raise")
    if isinstance(error, (DomindexError, TypeError, ValueError)) and str(error) and ours:
        return ""
    return f"{type(error).__name__}: {error} ({last.filename}:{last.lineno}: {last.line})"


def called(call: Callable[..., object], arguments: dict[str, Any]) -> object:
    """Call it; arguments that are given by their place alone are those after a star."""
    star = [
        name
        for name, parameter in inspect.signature(call).parameters.items()
        if parameter.kind is parameter.VAR_POSITIONAL
    ]
    if not star:
        return call(**arguments)
    last = arguments.pop(star[0])
    return call(*arguments.values(), last)


def ended(result: object) -> None:
    """What a call has opened is closed."""
    if isinstance(result, (domindex.Index, direct.Direct)):
        result.close()


def methods(kind: type) -> list[str]:
    """Those that a program calls: not what `connect` does with what it made."""
    return sorted(
        name
        for name in public_api.members(kind)
        if inspect.isfunction(inspect.getattr_static(kind, name, None))
        and len(inspect.signature(getattr(kind, name)).parameters) > 1
        and name not in ("start", "open_hypervisor", "open_store")
    )


MADE: dict[type, Callable[[Given], Any]] = {
    domindex.Index: lambda given: given.index,
    domindex.Snapshot: lambda given: given.index.snapshot(),
    domindex.Subscription: lambda given: given.index.subscribe(Call()),
    domindex.EventStream: lambda given: given.index.events(),
    direct.Direct: lambda given: direct.open(given.host),
    SimulatedHost: lambda given: given.host,
}
FUNCTIONS: list[Callable[..., object]] = [
    *(domindex.Index, domindex.connect, domindex.printable, domindex.Timing, domindex.XenHost),
    *(direct.open, prometheus.DomainCollector, SimulatedHost),
]


def check(given: Given, call: Callable[..., object], found: list[str]) -> None:
    for what, arguments in given.arguments(call):
        try:
            ended(called(call, arguments))
        except Exception as error:
            if said := complaint(error):
                found.append(f"{what}: {said}")


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in MADE for name in methods(kind)]
)
def test_a_method_refuses_what_is_no_such_argument(kind: type, name: str) -> None:
    """Or it takes it; but it does not stumble over it."""
    found: list[str] = []
    with ExitStack() as stack:
        given = Given(stack)
        check(given, getattr(MADE[kind](given), name), found)
    assert not found


@pytest.mark.parametrize("call", FUNCTIONS, ids=lambda call: str(call.__name__))
def test_a_function_refuses_what_is_no_such_argument(call: Callable[..., object]) -> None:
    """What opens or makes something, too."""
    found: list[str] = []
    with ExitStack() as stack:
        check(Given(stack), call, found)
    assert not found


@pytest.mark.parametrize("name", methods(aio.AsyncIndex))
def test_asyncio_refuses_what_is_no_such_argument(name: str) -> None:
    """The same for what is awaited."""
    found: list[str] = []

    async def main(given: Given) -> None:
        async with aio.connect(given.host, timing=QUICK) as index:
            call = getattr(index, name)
            for what, arguments in given.arguments(call):
                try:
                    result = call(**arguments)
                    if inspect.isawaitable(result):
                        await result
                except Exception as error:
                    if said := complaint(error):
                        found.append(f"{what}: {said}")

    with ExitStack() as stack:
        asyncio.run(main(Given(stack)))
    assert not found


def test_opening_in_asyncio_refuses_what_is_no_such_argument() -> None:
    """`aio.connect` by itself."""
    found: list[str] = []

    async def main(given: Given) -> None:
        for what, arguments in given.arguments(aio.connect):
            try:
                await (await aio.connect(**{"host": given.host, **arguments})).close()
            except Exception as error:
                if said := complaint(error):
                    found.append(f"{what}: {said}")

    with ExitStack() as stack:
        asyncio.run(main(Given(stack)))
    assert not found
