"""One real etcd for all tests that only need one, emptied for each; nothing is left behind."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from domindex.fleet.opening import open_engine
from domindex.fleet.ports import Engine
from tests.real.build.debian import HostUnavailable

from .proxy import Proxy
from .servers import Etcd, etcd, program
from .stores import EtcdStore, MemoryStore, Store


def need(suite: str) -> None:
    """Skip, or fail where CI is set, if this etcd cannot be had."""
    try:
        program(suite)
        program(suite, "etcdctl")
    except HostUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no etcd of {suite}: {error}")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """An etcd of one member."""
    need("sid")
    home: Path = tmp_path_factory.mktemp("etcd")
    with etcd(home) as running:
        yield running


@pytest.fixture
def etcd_store(server: Etcd) -> Iterator[EtcdStore]:
    """That etcd, empty."""
    store = EtcdStore(server)
    yield store
    store.close()


@pytest.fixture
def proxy(etcd_store: EtcdStore) -> Iterator[Proxy]:
    """In front of the server."""
    with Proxy(etcd_store.server.one.port) as running:
        yield running


@pytest.fixture
def through(proxy: Proxy) -> Iterator[Engine]:
    """An engine that knows the server by the proxy only."""
    engine = open_engine(proxy.url, timeout=1.0)
    yield engine
    engine.close()


@pytest.fixture(params=["memory", "etcd"])
def store(request: pytest.FixtureRequest) -> Store:
    """Each store that the contract is for."""
    if request.param == "memory":
        return MemoryStore()
    found: EtcdStore = request.getfixturevalue("etcd_store")
    return found


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Every test ends the feeds that it opened, and every feed its thread."""
    yield
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "domindex-feed":
            thread.join(10)
            assert not thread.is_alive()
