"""Runs in dom0: the benchmark at each number of domains. Prints one line of JSON for each.

python3 -m tests.bench.on_hosts.in_dom0 LABEL SIZE...

Read after overlay.py; next libvirtd.py.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time

import domindex
from tests.bench.on_hosts.libvirtd import libvirtd
from tests.bench.report import lines
from tests.bench.run import Settings, bench
from tests.real.inside.toolstack import RealHost

MARK = "BENCH "


def main(label: str, sizes: list[int]) -> int:
    host = RealHost()
    made: list[int] = []
    settings = Settings(write=True, relative=True, label=label, pause=0.02, budget=1.5)
    for size in sizes:
        began = time.monotonic()
        # Introduced when all are made: with each that is introduced, xenstored is slower.
        more = [
            host.create(f"vm-{number}", introduce=False) for number in range(len(made) + 1, size)
        ]
        for domid in more:
            host.introduce(domid)
        made += more
        with domindex.direct.open() as look:
            guests = look.all()[1:]
        print(f"{size} domains after {time.monotonic() - began:.0f} s", flush=True)
        with libvirtd(guests) as state:
            print(state, f"after {time.monotonic() - began:.0f} s", flush=True)
            report = bench(domindex.XenHost(), settings, host.rename)
        print(*lines(report), sep="\n", flush=True)
        print(f"measured after {time.monotonic() - began:.0f} s", flush=True)
        print(MARK + json.dumps(dataclasses.asdict(report)), flush=True)
    # The host ends with this boot: nothing has to be removed.
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], [int(size) for size in sys.argv[2:]]))
