"""`wait`: until a domain is there, is ready, has stopped or is gone.

Read after watching.py; next checking.py.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from typing import Final, TextIO, TypeVar

from domindex.cli.arguments import PATIENCE, Commands, Failure, add_key, seconds
from domindex.cli.as_json import as_json, print_json, reason_json
from domindex.cli.as_text import reason_word
from domindex.cli.demo import stirred
from domindex.domain import Domain, ShutdownReason
from domindex.errors import Ambiguous, NoSuchDomain, NotLive, TimedOut
from domindex.index import Index
from domindex.keys import as_typed
from domindex.limits import as_seconds
from domindex.opening import connect
from domindex.ports import Host

T = TypeVar("T")

TIME_IS_UP: Final = 124
"""The exit status, as of timeout(1)."""

_LOOK_AGAIN: Final = 1.0
"""Seconds after which a look is repeated though the index has not changed."""

_GRACE: Final = 10.0
"""Seconds in which another domain may take the place of one that ended, as after a reboot."""

_CONDITIONS = f"""\
A domain that is not there yet is waited for. Without --ready, --stopped or
--gone the command waits until a domain has KEY.

It prints the domid; with --stopped the reason, such as poweroff, reboot or
crash; with --gone nothing.

The status is 1 if the domain is gone for good. That is so when it has ended and
no other one had KEY in the {_GRACE:.0f} seconds after that, as there is after a reboot;
with --stopped, when it has ended and nothing says why. The status is {TIME_IS_UP} when
the time is up."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("wait", wait, "wait for a domain", _CONDITIONS)
    add_key(parser)
    until = parser.add_mutually_exclusive_group()
    for word, text in (
        ("ready", "until it runs under its final name"),
        ("stopped", "until it has shut down, was saved or has crashed"),
        ("gone", "until it has ended; at once if no domain has KEY"),
    ):
        until.add_argument(f"--{word}", dest="until", action="store_const", const=word, help=text)
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, help="how long to wait (default: for ever)"
    )


def wait(host: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Wait, and print what the wait has found."""
    deadline = time.monotonic() + as_seconds(args.timeout)
    with connect(host, timeout=max(PATIENCE, args.timeout or 0.0)) as index, stirred(host, args):
        waiting = _Waiting(index, args.key, deadline)
        answer: object
        text: str | None
        if args.until == "gone":
            found = waiting.gone()
            answer, text = {"domain": found and as_json(found)}, None
        elif args.until == "stopped":
            stopped, reason = waiting.stopped()
            answer = {"domain": as_json(stopped), "reason": reason_json(reason)}
            text = reason_word(reason)
        else:
            there = waiting.there(ready=args.until == "ready")
            answer, text = as_json(there), str(there.domid)
    if args.json:
        print_json(answer, out)
    elif text is not None:
        print(text, file=out)
    return 0


class _Waiting:
    """Waits for the domain that has a KEY.

    Args:
        index: Where it is looked up.
        key: What the user typed.
        deadline: On the monotonic clock.
    """

    def __init__(self, index: Index, key: str, deadline: float) -> None:
        self._index, self._key, self._deadline = index, key, deadline
        self._seen: Domain | None = None  # the last domain that had the key
        self._missed = 0.0  # since when no domain has it, on the monotonic clock

    def there(self, *, ready: bool) -> Domain:
        """The domain, once it is there, or is ready.

        Raises:
            Failure: It is not by the deadline, or there was one and it is gone for good.
            NotLive: By the deadline it cannot be told.
            Ambiguous: Several domains have the key, or are ready.
        """
        return self._until(lambda: self._holder(ready))

    def stopped(self) -> tuple[Domain, ShutdownReason]:
        """The domain, once it has stopped, and why. Raises what `there` raises."""
        domain = self.there(ready=False)
        try:
            return domain, self._index.wait_stopped(domain, timeout=self._left())
        except TimedOut:
            raise _time_is_up(f"{_told(domain)} still runs") from None
        except NoSuchDomain:
            raise self._gone_for_good(domain, "nothing says why it stopped") from None

    def gone(self) -> Domain | None:
        """The domain, once it has ended. None if there is none. Raises Failure, NotLive."""
        try:
            domain = self._index.resolve(self._key)
        except NoSuchDomain:
            return None
        try:
            self._index.wait_gone(domain, timeout=self._left())
        except TimedOut:
            raise _time_is_up(f"{_told(domain)} has not ended") from None
        return domain

    def _holder(self, ready: bool) -> Domain | None:
        """The domain that has the key now and is as it is waited for; else None."""
        try:
            domain = self._index.resolve(self._key)
        except Ambiguous as error:
            # At the end of a local migration both ends have one uuid, and one of them is ready.
            able = [domain for domain in error.domains if domain.ready]
            if not ready or len(able) > 1:
                raise
            return able[0] if able else None
        except NoSuchDomain:
            if self._seen is not None and self._seen not in self._index:
                self._missed = self._missed or time.monotonic()
                one_life = as_typed(self._key)[:2] == (None, None)  # a domid: none takes its place
                if one_life or time.monotonic() - self._missed >= _GRACE:
                    raise self._gone_for_good(self._seen, "none took its place") from None
            return None
        self._missed = 0.0
        if domain.name is not None or self._seen is None or self._seen.life != domain.life:
            self._seen = domain  # else it is about to end, and libxl has taken its name away
        return domain if domain.ready or not ready else None

    def _until(self, look: Callable[[], T | None]) -> T:
        """What `look` returns, once it returns something. It looks after each change."""
        while True:
            generation = self._index.generation
            cannot_tell: NotLive | None = None
            try:
                found = look()
            except NotLive as error:  # the line is down for a while, or a name cannot be read
                cannot_tell = error
            else:
                if found is not None:
                    return found
            if (left := self._left()) <= 0:
                seen = self._seen and f"{_told(self._seen)} is not ready"
                raise cannot_tell or _time_is_up(seen or f"no domain has {self._key!r}")
            with contextlib.suppress(TimedOut, NotLive):
                self._index.wait_generation(generation + 1, timeout=min(left, _LOOK_AGAIN))

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _gone_for_good(self, domain: Domain, why: str) -> Failure:
        return Failure(1, f"{_told(domain)} is gone, and {why}")


def _told(domain: Domain) -> str:
    return f"domain {domain.domid} ({domain.printable})"


def _time_is_up(what: str) -> Failure:
    return Failure(TIME_IS_UP, f"the time is up: {what}")
