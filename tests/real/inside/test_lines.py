"""Ways to the host that only a real one has: the xenbus, and a process that drops its rights."""

from __future__ import annotations

import subprocess
import sys

import domindex
from domindex import Removed, Renamed
from tests.stage import PATIENCE
from tests.stage import stage as stage_by

from .kinds import KINDS

NOBODY = 65534

DROPPED = f"""
import os, sys
import domindex
from tests.stage import Heard

with domindex.connect(timeout={PATIENCE}) as index:
    os.setgroups([])
    os.setresgid({NOBODY}, {NOBODY}, {NOBODY})
    os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
    try:
        open("/dev/xen/privcmd", "rb")
    except PermissionError:
        print("dropped", flush=True)
    heard = Heard()
    index.subscribe(heard)
    heard.until((domindex.Added, domindex.Renamed), name="web")
    domain = index.by_name("web")
    print(index.by_name("web", verify=True).domid, index.info(domain.domid).state, flush=True)
    heard.until(domindex.Removed, domid=domain.domid)
    index.refresh(timeout={PATIENCE})
    print(len(index), index.live, flush=True)
"""


def test_xenbus_as_transport() -> None:
    """The kernel's device serves as well as the socket: births, renames, deaths, a barrier."""
    with stage_by("xenbus") as stage, stage.index() as (index, heard):
        domid = stage.toolstack.create("web")
        heard.named(domid, "web")
        for number in range(20):
            stage.toolstack.rename(domid, f"web-{number}")
            index.refresh(timeout=PATIENCE)
            assert index.by_name(f"web-{number}").domid == domid
        heard.until(Renamed, name="web-19")
        stage.toolstack.destroy(domid)
        heard.until(Removed, domid=domid)
        assert index.live


def test_privileges_dropped_after_connect() -> None:
    """P12: once open, the index goes on as nobody: events, verified look-ups, info, refresh."""
    with stage_by() as stage:
        child = subprocess.Popen([sys.executable, "-c", DROPPED], stdout=subprocess.PIPE, text=True)
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "dropped\n"
            domid = stage.toolstack.create("web")
            assert child.stdout.readline() == f"{domid} paused\n"
            stage.toolstack.destroy(domid)
            assert child.stdout.readline() == "1 True\n"
            assert child.wait(timeout=PATIENCE) == 0
        finally:
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()


def test_check_on_a_real_host() -> None:
    """`domindex check` finds everything in order."""
    command = [sys.executable, "-m", "domindex", "check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Xen 4." in done.stdout


def test_a_listener_hears_what_direct_sees() -> None:
    """`direct` and the index give the same records but for when they were first seen."""
    with stage_by() as stage:
        made = [stage.toolstack.create(name) for name in ("a", "b", None)]
        with stage.index() as (index, _), domindex.direct.open() as look:
            for domain in look.all():
                held = index.by_id(domain.domid)
                assert (held.name, held.uuid, held.type) == (domain.name, domain.uuid, domain.type)
            assert look.by_name("b").domid == made[1]
            assert look.by_uuid(index.by_id(made[0]).uuid).name == "a"
            assert look.os_type(made[2]) is domindex.OSType(KINDS[0])
