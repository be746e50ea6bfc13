"""A libvirtd in dom0, without systemd, that knows the domains of the tests' toolstack.

libvirt's driver for Xen knows dom0 and the domains that it made. It finds those again, when it
starts, by files that it wrote for each. Here these files are written for the tests' domains, so
that it manages them too. Read after in_dom0.py; next results.py.

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
    """While it runs. Yields a sentence: how many domains it knows, or why it does not answer."""
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
    failure = "it did not start"
    while time.monotonic() < deadline and daemon.poll() is None:
        try:
            connection = module.openReadOnly("xen:///system")
        except module.libvirtError as error:
            failure = str(error)
            time.sleep(0.2)
            continue
        known = len(connection.listAllDomains())
        version = connection.getLibVersion()
        connection.close()
        return f"libvirt {version} knows {known} domains"
    log = _LOG.read_text() if _LOG.exists() else ""
    return f"libvirtd does not answer: {failure}; {log[-1000:]}"


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
