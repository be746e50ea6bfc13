"""The examples on a real host: each is run as a program, and real domains live for it."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from uuid import uuid4

from tests.programs import EXAMPLES, Program
from tests.stage import PATIENCE

from . import xl
from .toolstack import RealHost

CRASH, REBOOT = 3, 1  # sched.h


def test_print_events(toolstack: RealHost) -> None:
    """A guest's life, a reboot as one event among it."""
    with Program("print_events.py", "--name", "w*") as program:
        program.until("new events follow")
        uuid = uuid4()
        domid = toolstack.create("web", uuid=uuid)
        program.until("web")
        toolstack.rename(domid, "www")
        program.until("web was renamed to www")
        toolstack.shutdown(domid, REBOOT)
        program.until("www stopped: reboot")
        toolstack.destroy(domid)
        again = toolstack.create("www", uuid=uuid)
        # A look between its birth and the write of its name finds a guest without a name.
        program.until(f"rebooted: domain {domid} is {again} now")
        toolstack.shutdown(again, CRASH)
        program.until("www stopped: crash")
        toolstack.destroy(again)
        program.until("www is gone: crash")
        assert program.interrupt() == 0
        assert "simulated" not in program.text
        assert "first" not in program.text


def test_wait_for_domain() -> None:
    """A guest of xl's is waited for from its birth to its end."""
    with Program("wait_for_domain.py", "web") as program:
        uuid = uuid4()
        domid = xl.create("web", "pvh", uuid=uuid)
        program.until(f"web is domain {domid}: pvh, {uuid}")
        xl.destroy(domid)
        program.until("web is gone: no reason was seen")
        assert program.end() == 0


def test_hook(toolstack: RealHost) -> None:
    """A program runs once for each life of a guest that is renamed meanwhile."""
    command = ("sh", "-c", 'echo "ran for $DOMAIN_NAME $DOMAIN_ID"')
    with Program("hook.py", "w*", "--", *command) as program:
        domid = toolstack.create("web")
        program.until(f"ran for web {domid}")
        toolstack.rename(domid, "www")
        toolstack.destroy(domid)
        again = toolstack.create("web")
        program.until(f"ran for web {again}")
        assert program.interrupt() == 0
        assert "ran for www" not in program.text
        assert "simulated" not in program.text
        assert "Traceback" not in program.text


def test_asyncio_events(toolstack: RealHost) -> None:
    """One task hears of the guest, another has waited for it, and for its end."""
    with Program("asyncio_events.py") as program:
        program.until("Synced")
        domid = toolstack.create("web")
        program.until(f"web is here: domid {domid}, 32 KiB")
        toolstack.destroy(domid)
        program.until("web is gone: no reason was seen")
        assert "Traceback" not in program.text


def test_memory_balancer(toolstack: RealHost) -> None:
    """What guests write moves the targets; what is asked for is kept until the guest is there."""
    with Program("memory_balancer.py", "--pool", "4096") as program:
        path = program.until("listening at").removeprefix("listening at ")
        toolstack.write(toolstack.create("web"), "memory/meminfo", b"786432")
        # Of 4,096 MiB: "first" wants the least, 64, and web 1,024; dom0 has no share.
        program.until("first 241", "web 3855", "reserved 0")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(path)
            client.sendall(b"512\n")
            assert client.recv(16) == b"ok\n"
            program.until("reserved 512")
            toolstack.create("db")
        program.until("db", "reserved 0")
        assert program.interrupt() == 0
        assert "Traceback" not in program.text


def test_exporter(toolstack: RealHost) -> None:
    """Each domain has its name on the page, its processor time and its memory."""
    domid = toolstack.create("web")
    with Program("exporter.py", "--port", "0") as program:
        with urllib.request.urlopen(program.until("http://"), timeout=PATIENCE) as answer:
            page = answer.read().decode().splitlines()
        assert "domindex_live 1.0" in page
        assert 'name="web"' in sample(page, "domindex_domain_info", domid)
        assert sample(page, "domindex_domain_cpu_seconds_total", domid).endswith(
            " 0.0"
        )  # is paused
        assert float(sample(page, "domindex_domain_memory_bytes", 0).split()[-1]) > 100 << 20
        assert program.interrupt() == 0


def sample(page: list[str], metric: str, domid: int) -> str:
    """The one line that tells a metric of a domain."""
    (line,) = [line for line in page if line.startswith(f'{metric}{{domid="{domid}",')]
    return line


def test_tour(toolstack: RealHost) -> None:
    """It shows this host, and what happens on it."""
    with Program("tour.py") as program:
        program.until("This is a Xen control domain")
        program.until("Events of the next")
        toolstack.create("web")
        program.until("Added", "web")
        assert "Traceback" not in program.text


def test_the_tests_of_a_program() -> None:
    """They need no host, and run in dom0 as anywhere."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "test_your_program.py"],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
