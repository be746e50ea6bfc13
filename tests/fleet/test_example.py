"""`examples/fleet.py`: what it shows, on an etcd and in memory; that it leaves nothing behind."""

from __future__ import annotations

import importlib
import importlib.util
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import domindex.fleet
from tests.programs import EXAMPLES, Program

from .conftest import need
from .stores import EtcdStore

STORY = [
    ("xen1 is published",),
    ("xen2 is published",),
    ("xen3 is published",),
    ("db: domain 1 on xen3 (live)",),
    ("a guest starts on xen1",),
    ("web: domain 1 on xen1 (live)",),
    ("it migrates to xen2",),
    ("meanwhile", "xen1 (live)", "xen2 (live)"),
    ("settled=True: xen1",),
    ("moved from xen1 to xen2",),
    ("web: domain 1 on xen2 (live)",),
    ("xen3 is killed",),
    ("db: domain 1 on xen3 (",),
    ("xen3 is lost: its lease ran out",),
    ("db: domain 1 on xen3 (lost)",),
    ("web: domain 1 on xen2 (live)",),
    ("mail: cannot tell", "xen3 (lost)"),
    ("says that it is off",),
    ("db: no running domain",),
    ("mail: no running domain",),
    ("it returns, and xen3 is live",),
    ("db: domain 1 on xen3 (live)",),
    ("mail: no running domain",),
]
"""What it prints, line by line; the first three come in any order."""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it makes its temporary directories."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@contextmanager
def example(*arguments: str) -> Iterator[Program]:
    """The example; ended so that it can clean up, if the test fails."""
    with Program("fleet.py", *arguments) as program:
        try:
            yield program
        except BaseException:
            program.interrupt()
            raise


def holds_the_story(lines: list[str]) -> None:
    """Each line is what STORY says of it."""
    told = [sorted(lines[:3]), *([line] for line in lines[3:])]
    flat = [line for part in told for line in part]
    assert len(flat) == len(STORY), flat
    for line, words in zip(flat, STORY, strict=True):
        assert all(word in line for word in words), (words, line)


def running(*words: str) -> list[str]:
    """Command lines of processes that have one of these words."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
        found += [line] if any(word in line for word in words) else []
    return found


def test_in_memory() -> None:
    """All of it, with a publisher that is abandoned."""
    with example("--memory") as program:
        assert program.until("the store") == "the store: in memory"
        assert program.end() == 0
    holds_the_story(program.said[1:])


def test_on_an_etcd_of_its_own(temporary: Path) -> None:
    """A real one, and a real process that is killed; afterwards neither is there."""
    need("sid")
    with example() as program:
        url = program.until("the store: etcd, at").split()[-1]
        assert any(str(temporary) in line for line in running("--data-dir"))
        program.until("xen3 is published")
        assert any("--host xen3" in line for line in running(url))
        killed = program.until("xen3 is killed")
        assert re.search(r"process \d+, by SIGKILL", killed)
        assert program.end() == 0
    holds_the_story(program.said[1:])
    assert not running(str(temporary), url)
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("after", "by", "statuses"),
    [
        ("the store", signal.SIGINT, {130}),
        ("xen1 is published", signal.SIGTERM, {130}),
        ("xen3 is killed", signal.SIGINT, {130}),
        ("it returns", signal.SIGHUP, {0, 130}),  # it may be at its end already
    ],
)
def test_ctrl_c_leaves_nothing_behind(
    temporary: Path, after: str, by: signal.Signals, statuses: set[int]
) -> None:
    """Neither a process nor a file, wherever it is; a second one does not stop the cleaning."""
    need("sid")
    with example() as program:
        url = program.until("the store").split()[-1]
        if after not in program.text:
            program.until(after)
        program.signal(by)
        program.signal(by)
        assert program.end() in statuses
        assert "Traceback" not in program.text
    assert not running(str(temporary), url)
    assert not list(temporary.iterdir())


def test_on_an_etcd_that_is_named(etcd_store: EtcdStore) -> None:
    """It holds no fleet afterwards, as before; one that holds a fleet is left alone."""
    url = etcd_store.server.url
    with example(url) as program:
        assert program.until("the store") == f"the store: etcd, at {url}"
        assert program.end() == 0
    holds_the_story(program.said[1:])
    with domindex.fleet.connect(url) as fleet:
        assert not fleet.hosts
    etcd_store.connect().claim("xen9", "m", 60).commit({"/domindex/v1/host/xen9": b"{}"})
    with example(url) as program:
        assert program.end() == 1
    assert "has hosts already (xen9)" in program.text


def test_where_there_is_no_etcd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how to get one, and goes on in memory."""
    monkeypatch.setenv("DOMINDEX_CACHE", str(tmp_path))
    (tmp_path / "etcd").write_text("#!/bin/sh\necho 'etcd Version: 3.4.23'\n")
    (tmp_path / "etcd").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with example() as program:
        program.until("no etcd of version 3.5.18 or newer: in a checkout `make fleet` fetches one")
        program.until("the store: in memory")
        program.until("xen1 is published")
        assert program.interrupt() == 130


def test_an_etcd_that_does_not_start(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it said last is told; the one of PATH comes before that of the cache."""
    home = tmp_path / "bin"
    home.mkdir()
    (home / "etcd").write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo 'etcd Version: 3.5.30' || { echo oh no; exit 1; }\n"
    )
    (home / "etcd").chmod(0o755)
    monkeypatch.setenv("PATH", str(home))
    with example() as program:
        program.until("was started, and does not answer: oh no")
        program.until("the store: in memory")
        program.until("xen1 is published")
        assert program.interrupt() == 130


def test_without_the_packages_of_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which are missing, and how to get them."""
    monkeypatch.syspath_prepend(EXAMPLES)
    local_etcd = importlib.import_module("local_etcd")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(local_etcd.NoEtcd, match=r"grpc and aetcd: pip install '\.\[fleet\]'"),
        local_etcd.running(),
    ):
        pytest.fail("it runs")


def test_a_url_that_is_wrong() -> None:
    """A sentence and a status, no traceback."""
    for arguments, status, words in [
        (["http://a"], 3, "InvalidUrl"),
        (["etcd://127.0.0.1:1"], 3, "127.0.0.1:1"),
        (["--host", "xen1"], 2, "needs the URL"),
    ]:
        with example(*arguments) as program:
            assert program.end() == status
        assert words in program.text
        assert "Traceback" not in program.text
