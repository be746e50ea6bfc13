"""The program `domindex`: runs one command, and turns whatever happens into an exit status.

Read after parser.py.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Final, TextIO

from domindex.cli.arguments import Failure
from domindex.cli.parser import build_parser
from domindex.domain import fit_for_terminal
from domindex.errors import Ambiguous, DomindexError, InvalidKey, NoSuchDomain
from domindex.opening import XenHost
from domindex.ports import Host

_INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None, host: Host | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments after the name of the program. None takes those of this process.
        host: The host, for tests. None takes the one that the arguments choose.

    Returns:
        The exit status, as in `domindex --help`.
    """
    try:
        out = _output()
        try:
            status = _run(argv, host, out)
            out.flush()
        except BrokenPipeError:  # as in `domindex list | head -2`: the reader has what it wanted
            _discard(out)
            return 0
        except OSError as error:  # a full disk, a closed descriptor
            _discard(out)
            return _complain(f"the output cannot be written: {error.strerror or error}", 3)
        return status
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run(argv: Sequence[str] | None, host: Host | None, out: TextIO) -> int:
    """The status of the command that `argv` calls. Raises OSError for the output alone."""
    parser = build_parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed help, or what is wrong
        return int(stop.code or 0)
    if args.version:
        from domindex import __version__

        print(f"domindex {__version__}", file=out)
        return 0
    if args.run is None:
        parser.print_help()
        return 0
    try:
        if host is None:
            host = _host(simulated=args.simulated, transport=args.transport)
        status: int = args.run(host, args, out)
    except Failure as failure:
        return _complain(str(failure), failure.status)
    except Ambiguous as error:
        return _complain(_candidates(error), 1)
    except NoSuchDomain as error:
        return _complain(str(error), 1)
    except InvalidKey as error:
        return _complain(str(error), 2)
    except DomindexError as error:
        return _complain(str(error), 3)
    return status


def _host(*, simulated: bool, transport: str | None) -> Host:
    if simulated:
        from domindex.cli.demo import demo_host

        return demo_host()
    return XenHost(transport=transport)


def _candidates(error: Ambiguous) -> str:
    """Which domains a key may mean, a line each, and how to choose one."""
    lines = [f"{error.key!r} may be any of {len(error.domains)} domains; give one as id:DOMID"]
    lines += [f"  id:{one.domid}  uuid:{one.uuid}  {one.printable}" for one in error.domains]
    return "\n".join(lines)


def _output() -> TextIO:
    """Where to print. It takes every name, whatever characters the locale lacks.

    A stream that the shell has closed is None. argparse would then print to the other one, and
    the next file or socket would get its number, so both are opened.
    """
    if sys.stdout is None:  # to write is an error, as it is when the disk is full
        nowhere = os.open(os.devnull, os.O_RDONLY)
        sys.stdout = open(nowhere, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        sys.stderr = open(nowhere, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return sys.stdout


def _discard(stream: TextIO) -> None:
    """What `stream` still holds goes nowhere: Python writes it as it ends, and would complain."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _complain(sentence: str, status: int) -> int:
    """Say why there is no answer. Returns `status`, also where nobody can be told."""
    lines = map(fit_for_terminal, f"domindex: {sentence}".split("\n"))
    try:
        print("\n".join(lines), file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)
    return status
