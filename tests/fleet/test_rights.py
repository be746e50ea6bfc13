"""F10: certificates say who a client is, and etcd's rights what it may do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from domindex.fleet import layout
from domindex.fleet.errors import EngineDenied, EngineError, LineLost
from domindex.fleet.opening import open_engine
from domindex.fleet.ports import Engine
from domindex.fleet.url import Tls

from .certificates import Authority, ctl_arguments, server_arguments
from .conftest import need
from .servers import Etcd, etcd
from .stores import dom, heard, record, the_end_of


class Guarded(NamedTuple):
    """An etcd with rights, and who makes certificates for it."""

    server: Etcd
    authority: Authority
    clients: dict[str, Tls]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Users xen1 and xen10 have the rights of hosts, reader those of a reader."""
    need("sid")
    home = tmp_path_factory.mktemp("guarded")
    authority = Authority(home / "authority")
    clients = {name: authority.client(name) for name in ("root", "xen1", "xen10", "reader", "eve")}
    with etcd(
        home,
        arguments=server_arguments(authority),
        tls=ctl_arguments(clients["root"]),
        scheme="https",
    ) as server:
        for user in ("root", "xen1", "xen10", "reader", "eve"):
            server.ctl("user", "add", user, "--no-password")
        server.ctl("user", "grant-role", "root", "root")
        for host in ("xen1", "xen10"):
            server.ctl("role", "add", host)
            for key in (layout.alive_key(host), layout.host_key(host)):
                server.ctl("role", "grant-permission", host, "readwrite", key)
            domains = layout.dom_prefix(host)
            server.ctl("role", "grant-permission", host, "readwrite", domains, "--prefix")
            server.ctl("user", "grant-role", host, host)
        server.ctl("role", "add", "reader")
        server.ctl("role", "grant-permission", "reader", "read", layout.ROOT, "--prefix")
        server.ctl("user", "grant-role", "reader", "reader")
        server.ctl("put", layout.EPOCH, "made by root")
        server.ctl("auth", "enable")
        yield Guarded(server, authority, clients)


@pytest.fixture
def opened(guarded: Guarded) -> Iterator[dict[str, Engine]]:
    """An engine for each user."""
    engines = {
        name: open_engine(guarded.server.url, tls=tls) for name, tls in guarded.clients.items()
    }
    yield engines
    for engine in engines.values():
        engine.close()


def test_a_host_publishes_what_is_its_own(opened: dict[str, Engine]) -> None:
    """All that a publisher does; and it may take its own name over."""
    for host in ("xen1", "xen10"):
        engine = opened[host]
        engine.claim(host, "m", 60).commit({record(host): b"{}", dom(host, 1): b"1"})
        claim = engine.claim(host, "m", 60)
        claim.renew()
        pairs = dict(engine.load([host]).pairs)
        assert pairs.keys() == {layout.alive_key(host), record(host), dom(host, 1)}
        claim.commit({record(host): b"{}"}, [dom(host, 1)])
        claim.release({record(host): b"ended"})


@pytest.mark.parametrize("user", ["reader", "eve", "xen1"])
def test_nobody_publishes_another_host(opened: dict[str, Engine], user: str) -> None:
    """Nor declares it offline, nor forgets it; `xen1` is not `xen10`."""
    opened["xen10"].claim("xen10", "m", 60).release({record("xen10"): b"{}"})
    engine = opened[user]
    for call in (
        lambda: engine.claim("xen10", "m", 60),
        lambda: engine.replace("xen10", b"{}", None),
        lambda: engine.replace("xen10", b"{}", b"offline"),
    ):
        with pytest.raises(EngineDenied, match="grant"):
            call()
    assert dict(opened["reader"].load().pairs)[record("xen10")] == b"{}"


def test_a_reader_loads_and_follows(opened: dict[str, Engine]) -> None:
    """With the right to read below the root alone."""
    reader = opened["reader"]
    loaded = reader.load()
    assert loaded.epoch == "made by root"
    feed = reader.follow(loaded.position, loaded.epoch)
    position = opened["xen1"].claim("xen1", "m", 60).commit({record("xen1"): b"{}"})
    assert heard(feed, position)[-1].changes[0].key == record("xen1")
    feed.close()


@pytest.mark.parametrize("user", ["xen1", "eve"])
def test_who_may_not_read_is_told(opened: dict[str, Engine], user: str) -> None:
    """By a load, and by a feed, which would otherwise be silent."""
    engine = opened[user]
    for call in (engine.load, engine.position, lambda: engine.load(["xen10"])):
        with pytest.raises(EngineDenied):
            call()
    assert isinstance(the_end_of(engine.follow(1, None)), EngineDenied)


def test_check_shows_what_it_may_see(opened: dict[str, Engine]) -> None:
    """The state of a member is for root; its version is for everybody."""
    for user in ("root", "reader", "eve"):
        health = opened[user].health()
        assert health.version.startswith("3.")
        assert set(health.members.values()) == {""}
        assert (health.size is not None) is (user == "root")
        assert (health.epoch is None) is (user == "eve")


def test_certificates_that_do_not_fit_are_told(guarded: Guarded, tmp_path: Path) -> None:
    """At the first call, with a sentence; no retry makes them fit."""
    other = Authority(tmp_path / "other")
    good, stranger = guarded.clients["xen1"], other.client("xen1")
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    wrong = {
        "a server of another authority": Tls(other.ca, good.cert, good.key),
        "a client of another authority": Tls(good.ca, stranger.cert, stranger.key),
        "no client certificate": Tls(good.ca),
        "the key of another": Tls(good.ca, good.cert, guarded.clients["reader"].key),
        "a file that is not there": Tls(good.ca, tmp_path / "none", tmp_path / "none"),
        "no PEM": Tls(junk, good.cert, good.key),
    }
    for what, tls in wrong.items():
        engine = open_engine(guarded.server.url, tls=tls)
        with pytest.raises(EngineDenied):
            engine.position()
        assert isinstance(the_end_of(engine.follow(1, None)), EngineDenied), what
        assert list(engine.health().members.values()) != [""]
        engine.close()


def test_tls_is_wanted_by_both_or_by_neither(guarded: Guarded, server: Etcd) -> None:
    """One side alone is told of."""
    engine = open_engine(guarded.server.url)
    with pytest.raises(LineLost, match="tls="):
        engine.position()
    engine.close()
    engine = open_engine(server.url, tls=guarded.clients["xen1"])
    with pytest.raises(EngineError):
        engine.position()
    engine.close()


def test_certificates_are_read_anew_for_each_line(guarded: Guarded, tmp_path: Path) -> None:
    """They may be replaced while we run."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    tls = Tls(guarded.authority.ca, cert, key)
    engine = open_engine(guarded.server.url, tls=tls)
    with pytest.raises(EngineDenied):
        engine.load(["xen1"])
    good = guarded.clients["xen1"]
    assert good.cert is not None
    assert good.key is not None
    cert.write_bytes(Path(good.cert).read_bytes())
    key.write_bytes(Path(good.key).read_bytes())
    assert engine.load(["xen1"]).position > 0
    engine.close()
