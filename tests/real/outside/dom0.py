"""A booted real host on which a test acts step by step, from outside.

The host boots in a thread and does what it is asked for until the block is left. Requests go in by
its serial line and answers come out, as `inside/remote.py` says. Read after `real_host.py`; next
`test_published.py`.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from typing import Any, Self
from uuid import NAMESPACE_DNS, uuid5

from tests.real.build.dependencies import fleet_site
from tests.real.build.host import RELEASES
from tests.real.inside.remote import ANSWER
from tests.real.outside.real_host import TIME_LIMIT, build_wheel, in_dom0

PATIENCE = 180.0
"""Seconds for one request, on an emulated processor that others use, too."""


class Dom0:
    """A host, and a fleet's packages on it.

    port: of the loopback, which it can reach.
    said: lines of what it has started; may be emptied.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.said: list[str] = []
        self._port = port
        self._late = False
        self._news = threading.Condition()
        self._answers = queue.Queue[dict[str, Any] | BaseException]()
        self._stdin, self._requests = os.pipe()
        # A daemon: the emulator ends with the thread that started it.
        self._thread = threading.Thread(target=self._run, name=f"dom0 of {host}", daemon=True)

    def start(self) -> None:
        """Begin to boot."""
        build_wheel()  # here, as only one thread can
        self._thread.start()

    def wait_ready(self) -> None:
        """Until it listens. Raises HostUnavailable, BootFailed."""
        self._answer(2 * TIME_LIMIT)  # packages may have to be fetched before it boots

    def do(self, what: str, *arguments: Any) -> Any:
        """Have `Remote` do this; what it returned. Fails with the traceback of dom0."""
        self._send(json.dumps({"do": what, "with": arguments}))
        return self._answer(PATIENCE)

    def wait_until_said(self, text: str) -> None:
        """Until one of the lines in `said` has that text."""

        def has() -> bool:
            return any(text in line for line in self.said)

        with self._news:
            assert self._news.wait_for(has, PATIENCE), f"no {text!r}; {self._last_words()}"

    def close(self) -> None:
        """End the host."""
        if self._thread.is_alive():
            self._send("")
            self._thread.join(PATIENCE)
            assert not self._thread.is_alive(), f"{self.host} does not end; {self._last_words()}"
        os.close(self._requests)
        os.close(self._stdin)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, line: str) -> None:
        os.write(self._requests, f"{line}\n".encode())

    def _answer(self, timeout: float) -> Any:
        assert not self._late, f"{self.host} has not answered before"
        try:
            answer = self._answers.get(timeout=timeout)
        except queue.Empty:
            self._late = True  # what it may answer yet would be taken for an answer to the next
            raise AssertionError(f"{self.host} does not answer; {self._last_words()}") from None
        if isinstance(answer, BaseException):
            self._answers.put(answer)  # for whoever asks next, too
            raise answer
        assert "error" not in answer, answer["error"]
        return answer.get("value")

    def _last_words(self) -> str:
        return "\n".join(["it said last:", *self.said[-40:]])

    def _line(self, line: str) -> None:
        if line.startswith(ANSWER):
            self._answers.put(json.loads(line.removeprefix(ANSWER)))
        else:
            with self._news:
                self.said.append(line)
                self._news.notify_all()

    def _run(self) -> None:
        release = RELEASES[self.host]
        try:
            in_dom0(
                self.host,
                f"network-start && python3 -m tests.real.inside.remote <{release.machine.line}",
                overlay={
                    **fleet_site(release),
                    # Each installation has one: it tells a machine that returns from another one.
                    "etc/machine-id": f"{uuid5(NAMESPACE_DNS, self.host).hex}\n".encode(),
                },
                on_line=self._line,
                stdin=self._stdin,
                port=self._port,
            )
        except BaseException as error:
            self._answers.put(error)
        else:
            self._answers.put(AssertionError(f"{self.host} has ended; {self._last_words()}"))
