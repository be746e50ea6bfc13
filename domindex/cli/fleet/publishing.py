"""`publish`: this host in a fleet, until a signal ends it.

Read after ruling.py; next checking.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import signal
import sys
from collections.abc import Iterator
from typing import Final, NoReturn, TextIO

from domindex.cli.arguments import PATIENCE, Failure
from domindex.cli.demo import stirred
from domindex.cli.fleet.opening import open_store, tls_of, url_of
from domindex.domain import fit_for_terminal
from domindex.errors import DomindexError
from domindex.fleet import joining
from domindex.fleet.machine import host_name
from domindex.fleet.ports import Engine
from domindex.opening import connect
from domindex.ports import Host

log: logging.Logger = logging.getLogger("domindex")

_STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Stopped(BaseException):
    """A signal asks for the end. No error: nothing but `publish` may catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def publish(host: Host, args: argparse.Namespace, _: TextIO) -> int:
    """Publish until a signal comes. SIGTERM is how that is meant to end, and has status 0."""
    url, tls = url_of(args), tls_of(args)
    with _logged(as_json=args.json):
        try:
            with _stoppable():
                _publish(host, args, open_store(url, tls))
        except _Stopped as stopped:
            if stopped.number == signal.SIGINT:
                raise KeyboardInterrupt from None
        except DomindexError:
            raise
        except OSError as error:  # of the lock file: not of the output, as the program would think
            raise Failure(3, f"this host cannot be published: {error}") from error
        except (ValueError, TypeError) as error:
            raise Failure(2, str(error)) from error
    return 0


def _publish(host: Host, args: argparse.Namespace, engine: Engine) -> None:
    name = host_name() if args.host is None else args.host
    with (
        contextlib.closing(engine),
        connect(host, timeout=PATIENCE) as index,
        stirred(host, args),
        joining.publish(
            index,
            engine,
            host=name,
            ttl=args.ttl,
            timeout=args.timeout,
            # A simulated host is not this machine: several may be published, beside the real one.
            machine=f"simulated {name}" if args.simulated else None,
            lock=not args.simulated,
        ) as publisher,
    ):
        log.info("host %s is published", publisher.host)
        publisher.wait()


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Have the first signal raise _Stopped, and ignore all after it: the lease is given back."""

    def stop(number: int, _: object) -> NoReturn:
        for one in before:
            signal.signal(one, signal.SIG_IGN)
        raise _Stopped(number)

    # What is ignored stays so: nohup ignores SIGHUP, a shell SIGINT for what is behind an "&".
    before = {one: signal.getsignal(one) for one in _STOPS}
    before = {one: how for one, how in before.items() if how is not signal.SIG_IGN}
    for one in before:
        signal.signal(one, stop)
    try:
        yield
    finally:
        for one, how in before.items():
            signal.signal(one, how)


@contextlib.contextmanager
def _logged(*, as_json: bool) -> Iterator[None]:
    """Write what the package logs to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(as_json))
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # nobody reads it
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)


class _Lines(logging.Formatter):
    """A record as one line, or as several if it has a traceback, which can control no terminal."""

    def __init__(self, as_json: bool) -> None:
        super().__init__("domindex: %(message)s")
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """As logging.Formatter."""
        if not self._as_json:
            return "\n".join(map(fit_for_terminal, super().format(record).split("\n")))
        fields = {"time": record.created, "level": record.levelname.lower()}
        return json.dumps({**fields, "message": record.getMessage()})
