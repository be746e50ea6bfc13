"""Real etcd servers: Debian's, unpacked into the cache, on free ports of the loopback.

Alone or as three members, with or without certificates. Each is ended by its own process id.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.etcd import program

__all__ = ["Etcd", "Member", "etcd", "free_port", "program", "wait_until"]

STARTING = 30.0
"""Seconds until a server answers."""


_handed_out: set[int] = set()
_SURPRISE = random.SystemRandom()  # Hypothesis seeds the usual one, in each process alike
_EPHEMERAL = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def free_port() -> int:
    """A port of the loopback that nobody listens at, and that was not given out before.

    None of those that the kernel gives to connections: one of these could take the port of a
    server that is stopped for a while.
    """
    while True:
        port = _SURPRISE.randrange(_EPHEMERAL - 20_000, _EPHEMERAL)
        if port in _handed_out:
            continue
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
        _handed_out.add(port)
        return port


class Member:
    """One etcd process, which may be stopped, ended and started again on the same data."""

    def __init__(
        self,
        home: Path,
        name: str = "one",
        *,
        suite: str = "sid",
        peers: dict[str, int] | None = None,
        arguments: Sequence[str] = (),
        scheme: str = "http",
    ) -> None:
        self.name, self.home, self.suite = name, home, suite
        self.port = free_port()
        self.data = home / f"{name}.data"
        self._log = home / f"{name}.log"
        peers = peers or {name: free_port()}
        peer = f"http://127.0.0.1:{peers[name]}"
        self._peer = peer
        self._command = [
            str(program(suite)),
            *("--name", name, "--data-dir", str(self.data)),
            *("--listen-client-urls", f"{scheme}://127.0.0.1:{self.port}"),
            *("--advertise-client-urls", f"{scheme}://127.0.0.1:{self.port}"),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            "--initial-cluster",
            ",".join(f"{other}=http://127.0.0.1:{port}" for other, port in peers.items()),
            # A disk that is slow, or shared with other tests, is not what is tried here.
            *(["--unsafe-no-fsync"] if suite != "bookworm" else []),
            *arguments,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """HOST:PORT of its clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it; it may need others before it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.home
            )

    def wait_ready(self) -> None:
        """Until it listens and has elected, as its log says."""

        def ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.log()[-2000:]
            return _listens(self.port) and "ready to serve client requests" in self.log()

        wait_until(ready, STARTING)

    def log(self) -> str:
        """What it has written."""
        return self._log.read_text(errors="replace")

    def end(self, by: int = signal.SIGKILL) -> None:
        """End its process, by its own id."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(by)
            self._process.wait(30)
            self._process = None
            self._log.unlink()

    def stop(self) -> None:
        """Freeze it: its connections stay, and say nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """After `stop`."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """End it and start it again, with what it had."""
        self.end()
        self.start()
        self.wait_ready()

    def restore(self, copy: str, *flags: str) -> None:
        """Make its data from a snapshot, as an operator would."""
        subprocess.run(
            [
                *(str(program(self.suite, "etcdctl")), "snapshot", "restore", copy),
                *("--name", self.name, "--data-dir", str(self.data)),
                *("--initial-cluster", f"{self.name}={self._peer}"),
                *("--initial-advertise-peer-urls", self._peer),
                *flags,
            ],
            check=True,
            capture_output=True,
            timeout=30,
            env={"ETCDCTL_API": "3", "PATH": os.environ["PATH"]},
        )

    def wipe(self) -> None:
        """Start it again with nothing."""
        self.end()
        shutil.rmtree(self.data)
        self.start()
        self.wait_ready()


class Etcd:
    """One etcd of one or more members."""

    def __init__(self, members: Sequence[Member], tls: Sequence[str] = ()) -> None:
        self.members = list(members)
        self._tls = list(tls)

    @property
    def url(self) -> str:
        """For `open_engine`."""
        return "etcd://" + ",".join(member.endpoint for member in self.members)

    @property
    def one(self) -> Member:
        """The only member."""
        (member,) = self.members
        return member

    def ctl(self, *arguments: str, text: str | None = None, tls: Sequence[str] = ()) -> str:
        """What etcdctl prints; it fails if etcdctl does."""
        scheme = "https" if self._tls else "http"
        done = subprocess.run(
            [
                str(program(self.members[0].suite, "etcdctl")),
                "--endpoints",
                ",".join(f"{scheme}://{member.endpoint}" for member in self.members),
                *(tls or self._tls),
                *arguments,
            ],
            input=text,
            capture_output=True,
            text=True,
            timeout=30,
            env={"ETCDCTL_API": "3", "PATH": os.environ["PATH"]},
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout


@contextmanager
def etcd(
    home: Path,
    count: int = 1,
    *,
    suite: str = "sid",
    arguments: Sequence[str] = (),
    tls: Sequence[str] = (),
    scheme: str = "http",
) -> Iterator[Etcd]:
    """A running etcd.

    tls: arguments for etcdctl.
    """
    names = [f"m{n}" for n in range(count)]
    peers = {name: free_port() for name in names}
    members = [
        Member(home, name, suite=suite, peers=peers, arguments=arguments, scheme=scheme)
        for name in names
    ]
    try:
        for member in members:
            member.start()
        for member in members:
            member.wait_ready()
        yield Etcd(members, tls)
    finally:
        for member in members:
            member.end()


def wait_until(true: Callable[[], object], timeout: float = 10.0, every: float = 0.02) -> None:
    """Wait for something outside this process, which cannot wake us."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, f"not within {timeout} s"
        time.sleep(every)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
