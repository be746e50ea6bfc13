"""The program that serves metrics, as systemd starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request

import pytest

_SIMULATED = """
import signal, sys
from domindex.exporter import main
from domindex.testing import SimulatedHost
signal.signal(signal.SIGINT, signal.default_int_handler)
host = SimulatedHost()
host.create("web")
sys.exit(main(sys.argv[1:], host))
"""


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_it_serves_and_ends_without_complaint(address: str) -> None:
    """Both kinds of address; SIGINT, which is how its unit stops it, is a normal end."""
    command = [sys.executable, "-W", "error", "-c", _SIMULATED, "--address", address, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        assert it.stdout is not None
        assert it.stderr is not None
        place = it.stdout.readline().strip()
        with urllib.request.urlopen(place, timeout=30) as page:
            text = page.read().decode()
        it.send_signal(signal.SIGINT)
        assert it.wait(30) == 0
        assert it.stderr.read() == ""
    assert 'name="web"' in text
    assert "domindex_live 1.0" in text


@pytest.mark.skipif(os.path.exists("/proc/xen/capabilities"), reason="this is a Xen host")
def test_without_a_xen_host_it_ends() -> None:
    """Never a simulated one: a line, and a status that makes systemd try again."""
    done = _run("--port", "0")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("domindex.exporter: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [("--port", "99999"), ("--address", "192.0.2.1"), ("--address", "no.invalid")]
)
def test_an_address_that_cannot_be_used(arguments: tuple[str, str]) -> None:
    """A line and no traceback."""
    done = _run(*arguments)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("domindex.exporter: ")


def test_without_prometheus_client() -> None:
    """A line that says what to install."""
    code = "import sys; sys.modules['prometheus_client'] = None; import domindex.exporter"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("domindex.exporter needs prometheus_client (Debian: ")


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "domindex.exporter", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
