"""The public names. This list changes only together with the changelog."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

import domindex
import domindex.aio
import domindex.direct
import domindex.prometheus
import domindex.testing

NAMES = {
    "AccessDenied",
    "Added",
    "Ambiguous",
    "Capabilities",
    "Changed",
    "Closed",
    "Domain",
    "DomainInfo",
    "DomindexError",
    "DuplicateName",
    "DuplicateUuid",
    "Event",
    "EventStream",
    "HostError",
    "HypercallFailed",
    "Index",
    "InvalidKey",
    "Life",
    "Lost",
    "NoEventLoop",
    "NoSuchDomain",
    "NotControlDomain",
    "NodeWatch",
    "NotLive",
    "OSType",
    "Rebooted",
    "Recovered",
    "Removed",
    "Renamed",
    "Resync",
    "ShutDown",
    "ShutdownReason",
    "Snapshot",
    "Stats",
    "StoreError",
    "StoreLost",
    "Subscription",
    "Synced",
    "TimedOut",
    "Timing",
    "UnknownXen",
    "XenHost",
    "connect",
    "printable",
}

INDEX = {
    "add_index",
    "age",
    "all_by_name",
    "all_by_uuid",
    "by",
    "by_id",
    "by_name",
    "by_uuid",
    "capabilities",
    "close",
    "dispatch",
    "domids",
    "events",
    "fileno",
    "find",
    "generation",
    "info",
    "live",
    "names",
    "os_type",
    "range",
    "recent",
    "refresh",
    "resolve",
    "snapshot",
    "start",
    "stats",
    "subscribe",
    "uuids",
    "wait_for",
    "wait_generation",
    "wait_gone",
    "wait_live",
    "watch",
}

SIMULATED_HOST = {
    "change_handle",
    "clear_node",
    "close",
    "connect",
    "crash",
    "create",
    "cut_line",
    "deafen_line",
    "destroy",
    "domids",
    "double_events",
    "halve_lists",
    "introduce",
    "leave_node",
    "lose_events",
    "name",
    "open_hypervisor",
    "open_store",
    "pause",
    "reboot",
    "refuse_hypercalls",
    "rename",
    "resume",
    "shutdown",
    "soft_reset",
    "start_xenstored",
    "stop_xenstored",
    "unpause",
    "write",
    "zombie",
}

SUBSCRIPTION = {"close", "drain", "overflows", "pending", "synced", "wait_synced"}
NODE_WATCH = {"close", "node"}
STREAM = {"close", "get", "overflows", "pending"}
COLLECTOR = {"collect"}
AIO = {"AsyncEventStream", "AsyncIndex", "Connecting", "connect"}
NOT_ASYNC = {"dispatch", "fileno", "start", "subscribe", "watch"}
"""What of an index has no place in a loop."""
DIRECT = {"all", "by_id", "by_name", "by_uuid", "close", "os_type"}


def public(thing: object) -> set[str]:
    """Names without an underscore; of a class, what it and its bases in the package declare."""
    names = set(vars(thing))
    if inspect.isclass(thing):
        for kind in thing.__mro__:
            if kind.__module__.startswith("domindex"):
                names |= {*vars(kind), *vars(kind).get("__annotations__", ())}
    return {
        name
        for name in names
        if not name.startswith("_") and not isinstance(getattr(thing, name, None), ModuleType)
    }


def test_the_names_of_the_package() -> None:
    """What `import domindex` gives; submodules do not count."""
    assert public(domindex) == NAMES


def test_the_names_of_the_metrics() -> None:
    """What `domindex.prometheus` has of its own."""
    own = {name for name in public(domindex.prometheus) if name.startswith("Domain")}
    assert own == {"DomainCollector"}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (domindex.Index, INDEX),
        (domindex.Subscription, SUBSCRIPTION),
        (domindex.EventStream, STREAM),
        (domindex.NodeWatch, NODE_WATCH),
        (domindex.aio.AsyncIndex, INDEX - NOT_ASYNC | {"verified"}),
        (domindex.aio.AsyncEventStream, STREAM - {"get"}),
        (domindex.aio.Connecting, set()),
        (domindex.direct.Direct, DIRECT),
        (domindex.prometheus.DomainCollector, COLLECTOR),
        (domindex.testing.SimulatedHost, SIMULATED_HOST),
    ],
    ids=lambda value: value.__name__ if inspect.isclass(value) else "",
)
def test_the_names_of_its_classes(kind: type, names: set[str]) -> None:
    """A method that comes or goes is noticed here."""
    assert public(kind) == names


def test_the_names_of_the_asyncio_module() -> None:
    """What is made there, not what it imports."""
    made = {
        name
        for name, thing in vars(domindex.aio).items()
        if (inspect.isclass(thing) or inspect.isfunction(thing))
        and (thing.__module__, name[0] == "_") == ("domindex.aio", False)
    }
    assert made == AIO


def bare(call: object) -> list[inspect.Parameter]:
    """Its parameters, without their types."""
    assert callable(call)
    parameters = inspect.signature(call).parameters.values()
    return [p.replace(annotation=inspect.Parameter.empty) for p in parameters]


@pytest.mark.parametrize(
    "name", sorted(INDEX - NOT_ASYNC - {"by_name", "by_uuid", "by_id", "os_type"})
)
def test_the_arguments_are_the_same_in_asyncio(name: str) -> None:
    """But for look-ups, which are not verified there."""
    index, coat = getattr(domindex.Index, name, None), getattr(domindex.aio.AsyncIndex, name, None)
    if callable(index):
        assert bare(coat) == bare(index)
    assert bare(domindex.aio.connect) == bare(domindex.connect)


def test_the_fields_of_a_domain_and_of_a_life() -> None:
    """Programs unpack and compare them."""
    assert list(domindex.Domain.__dataclass_fields__) == [
        *("domid", "uuid", "name", "type", "life", "first_seen", "shutdown")
    ]
    assert domindex.Life._fields == ("domid", "unique_id", "uuid", "first_seen")


@pytest.mark.parametrize(
    ("call", "signature"),
    [
        (domindex.connect, "(host=None, *, timing=None, timeout=60.0, stale='serve')"),
        (domindex.direct.open, "(host=None, *, timeout=5.0)"),
        (domindex.Index.by_name, "(self, name, verify=False, stale=None)"),
        (domindex.Index.by_uuid, "(self, uuid, verify=False, stale=None)"),
        (domindex.Index.by_id, "(self, domid, verify=False, stale=None)"),
        (domindex.Index.os_type, "(self, domid, verify=False, stale=None)"),
        (domindex.Index.find, "(self, *, prefix='', glob=None, regex=None, type=None, where=None)"),
        (domindex.Index.snapshot, "(self, stale=None)"),
        (domindex.Index.refresh, "(self, timeout=5.0, *, names=False)"),
        (domindex.Index.close, "(self, timeout=10.0)"),
    ],
    ids=lambda value: value.__qualname__ if callable(value) else "",
)
def test_the_arguments_of_what_everybody_calls(call: object, signature: str) -> None:
    """Renaming an argument breaks callers as renaming the method would."""
    assert str(inspect.Signature(bare(call))) == signature


@pytest.mark.parametrize("name", sorted(INDEX - NOT_ASYNC - {"names", "uuids", "domids"}))
def test_every_method_for_asyncio_is_documented(name: str) -> None:
    """Those that are the index's own have its words."""
    assert getattr(domindex.aio.AsyncIndex, name).__doc__


@pytest.mark.parametrize("name", sorted(NAMES - {"Event"}))
def test_every_public_thing_is_documented(name: str) -> None:
    """help() says what it is; a dataclass's own signature is no sentence."""
    text = getattr(domindex, name).__doc__
    assert text
    assert not text.startswith(f"{name}(")
