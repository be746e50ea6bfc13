"""From a URL to an engine: what is refused, and what is at the other end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from domindex.errors import DomindexError
from domindex.fleet.errors import EngineDenied, InvalidUrl, LineLost, UnfitEngine
from domindex.fleet.memory import MemoryStore
from domindex.fleet.opening import open_engine
from domindex.fleet.url import Endpoint, Tls, parse_url

from .servers import Etcd, etcd, free_port
from .stores import progress, the_end_of


@pytest.mark.parametrize(
    ("url", "endpoints"),
    [
        ("etcd://a", ["a:2379"]),
        ("etcd://a:1,b,c:3", ["a:1", "b:2379", "c:3"]),
        ("etcd://A.example.org:2379/", ["a.example.org:2379"]),
        ("etcd://127.0.0.1:2379,127.0.0.1:2379", ["127.0.0.1:2379"]),
        ("etcd://[::1]:2380,[fe80::1]", ["[::1]:2380", "[fe80::1]:2379"]),
    ],
)
def test_a_url_names_endpoints(url: str, endpoints: list[str]) -> None:
    """Each once, in order, with etcd's own port if none is said."""
    assert [str(endpoint) for endpoint in parse_url(url)] == endpoints


@pytest.mark.parametrize(
    "url",
    [
        *("", "etcd", "etcd:", "etcd:a", "etcd://", "etcd:///", "etcd://,", "etcd://a,,b"),
        *("http://a:2379", "https://a", "redis://a", "ETCD://a", " etcd://a", "etcd://a "),
        *("etcd://a:0", "etcd://a:65536", "etcd://a:x", "etcd://a:", "etcd://:2379", "etcd://a:-1"),
        *("etcd://a/x", "etcd://a?x=1", "etcd://a#x", "etcd://::1", "etcd://[::1", "etcd://a b"),
        *("etcd://a\n", "etcd://a:2379\x00", "etcd://é", "etcd://a:٣", "etcd://a:123456789"),
    ],
)
def test_what_names_no_engine_is_refused(url: str) -> None:
    """With the form that a URL has."""
    with pytest.raises(InvalidUrl, match=r"etcd://HOST:PORT"):
        parse_url(url)
    with pytest.raises(InvalidUrl):
        open_engine(url)


@pytest.mark.parametrize("url", ["etcd://root:secret@a:2379", "etcd://b,root:secret@a"])
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    """An error may be logged."""
    with pytest.raises(InvalidUrl, match="certificates") as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)
    for other in ("http://root:secret@a", "nonsense secret@a", "etcd:/root:secret@a"):
        with pytest.raises(InvalidUrl) as caught:
            parse_url(other)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("what", [None, 7, b"etcd://a", ["etcd://a"], MemoryStore])
def test_an_engine_is_a_url_or_an_engine(what: Any) -> None:
    """A class of engines is none."""
    with pytest.raises(TypeError):
        open_engine(what)


def test_an_engine_is_given_back_as_it_is() -> None:
    """For tests, and for one process that holds several indexes."""
    engine = MemoryStore().connect()
    assert open_engine(engine) is engine


@pytest.mark.parametrize("timeout", ["5", float("nan"), True])
def test_a_timeout_is_a_number_of_seconds(timeout: Any) -> None:
    """As everywhere."""
    with pytest.raises((TypeError, ValueError)):
        open_engine("etcd://a", timeout=timeout)


def test_a_certificate_comes_with_its_key() -> None:
    """One alone is a mistake."""
    with pytest.raises(ValueError, match="both"):
        Tls(cert="x")
    with pytest.raises(TypeError, match="Tls"):
        open_engine("etcd://a", tls=("ca", "cert", "key"))  # type: ignore[arg-type]


def test_without_the_extra_it_is_told_what_to_install() -> None:
    """grpc and aetcd are imported when etcd is opened, not before."""
    code = (
        "import sys; sys.modules['grpc'] = None\n"
        "import domindex.fleet.opening as o, domindex.fleet.memory\n"
        "try: o.open_engine('etcd://a')\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert "pip install grpcio" in done.stdout, done.stderr


@contextmanager
def answering(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """A server that does this with each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        end = threading.Event()

        def run() -> None:
            held = []
            while not end.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                held.append(connection)
                try:
                    answer(connection)
                except OSError:
                    continue
            for connection in held:
                connection.close()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        end.set()
        thread.join(10)


def http(body: bytes, status: bytes = b"200 OK") -> Callable[[socket.socket], object]:
    """An HTTP server that says this to everybody."""

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 " + status + b"\r\n\r\n" + body)
        connection.shutdown(socket.SHUT_WR)

    return answer


def hang_up(connection: socket.socket) -> None:
    """Take the request and say nothing."""
    connection.recv(4096)
    connection.close()


def drip(connection: socket.socket) -> None:
    """One byte at a time, for ever."""
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        connection.sendall(b"x")
        threading.Event().wait(0.02)


def flood(connection: socket.socket) -> None:
    """More than anybody wants."""
    connection.settimeout(2)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 10_000_000)


SERVERS: dict[str, tuple[Callable[[socket.socket], object], type[DomindexError]]] = {
    "says nothing": (lambda connection: None, LineLost),
    "hangs up": (lambda connection: connection.close(), LineLost),
    "hangs up having heard": (hang_up, LineLost),
    "is no HTTP": (lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9\r\n"), LineLost),
    "drips": (drip, LineLost),
    "floods": (flood, UnfitEngine),
    "has no such page": (http(b"not found", b"404 Not Found"), UnfitEngine),
    "serves another page": (http(b"<html>welcome</html>"), UnfitEngine),
    "serves other JSON": (http(b'{"version": "3.5.30"}'), UnfitEngine),
    "has no version": (http(b'{"etcdserver":"unknown"}'), UnfitEngine),
    "is an old etcd": (http(b'{"etcdserver":"3.4.23","etcdcluster":"3.4.0"}'), UnfitEngine),
    "is just too old": (http(b'{"etcdserver":"3.5.17"}'), UnfitEngine),
    "says it is etcd": (http(b'{"etcdserver":"3.5.30"}'), LineLost),
    "wants TLS": (
        http(b"Client sent an HTTP request to an HTTPS server.\n", b"400 Bad Request"),
        EngineDenied,
    ),
}


@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_of_another_kind_is_told(kind: str) -> None:
    """By an error that fits, within the time; by a feed as well."""
    answer, error = SERVERS[kind]
    with answering(answer) as port:
        engine = open_engine(f"etcd://127.0.0.1:{port}", timeout=0.5)
        began = time.monotonic()
        with pytest.raises(error):
            engine.position()
        assert time.monotonic() - began < 1.5
        assert isinstance(the_end_of(engine.follow(1, None)), error)
        engine.close()


def test_nobody_there_is_told_at_once() -> None:
    """Refused, or no such name; however many endpoints."""
    for hosts in ("127.0.0.1:{0}", "127.0.0.1:{0},127.0.0.1:{1}", "no-such-host.invalid"):
        engine = open_engine("etcd://" + hosts.format(free_port(), free_port()))
        with pytest.raises(LineLost):
            engine.load()
        engine.close()


def test_a_port_for_grpc_alone_is_an_etcd_too(tmp_path: Path) -> None:
    """Where HTTP has a port of its own, the version is asked by gRPC."""
    elsewhere = f"http://127.0.0.1:{free_port()}"
    with etcd(tmp_path, arguments=["--listen-client-http-urls", elsewhere]) as running:
        engine = open_engine(running.url)
        assert engine.position() == 1
        engine.close()


def test_a_proxy_of_the_surroundings_is_not_used(
    server: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC would take it from the environment."""
    for name in ("http_proxy", "HTTP_PROXY", "grpc_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    engine = open_engine(server.url)
    loaded = engine.load()
    feed = engine.follow(loaded.position, loaded.epoch)
    progress(feed)
    engine.close()


def test_a_program_may_end_with_all_open(server: Etcd) -> None:
    """Quietly, at once, with its own status."""
    code = (
        "from domindex.fleet.opening import open_engine\n"
        f"engine = open_engine({server.url!r})\n"
        "claim = engine.claim('ending', 'm', 5)\n"
        "now = engine.load()\n"
        "feed = engine.follow(now.position, now.epoch)\n"
        "print(type(feed.next(10)).__name__)\n"
        "raise SystemExit(3)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout in ("Progress\n", "Batch\n")


def test_an_endpoint_is_printed_as_it_is_written() -> None:
    """For people, and for the next parse."""
    assert parse_url(f"etcd://{Endpoint('a', 1)}") == (Endpoint("a", 1),)
