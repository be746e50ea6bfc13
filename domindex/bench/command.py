"""`domindex bench`: measures or takes up earlier runs, prints, writes JSON, draws."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from domindex.bench.report import Report, from_json, lines
from domindex.bench.run import Settings, bench, simulated
from domindex.errors import InvalidKey, NotControlDomain
from domindex.ports import Host
from domindex.testing import SimulatedHost


def run(host: Host, args: argparse.Namespace, out: TextIO) -> int:
    """Do as `args` of the command line say. Raises InvalidKey, OSError, and as `connect`."""
    if args.svg:
        _draw([], args.svg)  # what is missing for that is said before minutes are spent
    reports = [_read(file) for file in args.plot] if args.plot else [_measured(host, args)]
    for report in reports:
        print(*lines(report), sep="\n", file=out)
    if args.json:
        Path(args.json).write_text(reports[-1].to_json() + "\n", encoding="utf-8")
    if args.svg:
        _draw(reports, args.svg)
    return 0


def _measured(host: Host, args: argparse.Namespace) -> Report:
    if args.simulated:
        host = simulated(args.domains)
    elif not isinstance(host, SimulatedHost):
        try:
            host.open_hypervisor().close()
        except NotControlDomain as reason:
            print(f"domindex: simulated, as {reason}", file=sys.stderr)
            host = simulated(args.domains)
    settings = Settings(
        rounds=args.rounds,
        budget=args.budget,
        pause=args.pause,
        idle=args.idle,
        write=args.write,
        label=args.label,
        relative=args.relative,
    )
    return bench(host, settings)


def _read(file: str) -> Report:
    try:
        return from_json(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidKey(f"{file}: {error}") from None


def _draw(reports: Sequence[Report], file: str) -> None:
    try:
        from domindex.bench.plot import svg
    except ImportError as error:
        raise InvalidKey(str(error)) from None
    if reports:
        svg(reports, file)
