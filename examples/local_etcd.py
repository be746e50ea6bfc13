"""Starts an etcd of its own for a trial: on the loopback, with data that vanish at its end.

`fleet.py` uses it. A program of your own that tries something on a real store may, too:

    with local_etcd.running() as url:
        fleet = domindex.fleet.connect(url)
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

OLDEST = (3, 5, 18)  # what domindex takes
STOPS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class NoEtcd(Exception):
    """None can be started here. The message says why, and how to get one."""


@contextlib.contextmanager
def running() -> Iterator[str]:
    """An etcd; its URL. Raises NoEtcd."""
    lacking = [name for name in ("grpc", "aetcd") if importlib.util.find_spec(name) is None]
    if lacking:
        raise NoEtcd(f"no Python package {' and '.join(lacking)}: pip install '.[fleet]'")
    etcd = find_etcd()
    with contextlib.ExitStack() as stack:
        data = stack.enter_context(tempfile.TemporaryDirectory(prefix="domindex-etcd-"))
        clients, peers = free_ports(2)
        url, peer_url = f"http://127.0.0.1:{clients}", f"http://127.0.0.1:{peers}"
        command = [str(etcd), "--data-dir", f"{data}/data", "--unsafe-no-fsync"]
        command += ["--listen-client-urls", url, "--advertise-client-urls", url]
        command += ["--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url]
        command += ["--initial-cluster", f"default={peer_url}"]
        with open(f"{data}/log", "wb") as log:
            process = stack.enter_context(program(command, output=log.fileno()))
        if not answers(clients, process):
            said = Path(data, "log").read_text(errors="replace").splitlines()[-1:]
            raise NoEtcd(f"{etcd} was started, and does not answer: {''.join(said)}")
        yield f"etcd://127.0.0.1:{clients}"


@contextlib.contextmanager
def program(command: Sequence[str], output: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Another program, which is killed at the end of the block if it still runs.

    It has a session of its own: Ctrl-C in a terminal is for this program alone, which then ends
    it in its turn.
    """
    # A signal that comes between its start and the `try` would leave it behind. It inherits what
    # is blocked, which does not matter: nobody but we ends it, and no program can block SIGKILL.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        atexit.register(process.kill)  # wherever Ctrl-C came
        with process:
            try:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                yield process
            finally:
                process.kill()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def find_etcd() -> Path:
    """One that is new enough: of this machine, or of the cache of a checkout. Raises NoEtcd."""
    cache = os.environ.get("DOMINDEX_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = sorted(Path(cache or home / "domindex").glob("packages/*/root/usr/bin/etcd"))
    if installed := shutil.which("etcd"):
        found.insert(0, Path(installed))
    for path in found:
        if version_of(path) >= OLDEST:
            return path
    least = ".".join(map(str, OLDEST))
    raise NoEtcd(
        f"no etcd of version {least} or newer: in a checkout `make fleet` fetches one, elsewhere "
        "install etcd-server"
    )


def version_of(etcd: Path) -> tuple[int, ...]:
    """Its version; () if it does not run."""
    try:
        done = subprocess.run(
            [etcd, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.search(r"etcd Version: (\d+)\.(\d+)\.(\d+)", done.stdout)
    return tuple(map(int, match.groups())) if match else ()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback at which nobody listens now."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            one = stack.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            found.append(int(one.getsockname()[1]))
        return found


def answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Whether it does, within half a minute."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            line.request("GET", "/health")
            if line.getresponse().status == http.HTTPStatus.OK:
                return True
        except (OSError, http.client.HTTPException):
            pass  # not yet
        finally:
            line.close()
        time.sleep(0.05)
    return False
