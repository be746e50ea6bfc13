"""The figures that only a real host can give. Runs in its dom0; prints JSON lines.

Everything there is emulated and some 50 times slower than it looks: only the ratios count.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import struct
import sys
from collections.abc import Callable

import domindex
from domindex import _privcmd
from domindex.hypercall import PrivcmdHypervisor
from tests.dom0.toolstack import RealHost
from tests.figures.measure import Figure, in_turns

DOMAINS = 300
ROUNDS = 7
HEADER = struct.Struct("=IIII")
READ, WATCH, EVENT = 2, 4, 15


def main() -> int:
    host = RealHost()
    try:
        made = [host.create(f"vm-{number}") for number in range(DOMAINS)]
        for figure in (verified(made[-1]), first_sync(made)):
            print("FIGURE", json.dumps(dataclasses.asdict(figure)), flush=True)
    finally:
        host.close()
    return 0


def verified(domid: int) -> Figure:
    """A verified hit by name against the hypercall it makes, called bare."""
    with domindex.connect(timeout=120) as index:
        name = index.by_id(domid).name
        assert name is not None
        bare = BareList()

        def many(call: Callable[[], object]) -> Callable[[], None]:
            def run() -> None:
                for _ in range(50):
                    call()

            return run

        ours, floor = in_turns(
            many(lambda: index.by_name(name, verify=True)), many(lambda: bare(domid)), 40
        )
        bare.close()
    return Figure(
        "`by_name(name, verify=True)` hit",
        "the bare list hypercall of that domain",
        ours / floor,
        1.5,
        f"{ours / 50 * 1e6:.0f} us against {floor / 50 * 1e6:.0f} us, emulated, {DOMAINS} domains",
    )


class BareList:
    """One list hypercall for one domain, with nothing around it."""

    def __init__(self) -> None:
        # Opened and probed by the library; from there on only its prepared call is used.
        self._hypervisor = PrivcmdHypervisor()
        one = self._one = self._hypervisor._take_spare()
        self._header, self._prepared = one.header, one.prepared
        self._fd = self._hypervisor._privcmd._fd

    def __call__(self, domid: int) -> int:
        self._header.first_domain = domid
        return _privcmd.libc.ioctl(self._fd, _privcmd.IOCTL_HYPERCALL, self._prepared)

    def close(self) -> None:
        self._hypervisor.close()


def first_sync(domids: list[int]) -> Figure:
    """`connect()` and all that it does, against the bare watches and reads."""

    def ours() -> None:
        domindex.connect(timeout=300).close()

    mine, floor = in_turns(ours, lambda: bare_sync([0, *domids]), ROUNDS)
    return Figure(
        f"first sync of {DOMAINS} domains",
        "a bare client that pipelines the same watches and reads",
        mine / floor,
        1.25,
        f"{mine * 1e3:.0f} ms against {floor * 1e3:.0f} ms, emulated",
    )


def bare_sync(domids: list[int]) -> None:
    """Set the watches, then read the names, all pipelined on one connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect("/run/xenstored/socket")
        paths = [b"/local/domain/%d/name\0" % domid for domid in domids]
        watches = [(WATCH, path + b"life/%d\0" % number) for number, path in enumerate(paths)]
        special = [(WATCH, b"@introduceDomain\0i\0"), (WATCH, b"@releaseDomain\0r\0")]
        talk(line, special + watches)
        talk(line, [(READ, path) for path in paths])


def talk(line: socket.socket, requests: list[tuple[int, bytes]]) -> None:
    """Send all, and take replies and events in as they come, until each is answered."""
    packets = [HEADER.pack(op, n, 0, len(body)) + body for n, (op, body) in enumerate(requests, 1)]
    unsent, unanswered, received = b"".join(packets), len(requests), b""
    line.setblocking(False)
    while unanswered:
        if unsent:
            with contextlib.suppress(BlockingIOError):
                unsent = unsent[line.send(unsent) :]
        else:
            line.setblocking(True)
        try:
            received += line.recv(1 << 16)
        except BlockingIOError:
            os.sched_yield()
            continue
        at = 0
        while len(received) - at >= HEADER.size:
            kind, _, _, length = HEADER.unpack_from(received, at)
            if len(received) - at < HEADER.size + length:
                break
            at += HEADER.size + length
            unanswered -= kind != EVENT
        received = received[at:]


if __name__ == "__main__":
    sys.exit(main())
