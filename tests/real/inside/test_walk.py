"""The random walk on the real host, over a line that is cut now and then.

DOMINDEX_SEED repeats a walk, DOMINDEX_STEPS sets its length. `tests.whole.test_walk` walks the
same on the simulated host, and further.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

import domindex
from tests.stage import PATIENCE

from . import xl
from .following import TIMING, leaves_nothing
from .line_proxy import LineProxy
from .toolstack import RealHost
from .walk import Walk, go, seed, steps

STEPS = 150


def test_walk(capsys: pytest.CaptureFixture[str]) -> None:
    """After each refresh the index is what was done and what a direct look and `xl list` say."""
    chosen, length = seed(), steps(STEPS)
    with capsys.disabled():
        print(f"\nwalk of {length} steps: DOMINDEX_SEED={chosen}")
    host = RealHost()
    try:
        _walk(host, chosen, length)
    except BaseException as error:
        error.add_note(f"DOMINDEX_SEED={chosen} DOMINDEX_STEPS={length}")
        raise
    finally:
        host.close()


def _walk(host: RealHost, chosen: int, length: int) -> None:
    host.destroy(host.create("warm"))  # its own connections are open from here on
    real = domindex.XenHost()
    with (
        tempfile.TemporaryDirectory() as home,
        LineProxy(Path(home) / "socket", Path("/run/xenstored/socket")) as proxy,
        leaves_nothing(),
    ):
        by_proxy = domindex.XenHost(transport="socket", path=str(proxy.path))
        walk = Walk(host, chosen, proxy.cut)
        with domindex.connect(by_proxy, timing=TIMING, timeout=PATIENCE) as index:

            def as_xl_sees_it() -> None:
                listed = xl.list_with_uuids()
                for zombie in set(host.domids()) - walk.alive.keys():
                    listed.pop(zombie, None)
                assert listed == {domain.domid: (domain.printable, domain.uuid) for domain in index}

            try:
                go(walk, index, real, length, as_xl_sees_it)
            finally:
                walk.end()
