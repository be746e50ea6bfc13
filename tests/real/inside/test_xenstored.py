"""A xenstored that is killed, started anew, or replaced under way, and the index over it.

A new xenstored has an empty store and knows of no domain; only the hypervisor has them still.
One that updates itself keeps everything, the lines too. This runs late: whatever else in dom0
holds on to the old xenstored does not come back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

import domindex
from domindex import Added, Lost, NotLive, Recovered, Removed, Renamed, ShutDown
from domindex import ShutdownReason as Why
from tests.stage import PATIENCE, eventually

from .following import TIMING, following
from .toolstack import RealHost

DOM0 = "Domain-0"
UPDATES = 3
SOCKET = domindex.XenHost(transport="socket")


def run(*command: str) -> None:
    """Run it; what it says is shown if it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, check=False, close_fds=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_stopped_and_started(toolstack: RealHost) -> None:
    """The picture stays while it is gone; then all is nameless, until names come again."""
    kept, gone = toolstack.create("kept"), toolstack.create("gone")
    with following(SOCKET) as follower:
        index, heard = follower.index, follower.heard
        run("xenstored-stop")
        try:
            heard.until(Lost)
            toolstack.destroy(gone, order="xapi")  # asks the hypervisor alone
            assert (index.by_name("kept").domid, index.by_name("gone").domid) == (kept, gone)
            with pytest.raises(NotLive):
                index.by_name("never")
            with pytest.raises(NotLive):
                index.refresh(timeout=0.5)
        finally:
            run("xenstored-start")
        heard.until(Removed, domid=gone)
        heard.until(Recovered)
        assert [domain.name for domain in index] == [None] * 3  # dom0, "first" and "kept"
        follower.reckon(lost=1)
        run("xen-init-dom0")
        heard.until(Renamed, domid=0, name=DOM0)
        toolstack.rename(kept, "again")
        told = heard.until(Renamed, domid=kept)
        assert (told.old.name, told.new.name) == (None, "again")
        follower.reckon(lost=1)


def test_told_of_a_domain_after_it_is_introduced_again(toolstack: RealHost) -> None:
    """Before, only a refresh tells of its end; afterwards events do, as in its first days."""
    silent, loud = toolstack.create("silent"), toolstack.create("loud")
    with following(SOCKET) as follower:
        index, heard = follower.index, follower.heard
        run("xenstored-restart")
        heard.until(Recovered)
        toolstack.destroy(silent)
        index.refresh(timeout=PATIENCE)
        assert silent not in index.domids
        toolstack.rename(loud, "loud")
        toolstack.introduce(loud)
        toolstack.crash(loud)
        assert heard.until(ShutDown, domid=loud).reason is Why.CRASH
        toolstack.destroy(loud)
        assert heard.until(Removed, domid=loud).reason is Why.CRASH
        new = toolstack.create("new")
        heard.named(new, "new")
        follower.reckon(lost=1)


def test_restarted_under_load(toolstack: RealHost) -> None:
    """Three times within a crowd of domains: a loss for each, and the truth at the end."""
    with following(SOCKET) as follower:
        for times in range(1, 4):
            domids = [toolstack.create(f"vm-{number}") for number in range(10)]
            run("xenstored-restart")
            for domid in domids[:5]:
                toolstack.destroy(domid)
            for domid in domids[5:]:
                toolstack.rename(domid, "survivor")
            follower.heard.until(Recovered)
            follower.reckon(lost=times, by_xl=times == 3)


def test_keeps_to_the_socket(toolstack: RealHost) -> None:
    """An index that began on the socket waits for it to come back."""
    with following(domindex.XenHost()) as follower:
        assert not _on_the_bus()
        run("xenstored-stop")
        try:
            os.unlink("/run/xenstored/socket")  # as a start does, some time before it listens
            follower.heard.until(Lost)
            time.sleep(1.0)
        finally:
            run("xenstored-start")
        follower.heard.until(Recovered)
        run("xen-init-dom0")
        assert not _on_the_bus()


def test_restarted_under_the_xenbus(toolstack: RealHost) -> None:
    """P2: the device outlives xenstored, its watches do not: a new line at each audit has them."""
    domid = toolstack.create("web")
    host = domindex.XenHost(transport="xenbus")
    with following(host, dataclasses.replace(TIMING, audit=2.0)) as follower:
        run("xenstored-restart")
        for name in ("www", "wwww"):  # the second by a watch of the line that the first brought
            toolstack.rename(domid, name)
            eventually(partial(follower.index.names.__contains__, name), f"it is called {name}")


def test_silent_behind_the_xenbus(toolstack: RealHost) -> None:
    """P9: noticed in time, though the kernel itself waits for a silent xenstored without an end."""
    toolstack.create("web")
    with following(domindex.XenHost(transport="xenbus")) as follower:
        xenstored = int(Path("/run/xenstored.pid").read_text())
        os.kill(xenstored, signal.SIGSTOP)
        try:
            assert isinstance(follower.heard.until(Lost).cause, domindex.StoreLost)
            assert follower.index.by_name("web")
            with pytest.raises(NotLive):
                follower.index.by_name("never")
        finally:
            os.kill(xenstored, signal.SIGCONT)
        follower.heard.until(Recovered)
        follower.reckon(lost=1)


def _on_the_bus() -> bool:
    """Whether this process has the kernel's device open."""
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{fd}").endswith("xen/xenbus"):
                return True
    return False


def test_updated_under_load(toolstack: RealHost) -> None:
    """A live update under births, renames and deaths: no loss, and nothing is missed."""
    daemon = Path(f"/usr/lib/xen-{os.environ['DOMINDEX_XEN']}/bin") / _daemon()
    with following(SOCKET) as follower:
        heard = follower.heard
        for times in range(UPDATES):
            update = subprocess.Popen(
                ["xenstore-control", "live-update", str(daemon)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            number = 0
            try:
                while update.poll() is None or number < 5:
                    domid = toolstack.create(f"vm-{times}-{number}")
                    toolstack.rename(domid, f"new-{times}-{number}")
                    if number % 2:
                        toolstack.destroy(domid, order="xapi" if number % 4 == 1 else "libxl")
                    number += 1
                said = update.communicate(timeout=PATIENCE)[0]
            finally:
                update.kill()
                update.wait()
            if update.returncode and not times:
                pytest.skip(f"this xenstored cannot be updated: {said.strip()}")
            assert update.returncode == 0, said
            domid = toolstack.create(f"after-{times}")
            heard.named(domid, f"after-{times}")
        follower.reckon(lost=0)
        kinds = {type(event) for event in heard.events}
        assert {Added, Renamed, Removed} <= kinds


def _daemon() -> str:
    """Which xenstored runs here."""
    pid = int(Path("/run/xenstored.pid").read_text())
    return Path(os.readlink(f"/proc/{pid}/exe")).name
