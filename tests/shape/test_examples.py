"""The examples run on any machine: each on the simulated host that it brings, as a program."""

from __future__ import annotations

import importlib
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

import domindex
from domindex.testing import SimulatedHost
from tests.programs import EXAMPLES, Program


@pytest.fixture(autouse=True, scope="module")
def _no_real_host() -> None:
    with Program("wait_for_domain.py", "-", "--seconds", "0") as program:
        program.end()
        if "simulated" not in program.said[0]:
            pytest.skip(
                "a Xen host: here the examples would show that one, as in tests/real/inside"
            )


def test_print_events() -> None:
    """What runs already, then the life of a guest: rename, reboot as one event, crash, end."""
    with Program("print_events.py") as program:
        program.until("simulated")
        program.until("Domain-0 runs")
        program.until("new events follow")
        program.until("-1 rebooted: domain")
        program.until("-1 stopped: crash")
        program.until("www-1 is gone: crash")
        program.until("web-2 was renamed to www-2")
        assert program.interrupt() == 0
        assert "Traceback" not in program.text


def test_print_events_of_some_guests() -> None:
    """A pattern leaves the others out, and not what is told of the line."""
    with Program("print_events.py", "--name", "*-2") as program:
        program.until("new events follow")
        program.until("www-2 is gone: crash")
        assert "Domain-0" not in program.text
        assert "-1 " not in program.text.partition("simulated")[2]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("print_events.py", ()),
        ("exporter.py", ("--port", "0")),
        ("hook.py", ("nobody", "true")),
    ],
)
def test_each_ends_by_itself_if_asked(name: str, arguments: tuple[str, ...]) -> None:
    """With --seconds."""
    with Program(name, *arguments, "--seconds", "0.3") as program:
        assert program.end() == 0
        assert "Traceback" not in program.text


def test_print_events_escapes_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text of an error has its names escaped: they are neither escaped again nor raw."""
    monkeypatch.syspath_prepend(EXAMPLES)
    show = importlib.import_module("print_events").show
    show(domindex.Lost(domindex.StoreLost(r"READ of 'a\nb' failed" + "\x1b")))
    assert capsys.readouterr().out == (
        "-- the connection to the host is down: READ of 'a\\nb' failed\\x1b\n"
    )


def test_an_end_without_a_reason() -> None:
    """No example claims that such a domain was destroyed: it may have stopped unseen."""
    for path in EXAMPLES.glob("*.py"):
        assert 'destroyed while it ran"' not in path.read_text(encoding="utf-8"), path.name


def hook(*arguments: str) -> tuple[str, ...]:
    """Arguments of hook.py, with a program that prints what it was given."""
    given = "import os; print('ran for', *[os.environ['DOMAIN_' + k] for k in ('NAME', 'ID')])"
    return *arguments, "--", sys.executable, "-c", given


def test_hook() -> None:
    """Once for each life: what is ready already, a guest that has migrated in, its reboot."""
    with Program("hook.py", *hook("*")) as program:
        program.until("ran for Domain-0 0")
        program.until("ran for web 1")
        program.until("ran for db 2")
        program.until("ran for db 3")
        program.until("ran for db 4")
        assert program.text.count("ran for db 2") == 1
        assert "incoming" not in program.text
        assert program.interrupt() == 0
        assert "Traceback" not in program.text


def test_hook_for_new_domains() -> None:
    """--new leaves out what runs already; a pattern leaves out others."""
    with Program("hook.py", "--new", *hook("[wd]*")) as program:
        program.until("ran for db 2")
        assert not {"ran for web 1", "ran for Domain-0 0"} & set(program.said)
        assert program.interrupt() == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("false",), "non-zero exit status 1"),
        (("/no/such/program",), "No such file or directory"),
        (("--timeout", "0.1", "sleep", "60"), "timed out after"),
    ],
)
def test_hook_that_fails(command: tuple[str, ...], said: str) -> None:
    """It is logged, and the next domain has its turn."""
    with Program("hook.py", "*", *command) as program:
        program.until("for Domain-0 (domain 0)", said)
        program.until("for web (domain 1)", said)
        assert program.interrupt() == 0
        assert "Traceback" not in program.text


def test_hook_of_a_hostile_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The bytes of the name reach the program as they are, and no shell; a NUL is an error."""
    monkeypatch.syspath_prepend(EXAMPLES)
    kind = importlib.import_module("hook").Hook
    out = tmp_path / "out"
    names = [b"$(touch x);'\"\xff\n", b"a\0b"]
    runs = kind(["sh", "-c", f'printf %s "$DOMAIN_NAME" >> {out}'], "*", 10.0)
    with SimulatedHost() as host, host.connect() as index:
        for name in names:
            host.create(name)
        index.refresh()
        for domain in list(index)[1:]:
            runs.run_once(domain)
            runs.run_once(domain)
    assert out.read_bytes() == names[0]
    assert "a\\x00b (domain 2): embedded null byte" in caplog.text


def test_hook_after_a_rename(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It runs as a domain gets the name, though it was ready before: once, and if it runs."""
    monkeypatch.syspath_prepend(EXAMPLES)
    kind = importlib.import_module("hook").Hook
    out = tmp_path / "out"
    runs = kind(["sh", "-c", f'echo "$DOMAIN_NAME" >> {out}'], "w*", 10.0)
    with SimulatedHost() as host, host.connect() as index:
        first, second = host.create("db"), host.create("dc")
        host.crash(second)
        index.refresh()
        kinds = (domindex.Ready, domindex.Removed)
        index.subscribe(runs.on_event, events=kinds, where=runs.matches, threaded=False)
        for name in ("web", "db", "www"):
            host.rename(first, name)
            host.rename(second, name)
            index.refresh()
        assert index.dispatch()
        assert out.read_text().split() == ["web"]
        host.destroy(first)
        index.refresh()
        index.dispatch()
        assert not runs.done


def test_hook_after_dropped_events(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Resync runs it for those that are ready and had no turn, and forgets what is gone."""
    monkeypatch.syspath_prepend(EXAMPLES)
    kind = importlib.import_module("hook").Hook
    out = tmp_path / "out"
    runs = kind(["sh", "-c", f'echo "$DOMAIN_ID" >> {out}'], "w*", 10.0)
    with SimulatedHost() as host, host.connect() as index:
        first, _, third = host.create("web"), host.create("db"), host.create("web--incoming")
        index.refresh()
        runs.on_event(domindex.Ready(index.by_id(first)))
        fourth = host.create("www")
        index.refresh()
        runs.on_event(domindex.Resync(tuple(filter(runs.matches, index))))
        host.destroy(first)
        host.rename(third, "web")
        index.refresh()
        runs.on_event(domindex.Resync(tuple(filter(runs.matches, index))))
        assert out.read_text().split() == [str(first), str(fourth), str(third)]
        assert runs.done == {index.by_id(third).life, index.by_id(fourth).life}


def test_wait_for_domain() -> None:
    """The guest migrates in, is ready under its final name, powers off and goes."""
    with Program("wait_for_domain.py", "web") as program:
        assert re.fullmatch(r"web is domain 1: pvh, [0-9a-f-]{36}", program.until("is domain"))
        program.until("web is gone: poweroff")
        assert program.end() == 0


def test_wait_for_domain_that_does_not_come() -> None:
    """Within the time: it says so, and the shell is told."""
    with Program("wait_for_domain.py", "web", "--seconds", "0.01") as program:
        assert program.end() == 1
        assert program.said[1:] == ["no such domain came within 0.01 s"]


def test_asyncio_events() -> None:
    """Two tasks side by side: the events of a guest's life, and a wait for it and for its end."""
    with Program("asyncio_events.py") as program:
        program.until("Added", "web")
        program.until("Rebooted", "(was domain 1)")
        program.until("Removed", "(crash)")
        assert program.end() == 0
        assert "web is here: domid 1" in program.text  # the other task, in no order with these
        assert "web is gone" in program.text
        assert "Traceback" not in program.text


def test_memory_balancer() -> None:
    """Targets are the whole pool; what is asked for is kept until its guest is there."""
    with Program("memory_balancer.py", "--pool", "4096") as program:
        path = Path(program.until("listening at").removeprefix("listening at "))
        for plan in (program.until("reserved 1024"), program.until("mail", "reserved 0")):
            shares = dict(share.split() for share in plan.split(", "))
            assert shares.keys() - {"mail"} == {"web", "db", "reserved"}
            assert sum(map(int, shares.values())) == pytest.approx(4096, abs=5)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            for request, answer in ((b"9999\n", b"no\n"), (b"nonsense", b"not a number\n")):
                client.sendall(request)
                assert client.recv(16) == answer
        assert program.interrupt() == 0
        assert "Traceback" not in program.text
        assert not path.exists()


def test_exporter() -> None:
    """Every domain is in each metric of the page."""
    with Program("exporter.py", "--port", "0") as program:
        address = program.until("http://")
        with urllib.request.urlopen(address, timeout=30) as page:
            families = {f.name: f for f in parse(page.read().decode())}
        assert families["domindex_live"].samples[0].value == 1
        for name in ("info", "cpu_seconds", "memory_bytes"):
            samples = families[f"domindex_domain_{name}"].samples
            assert [sample.labels["domid"] for sample in samples] == ["0", "1", "2"], name
        assert program.interrupt() == 0
        assert "Traceback" not in program.text


def test_exporter_without_prometheus_client() -> None:
    """A line that says what to install."""
    code = "import sys, runpy; sys.modules['prometheus_client'] = None; runpy.run_path(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(EXAMPLES / "exporter.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "exporter.py needs prometheus_client: pip install prometheus_client\n"


def test_test_your_program() -> None:
    """The tests in it pass, by the command that it names."""
    command = "python3 -m pytest test_your_program.py"
    assert command in (EXAMPLES / "test_your_program.py").read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *command.split()[1:], "-q", "-p", "no:cacheprovider"],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout
