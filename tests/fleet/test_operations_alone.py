"""docs/fleet-operations.md, where one member without certificates is enough: a full one, a copy."""

from __future__ import annotations

import re
from collections import deque
from contextlib import ExitStack
from pathlib import Path

import pytest

import domindex.fleet
from domindex.fleet import HostForgotten

from .conftest import need
from .machines import Machines, block
from .published import all_of, names, published
from .servers import etcd, wait_until

BUMP = ("--bump-revision", "1000000000", "--mark-compacted")


@pytest.mark.parametrize("flags", [(), BUMP], ids=["plain", "bumped"])
def test_what_the_page_warns_of_happens(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """A copy that clients see as it is has hosts that are live with what they had in it."""
    need("sid")
    with etcd(tmp_path) as server, ExitStack() as stack:
        xen1 = stack.enter_context(published(server.url, "xen1", "ends", ttl=60))
        copy = str(tmp_path / "copy")
        server.ctl("snapshot", "save", copy)
        xen1.host.destroy(xen1.index.by_name("ends").domid)
        xen1.flush()
        stack.enter_context(published(server.url, "xen2", "late", ttl=60))
        fleet = stack.enter_context(domindex.fleet.connect(server.url))
        heard = stack.enter_context(fleet.events(replay=False))
        assert names(fleet, "xen1") == set()
        server.one.end()
        server.one.data.rename(tmp_path / "before")
        server.one.restore(copy, *flags)
        server.one.start()
        server.one.wait_ready()
        wait_until(lambda: fleet.live and fleet.stats.loads == 2)
        assert fleet.by_name("ends").state == "live"
        told = all_of(heard)
        forgotten = [one for one in told if isinstance(one, HostForgotten)]
        assert len(forgotten) == bool(flags)  # xen2, which came after the copy
        assert ("xen2" in fleet.hosts) is not bool(flags)


def test_a_full_database_is_told_and_mended(tmp_path: Path) -> None:
    """A host that changes is lost, one that does not stays live; the commands bring it back."""
    need("sid")
    machines = Machines(tmp_path / "machines")
    with (
        etcd(tmp_path, arguments=["--quota-backend-bytes", str(4 << 20)]) as server,
        ExitStack() as s,
    ):
        variables = {
            "ETCDCTL_ENDPOINTS": f"http://{server.one.endpoint}",
            "DOMINDEX_FLEET": server.url,
        }
        xen1 = s.enter_context(published(server.url, "xen1", "web"))
        s.enter_context(published(server.url, "xen2", "db"))
        fleet = s.enter_context(domindex.fleet.connect(server.url))
        with pytest.raises(AssertionError, match="space exceeded"):
            deque(server.ctl("put", "/filler", text="x" * 500_000) for _ in range(20))
        xen1.host.create("new")
        wait_until(lambda: fleet.hosts["xen1"].state == "lost", 20)
        assert fleet.hosts["xen2"].state == "live"
        said = machines.run("domindex fleet check || echo status $?", variables=variables)
        assert re.search(r"^alarm +NO .*is full", said, re.MULTILINE)
        assert said.endswith("status 1\n")

        machines.run(block("etcdctl defrag"), variables=variables)
        wait_until(lambda: names(fleet, "xen1") == {"web", "new"}, 20)
        assert fleet.hosts["xen1"].state == "live"
        said = machines.run("domindex fleet check", variables=variables)
        assert "alarm" not in said
        assert re.search(r"^quota +ok +[01] MB", said, re.MULTILINE)
        server.ctl("put", "/filler", text="x" * 500_000)
