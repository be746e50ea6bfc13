"""Does in dom0 what a test outside asks for: a request a line comes in, an answer a line goes out.

    {"do": "create", "with": ["web"]}          the name of a method of `Remote`, and its arguments
    ANSWER {"value": 3}                        what it returned; or {"error": ...}, a traceback

It says `ANSWER` once by itself, when it listens. Other lines are those of what it has started.
`outside/dom0.py` is the other end.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import traceback
from typing import Any
from uuid import UUID

import domindex
from tests.stage import PATIENCE, Stage

from . import xl
from .toolstack import RealHost

ANSWER = "ANSWER "


class Remote:
    """What can be asked for."""

    def __init__(self) -> None:
        self._toolstack = RealHost()
        self._publisher: subprocess.Popen[bytes] | None = None

    def publish(self, *arguments: str) -> None:
        """Start `domindex publish` as users do. It says itself when the host is published."""
        assert self._publisher is None
        command = [sys.executable, "-W", "error", "-m", "domindex", "publish", *arguments]
        self._publisher = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sys.stdout, stderr=sys.stdout
        )

    def end_publisher(self, by: str | None) -> int:
        """End it by a signal, or have it end by itself; its exit status."""
        assert self._publisher is not None
        if by is not None:
            self._publisher.send_signal(signal.Signals[by])
        publisher, self._publisher = self._publisher, None
        return publisher.wait(PATIENCE)

    def network(self, how: str) -> None:
        """Take its network away, "down", or give it back, "up"."""
        subprocess.run(["ip", "link", "set", "eth0", how], check=True, timeout=PATIENCE)

    def create(self, name: str, uuid: str, domid: int | None = None) -> int:
        """Make a domain; its domid."""
        return self._toolstack.create(name, uuid=UUID(uuid), domid=domid)

    def rename(self, domid: int, name: str) -> None:
        """Give it another name."""
        self._toolstack.rename(domid, name)

    def shut_down(self, domid: int, reason: int) -> None:
        """It stops, and stays."""
        self._toolstack.shutdown(domid, reason)

    def destroy(self, domid: int) -> None:
        """End a domain of `create`'s."""
        self._toolstack.destroy(domid)

    def xl(self, *arguments: str) -> str:
        """What `xl` prints."""
        return xl.run(*arguments)

    def xl_create(self, name: str, uuid: str) -> int:
        """Make a domain by `xl`, which runs; its domid."""
        return xl.create(name, "pvh", uuid=UUID(uuid), paused=False)

    def xl_migrate(self, domid: int) -> None:
        """Have a domain of `xl_create`'s migrate to this very host."""
        from .test_xl_moves import suspends

        with suspends(Stage(domindex.XenHost(), self._toolstack, real=True), domid):
            xl.migrate(domid)

    def domains(self) -> dict[int, tuple[str, str]]:
        """Name and uuid of each domain but dom0, by domid: what `xl` says, and no index."""
        listed = xl.list_with_uuids().items()
        return {domid: (name, str(uuid)) for domid, (name, uuid) in listed if domid}

    def close(self) -> None:
        """End all that was started and made."""
        if self._publisher is not None:
            self.end_publisher("SIGKILL")
        self._toolstack.close()
        xl.clear()


def main() -> None:
    """Until there is an empty request."""
    remote = Remote()
    print(f"{ANSWER}{{}}", flush=True)
    while (line := sys.stdin.readline()).strip():
        request = json.loads(line)
        answer: dict[str, Any]
        try:
            answer = {"value": getattr(remote, request["do"])(*request["with"])}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(f"\n{ANSWER}{json.dumps(answer)}", flush=True)
    remote.close()


if __name__ == "__main__":
    main()
