"""From the arguments to a store and a reader, and from their errors to a sentence and a status.

Read after commands.py; next forms.py, then the commands.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from typing import Final

from domindex.cli.arguments import Failure
from domindex.cli.fleet.commands import PATIENCE, URL_VARIABLE
from domindex.cli.fleet.forms import candidate
from domindex.cli.waiting import TIME_IS_UP
from domindex.errors import TimedOut
from domindex.fleet import (
    AlreadyPublishing,
    Fenced,
    Fleet,
    HostIsLive,
    HostTaken,
    InvalidHost,
    InvalidUrl,
    NoSuchHost,
    SeveralFound,
    Superseded,
    Tls,
    connect,
)
from domindex.fleet.opening import open_engine
from domindex.fleet.ports import TIMEOUT, Engine

_NO = (NoSuchHost, HostIsLive, HostTaken, AlreadyPublishing, Fenced)
TAKEN_OVER: Final = 4
"""The exit status of a publisher that another one has replaced: not to be started again."""
_LEAST = 0.1  # seconds for one request


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """Make what only a fleet raises a `Failure`; the program knows the rest."""
    try:
        yield
    except SeveralFound as error:
        lines = [f"{error.key!r} may be any of {len(error.found)} domains; choose with --host"]
        raise Failure(1, "\n".join([*lines, *map(candidate, error.found)])) from error
    except _NO as error:
        raise Failure(1, str(error)) from error
    except Superseded as error:
        raise Failure(TAKEN_OVER, str(error)) from error
    except (InvalidUrl, InvalidHost) as error:
        raise Failure(2, str(error)) from error
    except TimedOut as error:
        raise Failure(TIME_IS_UP, f"the time is up: {error}") from error


@contextlib.contextmanager
def store_of(args: argparse.Namespace) -> Iterator[Engine]:
    """The store that the arguments name, or that of the simulated fleet.

    One request takes no longer than --timeout: else a frozen server would hold up the end, too.

    Args:
        args: Of a command of the fleet.

    Raises:
        Failure: No store was named, its packages are missing, or the certificates are not given
            as they must be.
    """
    if args.simulated:
        from domindex.cli.fleet.demo import demo_store

        with demo_store() as store:
            yield store.connect()
        return
    engine = open_store(url_of(args), tls_of(args), min(TIMEOUT, patience(args)))
    try:
        yield engine
    finally:
        engine.close()


@contextlib.contextmanager
def reader_of(args: argparse.Namespace) -> Iterator[Fleet]:
    """A reader that is live.

    Args:
        args: Of a command of the fleet.

    Raises:
        Failure: As `store_of`.
        EngineError: The store refuses, or did not answer within --timeout.
        TimedOut: It was not read within --timeout, and nothing says why.
    """
    with store_of(args) as engine, connect(engine, timeout=patience(args)) as fleet:
        yield fleet


def open_store(url: str, tls: Tls | None, timeout: float = TIMEOUT) -> Engine:
    """The store that a URL names. Nothing is sent yet.

    Args:
        url: Where it is.
        tls: Certificates, None for none.
        timeout: Seconds for one request.

    Raises:
        Failure: The packages for it are missing.
        InvalidUrl: It names no store.
    """
    try:
        return open_engine(url, tls=tls, timeout=max(timeout, _LEAST))
    except ImportError as error:
        raise Failure(
            3,
            "a fleet on etcd needs more packages: pip install '.[fleet]' in a checkout; Debian has "
            f"python3-grpcio, and aetcd is on PyPI ({error})",
        ) from error


def url_of(args: argparse.Namespace) -> str:
    """The URL that was given, or that of the environment. Raises Failure if there is none."""
    if url := args.url or os.environ.get(URL_VARIABLE):
        return str(url)
    raise Failure(
        2,
        f"which store? Set {URL_VARIABLE} to etcd://HOST:PORT, or give that: to publish as it is, "
        "to fleet with --url",
    )


def tls_of(args: argparse.Namespace) -> Tls | None:
    """The certificates that were given, or those of the environment. Raises Failure."""
    ca, cert, key = (
        given or os.environ.get(f"{URL_VARIABLE}_{name}") or None
        for given, name in ((args.ca, "CA"), (args.cert, "CERT"), (args.key_file, "KEY"))
    )
    if ca is cert is key is None:
        return None
    try:
        return Tls(ca, cert, key)
    except ValueError:
        raise Failure(2, "--cert and --key are given both, or neither") from None


def patience(args: argparse.Namespace) -> float:
    """Seconds in which the store must have answered."""
    return PATIENCE if args.timeout is None else float(args.timeout)
