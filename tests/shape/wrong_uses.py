"""Mistakes of programs that both type checkers are to find. Never run.

Each is marked with what mypy and pyright say of it. A mark without its mistake is an error itself,
to both; that each line has both marks is tested in test_types.py.
"""

from __future__ import annotations

import domindex
from domindex import Added, Domain, Event, aio, direct


def on_domain(domain: Domain) -> None:
    """No handler of events."""


def change(index: domindex.Index, web: Domain) -> None:
    """What is read-only."""
    index.names["web"] = web  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    del index.uuids[web.uuid]  # type: ignore[attr-defined]  # pyright: ignore[reportIndexIssue]
    index.domids.clear()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    index.names = {}  # type: ignore[misc, assignment]  # pyright: ignore[reportAttributeAccessIssue]
    web.name = "db"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    index.live = True  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def ask(index: domindex.Index, look_ups: direct.Direct) -> None:
    """With another type."""
    index.by_id("7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    index.by_name(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    index.by_name("web", stale="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    index.names[7]  # type: ignore[index]  # pyright: ignore[reportArgumentType]
    index.wait_gone("web")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    index.wait_for("web")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    index.wait_for(name="web", timeout="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    index.info("7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    index.by_name("web").name.upper()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    look_ups.by_uuid(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    domindex.connect("socket")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    domindex.no_such_name  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def listen(index: domindex.Index, event: Event, web: Domain) -> None:
    """With what cannot be called so."""
    index.subscribe(on_domain)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    index.subscribe(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    index.subscribe(print, events=["Added"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    index.subscribe(print, events=Event)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    index.watch(0, "memory/target", print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    index.watch(web, b"memory", print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    event.domain  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    Added()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def loop(index: aio.AsyncIndex) -> None:
    """What is not in asyncio."""
    index.by_name("web", verify=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    index.by_name("web", stale="wait")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    index.subscribe(print)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    index.wait_for(name="web").domid  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
