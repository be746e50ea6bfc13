"""Run a shell command in dom0 of a real Xen host: python -m tests.real.build -- xl list

Exit status: the command's; 124 if it ran into the time limit, 125 if its host died under it,
126 if the host did not start, 127 if this machine cannot build or run one.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from .debian import HostUnavailable
from .host import LOG_TAIL, RELEASES, BootFailed, Outcome, boot, build
from .root import Content


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.real.build", description=__doc__)
    parser.add_argument("--release", choices=sorted(RELEASES), default="4.17")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds, boot included")
    parser.add_argument("--add", action="append", default=[], metavar="PATH=FILE")
    parser.add_argument("--out", type=Path, help="directory for what the command left in /out")
    parser.add_argument("--log", action="store_true", help="show the log of Xen and dom0 too")
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    overlay: dict[str, Content] = {}
    for pair in args.add:
        path, _, file = pair.partition("=")
        overlay[path] = Path(file)
    try:
        started = time.monotonic()
        image = build(RELEASES[args.release])
        print(f"image: {time.monotonic() - started:.1f} s", file=sys.stderr)
        result = boot(
            image,
            overlay=overlay,
            command=" ".join(args.command),
            timeout=args.timeout,
            on_line=lambda line: print(line, flush=True),
        )
    except HostUnavailable as error:
        print(error, file=sys.stderr)
        return 127
    except BootFailed as error:
        print(error, file=sys.stderr)
        return 126
    print(
        f"boot: {result.boot_seconds:.1f} s, command: {result.command_seconds:.1f} s",
        file=sys.stderr,
    )
    if args.out:
        for name, data in result.files.items():
            path = args.out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    if args.log or result.outcome is not Outcome.FINISHED:
        print(result.log[-LOG_TAIL:], file=sys.stderr)
    if result.status is not None:
        return result.status
    print(f"the command {result.outcome.value}", file=sys.stderr)
    return 124 if result.outcome is Outcome.TIME_LIMIT else 125


if __name__ == "__main__":
    sys.exit(main())
