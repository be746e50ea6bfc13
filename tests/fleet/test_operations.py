"""docs/fleet-operations.md: its commands are run, as it has them, on real etcd servers.

Three members are set up by its first chapter, and then have done to them what it says.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import domindex
import domindex.fleet
from domindex.fleet import Fleet, HostEvent, HostForgotten

from .conftest import need
from .machines import MEMBERS, PAGE, Machines, block, set_up
from .published import all_of, names, published, without_dom0
from .servers import wait_until
from .stage import Believer

ADMINISTRATOR = block("export ETCDCTL_ENDPOINTS=https://a.example:2379")
CLIENTS = block("CN=$name ")
REFUSED = r"(?i)alert|reset|eof|broken pipe"


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """As the page sets them up, with another host and another reader that came later."""
    need("sid")
    found = Machines(tmp_path_factory.mktemp("machines"))
    try:
        set_up(found)
        found.run(CLIENTS.replace("root xen1 panel", "xen2 xen10 wall eve"))
        found.run("domindex fleet grant xen2 | sh -e\ndomindex fleet grant xen10 | sh -e\n")
        found.run(block("--reader wall"))
        yield found
    finally:
        found.close()


@pytest.fixture
def panel(machines: Machines) -> Iterator[Fleet]:
    """A reader, with the certificate of one."""
    with domindex.fleet.connect(machines.url(), tls=machines.tls("panel")) as fleet:
        yield fleet


def by_user(user: str) -> str:
    """Before a command: whose certificate it uses."""
    files = f"CERT={user}.pem {{0}}_KEY={user}.key"
    return " ".join(f"{one}_" + files.format(one) for one in ("ETCDCTL", "DOMINDEX_FLEET")) + " "


def check(machines: Machines, user: str, *arguments: str) -> list[tuple[str, str, str]]:
    """What `domindex fleet check` finds, and that its status says whether all works."""
    command = " ".join(("domindex fleet check --json", *arguments))
    said = machines.run(f'{by_user(user)}{command} 2>/dev/null && echo "[0]" || echo "[$?]"')
    found, status = (json.loads(part) for part in re.split(r"\n(?=\[\d\]\n)", said))
    rows = [(one["what"], one["how"], one["detail"]) for one in found]
    assert status == [int(any(how == "no" for _, how, _ in rows))]
    return rows


def hows(found: list[tuple[str, str, str]], what: str) -> list[str]:
    """What is said of one part."""
    return [how for one, how, _ in found if one == what]


def forget(machines: Machines, host: str) -> None:
    """Have it in the store no more, as `fleet forget` does."""
    with domindex.fleet.connect(machines.url(), tls=machines.tls("root")) as fleet:
        fleet.forget(host)


def test_each_command_of_the_page_is_run_here() -> None:
    """No block is there that neither these tests nor what they share asks for."""
    source = "".join(
        (Path(__file__).parent / name).read_text(encoding="utf-8")
        for name in ("machines.py", "test_operations.py", "test_operations_alone.py")
    )
    wanted = re.findall(r'block\("([^"]+)"', source)
    for text in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        assert any(words in text for words in wanted), text


# Certificates and rights


def test_a_host_writes_its_own_prefix_and_nothing_else(machines: Machines) -> None:
    """F10, with etcd's own client: neither another host's keys nor the epoch; nor does it read."""
    own = ("alive/xen1", "host/xen1", "dom/xen1/7")
    others = ("alive/xen10", "host/xen10", "dom/xen10/7", "dom/xen1", "epoch")
    for key in own:
        machines.run(f"{by_user('xen1')}etcdctl put /domindex/v1/{key} x")
        machines.run(f"{by_user('xen1')}etcdctl del /domindex/v1/{key}")
    for key in others:
        for user in ("xen1", "panel", "eve"):
            said = machines.run(f"{by_user(user)}etcdctl put /domindex/v1/{key} x", status=1)
            assert "permission denied" in said or "not found" in said or "user name is" in said
    machines.run(f"{by_user('xen1')}etcdctl get --prefix /domindex/v1/", status=1)
    for user in ("panel", "wall"):
        assert "epoch" in machines.run(f"{by_user(user)}etcdctl get --prefix /domindex/v1/")


def asked(
    machines: Machines, which: str, path: str, authority: str, certificate: str | None
) -> int:
    """The status with which a port of a answers to who has this certificate. Raises OSError."""
    context = ssl.create_default_context(cafile=str(machines.admin / f"{authority}-ca.pem"))
    if certificate is not None:
        pem, key = (machines.admin / f"{certificate}.{kind}" for kind in ("pem", "key"))
        context.load_cert_chain(pem, key)
    port = machines.port("a", which)
    line = http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
    try:
        line.request("GET", path)
        return line.getresponse().status
    finally:
        line.close()


def test_without_a_certificate_nobody_gets_in(machines: Machines) -> None:
    """etcd asks each client for one of its authority."""
    assert asked(machines, "2379", "/health", "clients", "xen1") == http.HTTPStatus.OK
    for none in (None, "a-members"):
        with pytest.raises(OSError, match=REFUSED):
            asked(machines, "2379", "/health", "clients", none)


def test_a_host_is_no_member(machines: Machines) -> None:
    """At the port of the members etcd asks for no user: only a member's certificate is good."""
    assert asked(machines, "2380", "/members", "members", "a-members") == http.HTTPStatus.OK
    for other in ("xen1", "root", "a-clients", None):
        with pytest.raises(OSError, match=REFUSED):
            asked(machines, "2380", "/members", "members", other)


def test_check_says_what_each_certificate_may(machines: Machines) -> None:
    """As the page has the line `rights`, and those that a host cannot know."""
    root = check(machines, "root", "--host", "xen1")
    assert hows(root, "rights") == ["ok", "warn"]
    assert hows(root, "quota") == hows(root, "epoch") == hows(root, "reader") == ["ok"]
    panel = check(machines, "panel", "--host", "xen1")
    assert hows(panel, "rights") == ["no", "ok"]
    assert hows(panel, "quota") == ["warn"]
    host = check(machines, "xen1", "--host", "xen1")
    assert hows(host, "rights") == ["ok", "ok"]
    assert hows(host, "reader") == hows(host, "epoch") == ["warn"]
    assert hows(check(machines, "xen1", "--host", "xen10"), "rights") == ["no", "ok"]


# Publishing, and the states


def test_a_host_is_published_with_the_file_of_the_page(machines: Machines) -> None:
    """As its unit does, and a reader is told what the page says."""
    settings = machines.file("DOMINDEX_FLEET=", "etc/default/domindex-publish", "a").read_text()
    keys = machines.home / "a/etc/domindex"
    keys.mkdir()
    for name in ("clients-ca.pem", "xen1.pem", "xen1.key"):
        shutil.copy(machines.admin / name, keys)
    variables = dict(line.split("=", 1) for line in settings.splitlines())
    arguments = variables.pop("ARGS").strip('"').split()
    log = machines.home / "publish.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "domindex", "publish", "--simulated", *arguments],
            env=variables,
            stderr=output,
        )
    try:
        wait_until(lambda: "host xen1 is published" in log.read_text(), 20)
        said = machines.run(by_user("panel").join(["", *block("fleet hosts").splitlines(True)]))
        assert re.search(r"^reader +ok .*1 hosts and \d+ domains$", said, re.MULTILINE)
        assert re.search(r"^xen1 +live ", said, re.MULTILINE)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(20)
    assert ("host", "warn", "xen1 is lost: its publisher was closed") in check(machines, "panel")
    forget(machines, "xen1")


def test_check_names_the_hosts_that_cannot_tell(machines: Machines, panel: Fleet) -> None:
    """`blind`, `lost`, what cannot be read; not one that is declared offline."""
    tls = machines.tls("root")
    with ExitStack() as stack:
        hosts = {
            name: stack.enter_context(published(machines.url(), name, "web", tls=tls))
            for name in ("xen1", "xen2", "xen3", "xen4")
        }
        hosts["xen1"].host.stop_xenstored()
        hosts["xen2"].publisher.abandon()
        hosts["xen4"].publisher.close()
        machines.run("domindex fleet offline xen4\netcdctl put /domindex/v1/dom/xen3/7 garbage")
        states = {"xen1": "blind", "xen2": "lost", "xen3": "live", "xen4": "offline"}
        wait_until(lambda: {one.host: one.state for one in panel.hosts.values()} == states, 20)
        said = {text for what, _, text in check(machines, "panel") if what in ("host", "values")}
        assert said == {
            "xen1 is blind: its index does not follow the host",
            "xen2 is lost: its lease ran out",
            "xen3: domains 7 cannot be read",
            "1 values in the store cannot be read",
        }
        machines.run("etcdctl del /domindex/v1/dom/xen3/7")
        hosts["xen1"].host.start_xenstored()
    for name in hosts:
        forget(machines, name)


# A member ends


def test_one_member_may_end(machines: Machines, panel: Fleet) -> None:
    """A reader and a publisher go on with the two others; `check` says that one is down."""
    with published(machines.url(), "xen1", "web", tls=machines.tls("xen1")) as xen1:
        for name in MEMBERS[:2]:
            machines.kill(name)
            xen1.host.create(f"made-without-{name}")
            xen1.flush()
            wait_until(lambda: f"made-without-{name}" in names(panel, "xen1"), 20)  # noqa: B023
            assert panel.hosts["xen1"].state == "live"
            found = check(machines, "root", "--timeout", "3")
            assert sorted(hows(found, "member")) == ["no", "ok", "ok"]
            assert hows(found, "reader") == ["ok"]
            machines.start(name)
            machines.wait_ready(name)
        assert set(hows(check(machines, "root"), "member")) == {"ok"}
    forget(machines, "xen1")


def test_without_a_quorum_check_says_so(machines: Machines) -> None:
    """One that is left answers, and is not believed: `reader` is what does not work."""
    machines.kill("a")
    machines.kill("b")
    try:
        found = check(machines, "root", "--timeout", "1")
    finally:
        for name in ("a", "b"):
            machines.start(name)
        machines.wait_ready("a", "b")
    # The third answers: at first as ever, later that it has no leader.
    assert hows(found, "member").count("no") >= 2
    assert hows(found, "reader") == ["no"]


# A backup, and no backup


@pytest.mark.parametrize("way", ["restored", "emptied"])
def test_after_a_lost_store_a_reader_hears_the_difference_and_no_more(
    machines: Machines, panel: Fleet, way: str
) -> None:
    """F3, F5, F8: no ghost, nothing forgotten, not deaf; by a snapshot, or from nothing.

    xen2 came after the snapshot, and on xen1 a domain ended and another one began.
    """
    rights = [machines.tls("xen1"), machines.tls("xen2")]
    with ExitStack() as stack:
        xen1 = stack.enter_context(
            published(machines.url(), "xen1", "stays", "ends", "goes", tls=rights[0])
        )
        (machines.admin / "domindex.snapshot").unlink(missing_ok=True)
        machines.run(block("snapshot save"))
        xen1.host.destroy(xen1.index.by_name("ends").domid)
        xen1.host.create("new")
        xen1.flush()
        xen2 = stack.enter_context(published(machines.url(), "xen2", "late", tls=rights[1]))
        panel.refresh()
        believer, heard = Believer(), stack.enter_context(panel.events(move_grace=0))
        told: list[domindex.fleet.FleetEvent] = []

        def take_in() -> None:
            for event in all_of(heard):
                told.append(event)
                believer(event)

        take_in()
        told.clear()
        machines.stop(*MEMBERS)
        wait_until(lambda: not panel.live)
        xen1.host.destroy(xen1.index.by_name("goes").domid)
        xen1.host.create("comes")
        xen1.index.refresh()
        (restore if way == "restored" else start_empty)(machines)

        def is_true() -> bool:
            take_in()
            assert "ends" not in names(panel, "xen1")
            assert names(panel, "xen2") == {"late"}
            is_live = panel.live and all(one.state == "live" for one in panel.hosts.values())
            return is_live and names(panel, "xen1") == {"stays", "new", "comes"}

        wait_until(is_true, 20)
        domains = [event.event for event in told if isinstance(event, HostEvent)]
        assert [
            (type(event).__name__, event.domain.name)
            for event in domains
            if isinstance(event, domindex.Added | domindex.Removed)
        ] in (
            [("Removed", "goes"), ("Added", "comes")],
            [("Added", "comes"), ("Removed", "goes")],
        )
        assert not any(isinstance(event, HostForgotten) for event in told)
        xen2.host.create("after")
        xen2.flush()
        wait_until(lambda: "after" in names(panel, "xen2"))
        take_in()
        assert believer.domains == {
            name: without_dom0(one.index) for name, one in (("xen1", xen1), ("xen2", xen2))
        }
        assert set(hows(check(machines, "root"), "member")) == {"ok"}
    for name in ("xen1", "xen2"):
        forget(machines, name)


def restore(machines: Machines) -> None:
    """As the page says, all members being stopped."""
    for name in MEMBERS:
        machines.run(block("etcdutl snapshot restore"), name)
    machines.wait_ready()
    machines.run(block("etcdctl del --prefix"))
    for name in MEMBERS:
        machines.run(block("domindex.yaml.usual /etc"), name)
    machines.wait_ready()
    machines.run(ADMINISTRATOR)
    for name in MEMBERS:
        shutil.rmtree(machines.home / name / "var/lib/etcd/domindex.before")


def start_empty(machines: Machines) -> None:
    """As the page says of a store without a backup."""
    for name in MEMBERS:
        shutil.rmtree(machines.home / name / "var/lib/etcd/domindex")
        machines.start(name)
    machines.wait_ready()
    machines.run("domindex fleet grant xen2 >>grants\ndomindex fleet grant xen10 >>grants")
    machines.run("sh -e grants")
    machines.run(block("--reader wall"))
    machines.run(block("auth enable"))


# Room, and machines that go


def test_room_is_made_in_three_members(machines: Machines, panel: Fleet) -> None:
    """The same commands; a reader goes on."""
    assert machines.run(block("etcdctl defrag")).count("Finished defragmenting") == len(MEMBERS)
    with published(machines.url(), "xen1", "web", tls=machines.tls("xen1")):
        wait_until(lambda: names(panel, "xen1") == {"web"})
    forget(machines, "xen1")


def test_a_machine_is_taken_out(machines: Machines) -> None:
    """Its certificate is then good for nothing; granted again, it is."""
    tls = machines.tls("xen1")
    with published(machines.url(), "xen1", "web", tls=tls):
        said = machines.run("domindex fleet forget xen1", status=1)
        assert "xen1" in said
    machines.run(block("user delete xen1"))
    with (
        pytest.raises(domindex.fleet.EngineDenied),
        published(machines.url(), "xen1", "web", tls=tls),
    ):
        pytest.fail("it is published")
    machines.run("domindex fleet grant xen1 | sh -e")
    with published(machines.url(), "xen1", "web", tls=tls):
        pass
    forget(machines, "xen1")
