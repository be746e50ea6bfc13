"""python -m tests.bench: measure on this host, or show earlier runs; print, write JSON, draw.

Read after run.py and report.py. Needs what the package needs, and matplotlib only for `--svg`.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from domindex import DomindexError, NotControlDomain, XenHost
from domindex.domain import fit_for_terminal
from domindex.ports import Host
from tests.bench.report import Report, from_json, lines
from tests.bench.run import Settings, bench, simulated

EXIT = """\
exit status:
  0  done
  2  wrong use
  3  the host could not be measured, or a file not be written
  130  interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says. Returns the exit status, see EXIT.

    Raises:
        SystemExit: wrong use, or `--help`.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for a locale without such a letter
    if args.svg:
        try:
            from tests.bench.plot import svg  # before minutes are spent
        except ImportError:
            parser.error("--svg needs matplotlib: pip install matplotlib")
    try:
        reports: list[Report] = args.plot or [_measured(args)]
        for report in reports:
            print(*lines(report), sep="\n", flush=True)
        if args.json:
            Path(args.json).write_text(reports[-1].to_json() + "\n", encoding="utf-8")
        if args.svg:
            svg(reports, args.svg)
    except (DomindexError, OSError) as error:
        print(f"bench: {fit_for_terminal(str(error))}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    return 0


def _measured(args: argparse.Namespace) -> Report:
    host: Host = XenHost(transport=args.transport)
    if args.simulated:
        host = simulated(args.domains)
    else:
        try:
            host.open_hypervisor().close()
        except NotControlDomain as reason:
            print(f"bench: uses a simulated host: {reason}", file=sys.stderr)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measure what the index costs on this host, beside other ways to its answers.",
        epilog=EXIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--transport", choices=("socket", "xenbus"), help="to xenstore (default: found out)")
    add("--simulated", action="store_true", help="measure on a simulated host")
    add("--domains", type=_at_least(1), default=100, help="of a simulated host (default: 100)")
    add("--rounds", type=_at_least(3), default=15, help="samples of each way (default: 15)")
    add("--budget", type=_seconds, default=2.0, help="seconds for each way (default: 2)")
    add("--pause", type=_seconds, default=0.01, help="seconds before a sample (default: 0.01)")
    add("--idle", type=_seconds, default=10.0, help="seconds to watch it idle (default: 10)")
    add("--write", action="store_true", help="allow one node of its own in xenstore")
    add("--label", default="", help="a name for this host")
    add("--relative", action="store_true", help="print multiples of a dict.get, not times")
    add("--json", metavar="FILE", help="write the run to this file")
    add("--svg", metavar="FILE", help="draw to this file; needs matplotlib")
    help_ = "measure nothing; show runs that --json wrote"
    add("--plot", metavar="FILE", nargs="+", type=_report, help=help_)
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number of seconds from 0")
    return seconds


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < least:
            raise ValueError
        return int(text)

    number.__name__ = f"number from {least}"  # argparse names it in its message
    return number


def _report(file: str) -> Report:
    try:
        return from_json(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{file}: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
