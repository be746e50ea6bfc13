"""A wrong argument is refused with a sentence, whatever it is and wherever it is given.

The calls are taken from the signatures: one that is added is tried, too. `Given.right`
has for each name of an argument one that fits.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import re
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest

import domindex
from domindex import DomindexError, InvalidKey, NoSuchDomain, TimedOut, aio, direct, prometheus
from domindex.testing import QUICK, SimulatedHost
from tests.shape import public_api

PACKAGE = str(Path(domindex.__file__).parent)
UUID_OF_WEB = UUID(int=7)


class Call:
    """A thing to be called."""

    def __call__(self, *_: object) -> None: ...


class HostClass(SimulatedHost):
    """Has all that a host has, but is none."""

    def __init__(self, *_: object) -> None:
        super().__init__()


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
    "class": HostClass,
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
            "max_memory": lambda: 1 << 20,
            "memory": lambda: 1 << 20,
            "name": lambda: "web",
            "nanoseconds": lambda: 1,
            "older": self.index.snapshot,
            "path": lambda: "memory/target",
            "paths": lambda: "memory/target",
            "text": lambda: "web",
            "timeout": lambda: 0.01,
            "uuid": lambda: UUID_OF_WEB,
            "value": lambda: b"1",
            "vcpus": lambda: 1,
        }

    def arguments(self, call: Callable[..., object]) -> Iterator[tuple[str, dict[str, Any]]]:
        """For each argument and each wrong value of it: what is said of it, and all arguments."""
        parameters = inspect.signature(call).parameters
        needed = {
            name: self.right[name]
            for name, parameter in parameters.items()
            if (parameter.default is parameter.empty and name != "self") or name == "timeout"
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
                    result: Any = called(call, arguments)
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


LIMITED = [
    *((kind, name) for kind in (*MADE, aio.AsyncIndex) for name in methods(kind)),
    *((domindex, "connect"), (aio, "connect"), (direct, "open")),
]


@pytest.mark.parametrize(("holder", "name"), LIMITED)
def test_every_time_limit_may_be_none(holder: Any, name: str) -> None:
    """By its type; that it is without a limit is tried below."""
    timeout = inspect.signature(getattr(holder, name)).parameters.get("timeout")
    assert timeout is None or timeout.annotation == "float | None"


def test_none_is_no_time_limit() -> None:
    """A wait ends with what it waited for, a call that need not wait returns."""
    with SimulatedHost() as host, host.connect(timing=QUICK, timeout=None) as index:
        timer = threading.Timer(0.01, host.create, ["web"])
        timer.start()
        web = index.wait_for(name="web", timeout=None)
        timer.join()
        index.wait_live(timeout=None)
        assert index.wait_generation(index.generation, timeout=None) == index.generation
        with index.events() as events, index.subscribe(Call()) as subscription:
            assert isinstance(events.get(timeout=None), domindex.Added)
            assert subscription.wait_synced(timeout=None)
            assert subscription.drain(timeout=None)
            subscription.close(timeout=None)
        host.destroy(web.domid)
        assert index.refresh(timeout=None) == index.generation
        assert index.wait_gone(web, timeout=None).domain.life == web.life
        with direct.open(host, timeout=None) as look_ups:
            assert look_ups.by_id(0).domid == 0
            look_ups.close(timeout=None)
        index.close(timeout=None)


def test_none_is_no_time_limit_in_asyncio() -> None:
    """The same."""

    async def main(host: SimulatedHost) -> None:
        async with aio.connect(host, timing=QUICK, timeout=None) as index:
            asyncio.get_running_loop().call_later(0.01, host.create, "web")
            web = await index.wait_for(name="web", timeout=None)
            await index.wait_live(timeout=None)
            assert await index.wait_generation(0, timeout=None) == index.generation
            host.destroy(web.domid)
            assert await index.refresh(timeout=None) == index.generation
            assert (await index.wait_gone(web, timeout=None)).domain.life == web.life
            await index.close(timeout=None)

    with SimulatedHost() as host:
        asyncio.run(main(host))


@pytest.mark.parametrize("limit", [0, -1, -0.5, -math.inf])
def test_a_deadline_that_has_passed_is_one_look(limit: float) -> None:
    """`deadline - time.monotonic()` may be below 0: there is no time to wait, and no mistake."""
    with SimulatedHost() as host, host.connect(timing=QUICK) as index:
        assert index.wait_for(domid=0, timeout=limit).domid == 0
        with pytest.raises(TimedOut):
            index.wait_for(domid=9, timeout=limit)
        with index.events() as events:
            assert isinstance(events.get(timeout=limit), domindex.Added)


def test_one_type_of_events_may_be_given_alone() -> None:
    """`events=Added` is what a program means by it."""
    with SimulatedHost() as host, host.connect(timing=QUICK) as index:
        with index.events(events=domindex.Synced) as events:
            assert isinstance(events.get(timeout=10), domindex.Synced)
        wrong: Any
        for wrong in (domindex.Event, str, [str], "Added", 5, [[]]):
            with pytest.raises(ValueError, match="types of events"):
                index.events(events=wrong)


@pytest.mark.parametrize("nil", [UUID(int=0), str(UUID(int=0)), bytes(16)])
def test_the_nil_uuid_belongs_to_no_domain(nil: UUID | str | bytes) -> None:
    """It is the handle of dom0, and yet finds none; a bare "no domain has it" would be a lie."""
    with SimulatedHost() as host, host.connect(timing=QUICK) as index:
        with pytest.raises(NoSuchDomain, match="belongs to no domain"):
            index.by_uuid(nil)
        with pytest.raises(NoSuchDomain, match="belongs to no domain"):
            index.by_uuid(nil, verify=True)
        with direct.open(host) as look_ups, pytest.raises(NoSuchDomain, match="to no domain"):
            look_ups.by_uuid(nil)


def test_asyncio_takes_and_refuses_the_same() -> None:
    """What is quickly mistaken: a type as text, a name in place of a record, an async handler."""

    async def handler(*_: object) -> None: ...

    async def main(host: SimulatedHost) -> None:
        async with aio.connect(host, timing=QUICK) as index:
            web = await index.wait_for(name="web")
            assert index.find(type="pvh") == index.find(type=domindex.OSType.PVH) == (web,)
            with pytest.raises(InvalidKey, match="type"):
                index.find(type="PVHH")
            with pytest.raises(InvalidKey, match=r"index\.names"):
                _ = "web" in index
            assert web in index
            for wrong in (handler, None):
                with pytest.raises(TypeError, match=r"async|function"):
                    index.watch(web, "memory/target", cast(Any, wrong))
                with pytest.raises(TypeError, match=r"async|function"):
                    index.watch(web, "memory/target", Call(), on_error=cast(Any, wrong or 1))
            with pytest.raises(TypeError, match="async"):
                index.events(where=handler)
            with pytest.raises(TypeError, match="async"):
                index.add_index("owner", cast(Any, handler))
            with pytest.raises(TypeError, match="async"):
                await index.wait_for(where=handler)
            with pytest.raises(InvalidKey, match="Domain record"):
                await index.wait_gone(cast(Any, "web"))
            async with index.events(events=domindex.Synced) as events:
                assert isinstance(await anext(events), domindex.Synced)
            with pytest.raises(NoSuchDomain, match="belongs to no domain"):
                await index.verified(uuid=bytes(16))

    with SimulatedHost() as host:
        host.create("web", type="pvh")
        asyncio.run(main(host))
