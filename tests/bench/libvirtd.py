"""A libvirtd in dom0, without systemd, that knows the domains of the tests' toolstack.

libvirt's driver for Xen knows what it made, and dom0. What it keeps of a domain that it made is
put where a libvirtd that starts looks for it: then it takes the domain for its own again.

Sources: libxlReconnectDomain in src/libxl/libxl_driver.c of libvirt, libxl__userdata_path in
tools/libs/light/libxl_dom.c of Xen.
"""

from __future__ import annotations

import importlib
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from domindex import Domain

_PATIENCE = 300.0
_STATE = Path("/run/libvirt/libxl")
_USERDATA = Path("/var/lib/xen")
_LOG = Path("/run/libvirtd.log")


@contextmanager
def libvirtd(guests: Iterable[Domain]) -> Iterator[str]:
    """While it runs; what it says of itself. It may be of no use: then that says why."""
    _STATE.mkdir(parents=True, exist_ok=True)
    for guest in guests:
        (_STATE / f"{guest.name}.xml").write_text(_status(guest))
        userdata = _USERDATA / f"userdata-d.{guest.domid}.{guest.uuid}.libvirt-xml"
        userdata.write_text("<domain/>")
    # Each domain has a log that it keeps open; its unit for systemd sets this limit too.
    command = ["sh", "-c", "ulimit -n 8192; exec libvirtd"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as daemon:
        try:
            yield _wait(daemon)
        finally:
            daemon.terminate()
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()


def _wait(daemon: subprocess.Popen[bytes]) -> str:
    module: Any = importlib.import_module("libvirt")  # is in dom0 only
    module.registerErrorHandler(lambda *_: None, None)
    deadline = time.monotonic() + _PATIENCE
    said = "it was not asked"
    while time.monotonic() < deadline and daemon.poll() is None:
        try:
            connection = module.openReadOnly("xen:///system")
        except module.libvirtError as error:
            said = str(error)
            time.sleep(0.2)
            continue
        known = len(connection.listAllDomains())
        version = connection.getLibVersion()
        connection.close()
        return f"libvirt {version} knows {known} domains"
    log = _LOG.read_text() if _LOG.exists() else ""
    return f"libvirtd does not answer: {said}; {log[-1000:]}"


def _status(guest: Domain) -> str:
    return f"""\
<domstatus state='paused' reason='user' pid='0'>
  <domain type='xen' id='{guest.domid}'>
    <name>{guest.name}</name>
    <uuid>{guest.uuid}</uuid>
    <memory unit='KiB'>1024</memory>
    <vcpu>1</vcpu>
    <os><type arch='x86_64' machine='xenpv'>linux</type><kernel>/guests/idle</kernel></os>
  </domain>
</domstatus>
"""
