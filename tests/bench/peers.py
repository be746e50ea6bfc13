"""What else answers on a Xen host. Each is opened if it is there, and else listed with the reason.

All of them only read, libvirt by its read-only socket. Read after ours.py; next measures.py.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final

from tests.bench.questions import (
    BY_ID,
    BY_NAME,
    BY_UUID,
    DICT,
    HYPERCALL,
    NAMES,
    NO_NAME,
    OS_TYPE,
    ROUND_TRIP,
)
from tests.bench.subject import ABSENT, Subject
from tests.bench.ways import Missing, Peer, Way

_TIME_LIMIT: Final = 120.0
_LIBVIRT_URI: Final = "xen:///system"


def _name(subject: Subject) -> bytes:
    return os.fsencode(subject.name)


def open_scan(subject: Subject, stack: ExitStack) -> Mapping[str, object]:
    """xen.lowlevel.xs: Xen's own binding of libxenstore."""
    try:
        module: Any = importlib.import_module("xen.lowlevel.xs")
    except ImportError:
        raise Missing("this Python cannot import xen.lowlevel.xs") from None
    try:
        store = module.xs()
    except Exception as error:
        raise Missing(f"xen.lowlevel.xs cannot reach xenstored ({error})") from None
    stack.callback(store.close)

    def scan(name: str) -> str | None:
        for domid in store.ls("", "/local/domain") or ():
            if store.read("", f"/local/domain/{domid}/name") == name:
                return str(domid)
        return None

    path = f"/local/domain/{subject.target.domid}/name"
    scope = {"scan": scan, "read": store.read, "path": path}
    return {**scope, "name": subject.name, "absent": ABSENT}


SCAN: Final = Peer(
    (
        Way(BY_NAME, "a scan by xen.lowlevel.xs", "scan(name)", "reads until it hits", NAMES),
        Way(NO_NAME, "a scan by xen.lowlevel.xs", "scan(absent)", "n reads", NAMES),
        Way(BY_ID, "a read by xen.lowlevel.xs", "read('', path)", "1 read", ROUND_TRIP),
    ),
    open_scan,
)


def open_libxl(subject: Subject, stack: ExitStack) -> Mapping[str, object]:
    """libxenlight, in this process."""
    try:
        from tests.bench.libxl import Libxl

        library = Libxl()
    except (ImportError, OSError, AttributeError) as error:
        raise Missing(f"libxenlight cannot be used: {error}") from None
    stack.callback(library.close)
    calls = {"to_domid": library.name_to_domid, "to_name": library.domid_to_name}
    keys = {"name": _name(subject), "absent": ABSENT.encode(), "domid": subject.target.domid}
    return {**calls, **keys}


_LIBXL_HIT: Final = "1 hypercall, reads until it hits, one by one"
_LIBXL_MISS: Final = "1 hypercall, n reads, one by one"
LIBXL: Final = Peer(
    (
        Way(BY_NAME, "libxl_name_to_domid", "to_domid(name)", _LIBXL_HIT, NAMES),
        Way(NO_NAME, "libxl_name_to_domid", "to_domid(absent)", _LIBXL_MISS, NAMES),
        Way(BY_ID, "libxl_domid_to_name", "to_name(domid)", "1 read", ROUND_TRIP),
    ),
    open_libxl,
)


def open_xl(subject: Subject, _: ExitStack) -> Mapping[str, object]:
    """The `xl` command."""
    program = shutil.which("xl")
    if program is None:
        raise Missing("there is no xl in the PATH")
    if subject.name.startswith("-") or subject.name.isdigit():
        raise Missing(f"xl would take {subject.name!r} for an option or a domid")

    def xl(*arguments: bytes | str) -> None:
        subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIME_LIMIT,
            check=arguments[1] != ABSENT,
        )

    domid = str(subject.target.domid)
    return {"xl": xl, "name": _name(subject), "absent": ABSENT, "domid": domid}


XL: Final = Peer(
    (
        Way(BY_NAME, "xl domid NAME", "xl('domid', name)", f"a process, {_LIBXL_HIT}", NAMES),
        Way(NO_NAME, "xl domid NAME", "xl('domid', absent)", f"a process, {_LIBXL_MISS}", NAMES),
        Way(BY_ID, "xl domname DOMID", "xl('domname', domid)", "a process, 1 read", ROUND_TRIP),
    ),
    open_xl,
)


def open_libvirt(subject: Subject, stack: ExitStack) -> Mapping[str, object]:
    """libvirt, if a daemon with the driver for Xen answers.

    It knows dom0 and the domains that were made through it. Where it does not know the target, it
    is asked for another domain.
    """
    try:
        libvirt: Any = importlib.import_module("libvirt")
    except ImportError:
        raise Missing("this Python cannot import libvirt") from None
    libvirt.registerErrorHandler(lambda *_: None, None)  # it would print each miss
    try:
        connection = libvirt.openReadOnly(_LIBVIRT_URI)
    except libvirt.libvirtError as error:
        raise Missing(f"libvirt cannot open {_LIBVIRT_URI} ({error})") from None
    stack.callback(connection.close)
    note = ""
    try:
        domain = connection.lookupByName(subject.name)
    except libvirt.libvirtError:
        known = connection.listAllDomains()
        if not known:
            raise Missing("libvirt knows none of these domains: it did not make them") from None
        domain = known[0]
        note = (
            f"knows {len(known)} of {len(subject.domains)} domains, and was asked for one of them"
        )
    return {
        "connection": connection,
        "domain": domain,
        "libvirtError": libvirt.libvirtError,
        "name": domain.name(),
        "uuid": domain.UUIDString(),
        "domid": domain.ID(),
        "absent": ABSENT,
        "note": note,
    }


_RPC: Final = "1 request to libvirtd"
LIBVIRT: Final = Peer(
    (
        Way(BY_NAME, "libvirt lookupByName", "connection.lookupByName(name)", _RPC, DICT),
        Way(
            *(NO_NAME, "libvirt lookupByName"),
            "try:\n    connection.lookupByName(absent)\nexcept libvirtError:\n    pass",
            *(_RPC, DICT),
        ),
        Way(BY_ID, "libvirt lookupByID", "connection.lookupByID(domid)", _RPC, DICT),
        Way(
            *(BY_UUID, "libvirt lookupByUUIDString", "connection.lookupByUUIDString(uuid)"),
            *(_RPC, DICT),
        ),
        Way(OS_TYPE, "libvirt OSType", "domain.OSType()", f"{_RPC}, 1 hypercall", HYPERCALL),
    ),
    open_libvirt,
)


def open_xend(_: Subject, __: ExitStack) -> Mapping[str, object]:
    """XenD, the daemon that managed domains before Xen 4.5."""
    raise Missing("XenD is gone: Xen 4.5 came without it")


XEND: Final = Peer((Way(BY_NAME, "XenD", "", "1 request to a daemon"),), open_xend)

PEERS: Final = (SCAN, LIBXL, XL, LIBVIRT, XEND)


def not_asked(peer: Peer) -> Peer:
    """The same peer, listed and not tried, for a host without Xen."""

    def opened(_: Subject, __: ExitStack) -> Mapping[str, object]:
        raise Missing("it needs a Xen host")

    return Peer(peer.ways, peer.open if peer is XEND else opened)
