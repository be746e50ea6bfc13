"""Leases are renewed on one stream of a line, and nobody sees more of it than a call."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from domindex.fleet.errors import Fenced, LineLost
from domindex.fleet.opening import open_engine
from domindex.fleet.ports import Engine

from .conftest import need
from .proxy import DOWN, UP, Proxy
from .servers import Etcd, etcd
from .stores import EtcdStore


def test_a_server_that_was_restarted_since_the_last_renewal_is_no_fault(tmp_path: Path) -> None:
    """The stream broke; the renewal goes over another one."""
    need("sid")
    with etcd(tmp_path) as own:
        engine = open_engine(own.url, timeout=10.0)
        claim = engine.claim("xen1", "m1", 60)
        claim.renew()
        own.one.restart()
        for _ in range(3):
            claim.renew()
        engine.close()


def test_a_line_that_was_cut_since_the_last_renewal_is_no_fault(
    through: Engine, proxy: Proxy
) -> None:
    """As a firewall does with lines on which little is said."""
    claim = through.claim("cut", "m1", 60)
    claim.renew()
    proxy.cut()
    claim.renew()


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_a_renewal_that_is_not_answered_ends_in_its_time(
    through: Engine, proxy: Proxy, direction: str
) -> None:
    """And the next one does not get its answer."""
    claim = through.claim(f"mute-{direction}".replace(" ", "-"), "m1", 60)
    claim.renew()
    proxy.swallowed.add(direction)
    began = time.monotonic()
    with pytest.raises(LineLost):
        claim.renew()
    assert time.monotonic() - began < 10
    proxy.swallowed.clear()
    proxy.cut()
    claim.renew()


def test_claims_of_one_engine_renew_at_once_and_each_gets_its_own_answer(
    etcd_store: EtcdStore,
) -> None:
    """An answer does not say for which request it is."""
    with ThreadPoolExecutor(8) as threads:
        engine = etcd_store.connect()
        claims = [engine.claim(f"at-once-{n}", "m1", 60) for n in range(8)]
        etcd_store.expire("at-once-3")

        def renew(number: int) -> str:
            claim = claims[number % 8]
            try:
                claim.renew()
            except Fenced:
                return "fenced"
            return "renewed"

        told = list(threads.map(renew, range(200)))
        assert [said == "fenced" for said in told] == [n % 8 == 3 for n in range(200)]


def test_no_thread_is_left_of_it(server: Etcd) -> None:
    """Of the stream, of its sender, and of what limits its time."""
    before = set(threading.enumerate())
    engine = open_engine(server.url)
    claim = engine.claim("leaves-nothing", "m1", 60)
    for _ in range(5):
        claim.renew()
    claim.release()
    engine.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive(), thread
