"""Direct look-ups: the same answers as the index, at the cost that the table says."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID

import pytest

from domindex import direct
from domindex.core.lives import name_path
from domindex.direct import Direct
from domindex.domain import NIL_UUID, Domain, OSType, ShutdownReason
from domindex.errors import (
    Ambiguous,
    Closed,
    DomindexError,
    HypercallFailed,
    InvalidKey,
    NoSuchDomain,
    NotLive,
    StoreError,
    StoreLost,
)
from domindex.index import Index
from domindex.ports import Store
from domindex.testing import SimulatedHost
from tests.whole.helpers import CALM, LIMIT, Meddler
from tests.whole.test_faults import in_a_child

U, V = UUID(int=1), UUID(int=2)


@pytest.fixture
def host(host: SimulatedHost) -> SimulatedHost:
    """Domains of every sort: doubled, nameless, crashed, dying, with nil and odd names."""
    host.create("web", uuid=U, type="pvh", domid=1)
    host.create("db", uuid=V, type="hvm", domid=2)
    host.create("twin", uuid=UUID(int=3), domid=3)
    host.create("twin", uuid=UUID(int=3), domid=4)
    host.create(None, uuid=UUID(int=5), domid=5)
    host.create("", uuid=NIL_UUID, domid=6)
    host.create("42", domid=7)
    host.create(b"\xff\n", domid=8)
    host.crash(2)
    host.create("gone", uuid=UUID(int=9), domid=9)
    host.zombie(9, order="xapi")
    host.leave_node(10, "ghost")
    return host


@pytest.fixture
def look(host: SimulatedHost) -> Iterator[Direct]:
    """Direct look-ups on that host."""
    with direct.open(host) as opened:
        yield opened


def answer(look_up: Callable[[], Any]) -> object:
    """What it gave or raised, without what only an index knows."""

    def bare(domain: Domain) -> object:
        return domain.domid, domain.uuid, domain.name, domain.type, domain.shutdown

    try:
        found = look_up()
    except Ambiguous as error:
        return Ambiguous, str(error), [bare(domain) for domain in error.domains]
    except DomindexError as error:
        return type(error), str(error)
    return bare(found) if isinstance(found, Domain) else found


NAMES = ["web", b"db", "twin", "", "42", b"\xff\n", "gone", "ghost", "nobody", None, 42]
KEYS = [*range(12), -1, 0x7FF0, "1", True, None]
HANDLES = [*(UUID(int=n) for n in range(10)), str(U), U.bytes, "web", None, 7]


@pytest.mark.parametrize(
    ("call", "key"),
    [
        *(("by_name", name) for name in NAMES),
        *(("by_uuid", uuid) for uuid in HANDLES),
        *(("by_id", domid) for domid in KEYS),
        *(("os_type", domid) for domid in KEYS),
    ],
    ids=repr,
)
def test_direct_and_index_give_the_same_answer(
    host: SimulatedHost, index: Index, look: Direct, call: str, key: object
) -> None:
    """Records and errors alike, down to the sentence."""
    one, other = getattr(look, call), getattr(index, call)
    ours, theirs = answer(lambda: one(key)), answer(lambda: other(key))
    if isinstance(ours, tuple) and ours[0] is InvalidKey:
        assert isinstance(theirs, tuple)
        assert theirs[0] is InvalidKey
    else:
        assert ours == theirs


def test_all_is_what_the_index_holds(host: SimulatedHost, index: Index, look: Direct) -> None:
    """In domid order, without the dying one and the ghost."""
    found = look.all()
    assert [answer(lambda d=d: d) for d in found] == [  # type: ignore[misc]
        answer(lambda d=d: d)  # type: ignore[misc]
        for d in index
    ]
    assert [domain.domid for domain in found] == [0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_a_record_has_all_there_is_to_know(look: Direct) -> None:
    """Type, shutdown and a life of its own."""
    db = look.by_name("db")
    assert (db.domid, db.uuid, db.type) == (2, V, OSType.HVM)
    assert db.shutdown is ShutdownReason.CRASH
    assert db.life.domid == 2


ROWS, NAMED = 10, 9  # rows in the list, dying one included; domains whose name is read

COSTS: list[tuple[Callable[[Direct], object], int, int]] = [
    (lambda look: look.by_id(1), 2, 1),
    (lambda look: look.by_id(1, confirm=False), 1, 1),
    (lambda look: look.by_uuid(U, confirm=False), 1, 1),
    (lambda look: look.by_name("web", confirm=False), 1, NAMED),
    (lambda look: look.by_uuid(U), 2, 1),
    (lambda look: look.by_uuid(UUID(int=77)), 1, 0),
    (lambda look: look.by_name("web"), 2, NAMED),
    (lambda look: look.by_name("nobody"), 1, NAMED),
    (lambda look: look.by_name("twin"), 3, NAMED),
    (lambda look: look.os_type(1), 1, 0),
    (lambda look: look.all(), 2, NAMED),
    (lambda look: look.by_id(9), 1, 0),
]


@pytest.mark.parametrize(("call", "hypercalls", "reads"), COSTS)
def test_each_look_up_costs_what_the_table_says(
    host: SimulatedHost,
    look: Direct,
    call: Callable[[Direct], object],
    hypercalls: int,
    reads: int,
) -> None:
    """P11: counted; opening costs neither a hypercall nor a read."""
    before = host.hypercalls, host.requests
    answer(lambda: call(look))
    assert (host.hypercalls - before[0], host.requests - before[1]) == (hypercalls, reads)


def test_opening_asks_nothing(host: SimulatedHost) -> None:
    """No list, no watch, no thread."""
    before = host.hypercalls, host.requests
    with direct.open(host):
        assert (host.hypercalls, host.requests) == before


@pytest.mark.parametrize(
    "call",
    [
        lambda look: look.by_id(1),
        lambda look: look.by_name("web"),
        lambda look: look.by_uuid(U),
    ],
    ids=["by_id", "by_name", "by_uuid"],
)
def test_a_name_read_and_then_the_life_gone_is_not_believed(
    host: SimulatedHost, call: Callable[[Direct], Domain]
) -> None:
    """P1: the hypervisor is asked after the read."""
    meddler = Meddler(host)
    meddler.meddle["read"] = lambda: host.destroy(1)
    with direct.open(meddler) as look, pytest.raises(NoSuchDomain):
        call(look)


@pytest.mark.parametrize("call", [lambda look: look.by_name("web"), lambda look: look.by_uuid(U)])
def test_a_domid_reused_between_the_calls_lends_nothing(
    host: SimulatedHost, call: Callable[[Direct], Domain]
) -> None:
    """P1: another handle after the read is another life."""
    meddler = Meddler(host)

    def reuse() -> None:
        host.destroy(1)
        host.create("other", uuid=UUID(int=11), domid=1)

    meddler.meddle["read"] = reuse
    with direct.open(meddler) as look:
        with pytest.raises(NoSuchDomain):
            call(look)
        assert look.by_id(1).name == "other"


def test_by_id_never_joins_two_lives(host: SimulatedHost) -> None:
    """P1: one read, then one hypercall: a reuse in between would give the new life the old
    one's name."""
    meddler = Meddler(host)

    def reuse() -> None:
        host.destroy(1)
        host.create("other", uuid=UUID(int=11), domid=1)

    meddler.meddle["read"] = reuse
    with direct.open(meddler) as look:
        found = look.by_id(1)
    assert (found.name, found.uuid) in {("web", U), ("other", UUID(int=11))}


def test_all_leaves_out_what_changed_hands(host: SimulatedHost) -> None:
    """P1: whatever went or came between its two lists."""
    meddler = Meddler(host)

    def happen() -> None:
        host.destroy(1)
        host.create("other", uuid=UUID(int=11), domid=1)
        host.destroy(2)
        host.create("new", domid=12)

    meddler.meddle["read"] = happen
    with direct.open(meddler) as look:
        assert {domain.domid for domain in look.all()} == {0, 3, 4, 5, 6, 7, 8}


def test_facts(host: SimulatedHost, look: Direct) -> None:
    """What `info` says of one, of a life, and of all; each by one hypercall, by an id's by two."""
    with host.connect(timing=CALM) as index:
        held = index.by_id(1)
    web = look.by_id(1)
    for asked, calls in ((1, 1), (web, 1), (held, 1 + (held.life.unique_id is not None))):
        before = host.hypercalls
        found = look.info(asked)
        assert (found.domid, found.uuid) == (1, U)
        assert host.hypercalls == before + calls
    before = host.hypercalls
    assert [*look.infos()] == [0, *range(1, 9)]
    assert [*look.infos(dying=True)] == [*range(10)]
    assert [info.domid for info in look.dying()] == [9]
    assert host.hypercalls == before + 3
    host.destroy(1)
    for gone in (1, web, held):
        with pytest.raises(NoSuchDomain):
            look.info(gone)
    host.create("web", domid=1)
    assert look.info(1).uuid != U
    for gone in (web, held):
        with pytest.raises(NoSuchDomain):
            look.info(gone)
    with pytest.raises(InvalidKey):
        look.info("web")  # type: ignore[arg-type]


def test_what_breaks_is_said(host: SimulatedHost) -> None:
    """P9: typed errors; after a lost line the look-ups are of no more use, but say so."""
    with direct.open(host) as look:
        host.refuse_hypercalls()
        for call in (look.all, lambda: look.by_id(1), lambda: look.by_name("web")):
            with pytest.raises(HypercallFailed):
                call()
        host.refuse_hypercalls(False)
        assert look.by_id(1)
        host.cut_line()
        for _ in range(2):
            with pytest.raises(StoreLost):
                look.by_id(1)
        assert look.os_type(1) is OSType.PVH  # needs no xenstore
    host.stop_xenstored()
    with pytest.raises(StoreLost):
        direct.open(host)


def test_a_silent_xenstored_is_not_waited_for_longer_than_asked(host: SimulatedHost) -> None:
    """P9: the time limit of `open` is that of each request."""
    with direct.open(host, timeout=0.02) as look:
        host.deafen_line()
        with pytest.raises(StoreLost, match="silent"):
            look.by_id(1)


def test_closing_gives_everything_back(host: SimulatedHost) -> None:
    """Twice is once; also when opening failed half-way."""
    meddler = Meddler(host)
    look = direct.open(meddler)
    look.close()
    look.close()
    assert meddler.hypervisor is not None
    assert meddler.hypervisor.closed >= 1
    assert all(line.closed for line in meddler.lines)
    assert host._stores == []
    host.stop_xenstored()
    with pytest.raises(StoreLost):
        direct.open(meddler)
    assert meddler.hypervisor.closed == 1


def test_the_index_fixture_is_calm() -> None:
    """Counting would be in vain if an index beside it asked by itself."""
    assert CALM.probe > 10
    assert CALM.audit > 10


@pytest.mark.parametrize("call", ["before read", "read", "before look", "look"])
def test_it_may_be_closed_amid_a_look_up_of_the_same_thread(host: SimulatedHost, call: str) -> None:
    """P9: as the handler of a signal does: the look-up ends in an answer or an error, not never."""
    meddler = Meddler(host)
    look = direct.open(meddler)
    meddler.meddle[call] = look.close
    with contextlib.suppress(StoreLost, Closed):
        assert look.by_name("web").domid == 1
    assert meddler.hypervisor is not None
    assert meddler.hypervisor.closed
    assert meddler.lines[0].closed


# -- what xenstore refuses ---------------------------------------------------------------------


class Refusing(Meddler):
    """A host whose xenstore refuses the name of domain 2."""

    def open_store(self, timeout: float) -> Store:
        line = super().open_store(timeout)
        behind = line.read

        def read(paths: Sequence[bytes]) -> list[bytes | StoreError | None]:
            values = behind(paths)
            return [
                StoreError("xenstored refuses: EIO", operation="READ", path=path.decode())
                if path == name_path(2)
                else value
                for path, value in zip(paths, values, strict=True)
            ]

        line.read = read  # type: ignore[method-assign]
        return line


def test_what_can_be_read_is_served_beside_a_name_that_cannot(
    host: SimulatedHost, caplog: pytest.LogCaptureFixture
) -> None:
    """P5: a refusal concerns that domain alone; its record has no name, and that is logged once."""
    with direct.open(Refusing(host)) as look, caplog.at_level(logging.WARNING, "domindex"):
        assert look.by_name("web").domid == 1
        assert not caplog.records
        assert (look.by_id(2).name, look.by_uuid(V).name) == (None, None)
        assert [domain.name for domain in look.all()][:3] == ["Domain-0", "web", None]
        assert [record.getMessage() for record in caplog.records] == [
            "the name of domain 2 cannot be read: xenstored refuses: EIO"
        ]


def test_a_miss_beside_a_name_that_cannot_be_read_is_not_proven(host: SimulatedHost) -> None:
    """P5: it may be that one; once its domain is gone it is not."""
    with direct.open(Refusing(host)) as look:
        with pytest.raises(NotLive, match="domain 2") as told:
            look.by_name("nobody")
        assert isinstance(told.value.cause, StoreError)
        assert told.value.cause.path == "/local/domain/2/name"
        with pytest.raises(NoSuchDomain):
            look.by_uuid(UUID(int=77))
        with pytest.raises(NoSuchDomain):
            look.by_id(99)
        host.destroy(2)
        with pytest.raises(NoSuchDomain):
            look.by_name("nobody")


def test_a_domid_that_passes_from_hand_to_hand_is_not_looked_at_for_ever(
    host: SimulatedHost,
) -> None:
    """P9: no call goes on without end."""
    meddler = Meddler(host)
    lives = 0

    def reuse() -> None:
        nonlocal lives
        lives += 1
        host.destroy(1)
        host.create("web", uuid=UUID(int=100 + lives), domid=1)
        meddler.meddle["read"] = reuse

    meddler.meddle["read"] = reuse
    with direct.open(meddler) as look, pytest.raises(NotLive, match="domid 1"):
        look.by_id(1)
    assert lives == 8


# -- within, beside and after ------------------------------------------------------------------


@pytest.mark.parametrize("call", ["before read", "read", "before look", "look"])
def test_a_look_up_within_another_has_a_line_of_its_own(host: SimulatedHost, call: str) -> None:
    """P1: as in a signal's handler: both answers are right, and the line is given back."""
    meddler = Meddler(host)
    inner: list[str | None] = []
    with direct.open(meddler) as look:
        meddler.meddle[call] = lambda: inner.append(look.by_name("db").name)
        assert look.by_name("web").domid == 1
        assert inner == ["db"]
        own = meddler.lines[1:]
        assert all(line.closed for line in own)
        if "read" in call:
            assert len(own) == 1
        assert look.by_name("web").domid == 1
        assert len(meddler.lines) == 1 + len(own)


def test_closing_does_not_wait_for_ever_behind_another_thread(host: SimulatedHost) -> None:
    """P9: a call that the hypervisor holds up gives all back as it returns, with an error."""
    meddler = Meddler(host)
    look = direct.open(meddler)
    began, go = threading.Event(), threading.Event()
    failed: list[Exception] = []

    def hold() -> None:
        began.set()
        assert go.wait(LIMIT)

    def look_up() -> None:
        try:
            look.by_id(1)
        except DomindexError as error:
            failed.append(error)

    meddler.meddle["look"] = hold
    thread = threading.Thread(target=look_up)
    thread.start()
    assert began.wait(LIMIT)
    look.close(timeout=0.01)
    assert not meddler.lines[0].closed
    with pytest.raises(Closed, match=r"direct\.open"):
        look.os_type(1)
    go.set()
    thread.join(LIMIT)
    assert isinstance(failed[0], StoreLost)
    assert meddler.lines[0].closed
    assert meddler.hypervisor is not None
    assert meddler.hypervisor.closed


def test_in_a_child_it_refuses_and_closes_whoever_was_at_it(host: SimulatedHost) -> None:
    """P9: the thread that held the lock is no more there; the parent goes on."""
    meddler = Meddler(host)
    with direct.open(meddler) as look:
        began, go = threading.Event(), threading.Event()

        def hold() -> None:
            began.set()
            assert go.wait(LIMIT)

        meddler.meddle["before read"] = hold
        thread = threading.Thread(target=look.by_id, args=[1])
        thread.start()
        assert began.wait(LIMIT)

        def child() -> str:
            for call in (look.all, lambda: look.os_type(1)):
                with pytest.raises(Closed, match="child"):
                    call()
            look.close()
            return "closed"

        assert in_a_child(child) == "closed"
        go.set()
        thread.join(LIMIT)
        assert look.by_id(1).name == "web"


def test_nodes_are_read_once(host: SimulatedHost, index: Index, look: Direct) -> None:
    """As the index reads them, for its own records and for those of an index."""
    host.write(1, "data", b"1")
    for web in (look.by_id(1), index.by_id(1)):
        assert look.read(web, "data", "x") == index.read(index.by_id(1), "data", "x")
        assert look.read(web, "data", "x") == {"data": b"1", "x": None}
    host.refuse_node(1, "x")
    with pytest.raises(StoreError) as caught:
        look.read(look.by_id(1), "data", "x")
    assert caught.value.path == "/local/domain/1/x"
    with pytest.raises(InvalidKey):
        look.read(look.by_id(1), "/x")
    given: Any = 1
    with pytest.raises(InvalidKey):
        look.read(given, "data")


@pytest.mark.parametrize("uuid", [U, UUID(int=11), None], ids=["same", "another", "none"])
def test_no_node_of_the_next_life_is_read(host: SimulatedHost, uuid: UUID | None) -> None:
    """P1: the domain is gone after the read, or the domid is another's."""
    meddler = Meddler(host)

    def reuse() -> None:
        host.destroy(1, order="at once")
        if uuid is not None:
            host.create("other", uuid=uuid, domid=1)

    with host.connect(timing=CALM) as index:
        web = index.by_id(1)
    if uuid == web.uuid and not host._unique_ids:
        pytest.skip("before Xen 4.21 nothing tells the two apart")
    meddler.meddle["read"] = reuse
    with direct.open(meddler) as look, pytest.raises(NoSuchDomain):
        look.read(web, "data")


# -- what a user typed -------------------------------------------------------------------------

TYPED = [
    *("web", "name:web", "id:1", "1", "001", str(U), f"uuid:{U}", f"uuid:{U.hex}", "2", "42", "7"),
    *("id:42", "name:42", "twin", str(UUID(int=3)), f"uuid:{UUID(int=3)}", "", "name:", "nobody"),
    *("9", "id:9", "10", "ghost", str(NIL_UUID), f"uuid:{NIL_UUID}", "99999", "id:x", "uuid:x"),
    *("id:32752", "udcff\n", "\udcff\n", "name", "id", "web:7", "\u0667", "000007"),
]


@pytest.mark.parametrize("text", TYPED)
def test_what_a_user_typed_means_the_same_as_to_an_index(
    look: Direct, index: Index, text: str
) -> None:
    """The same domain, or the same error of the same domains."""

    def outcome(resolve: Callable[[str], Domain]) -> object:
        try:
            return resolve(text).domid
        except Ambiguous as error:
            return [domain.domid for domain in error.domains]
        except DomindexError as error:
            return type(error)

    assert outcome(look.resolve) == outcome(index.resolve)


@pytest.mark.parametrize(
    ("text", "hypercalls", "requests"),
    [("id:1", 2, 1), (f"uuid:{U}", 2, 1), ("web", 2, 9), ("1", 2, 9), (str(U), 2, 9)],
)
def test_a_key_that_says_what_it_is_costs_less(
    host: SimulatedHost, look: Direct, text: str, hypercalls: int, requests: int
) -> None:
    """Only what may be a name needs the names of all nine domains."""
    before = host.hypercalls, host.requests
    look.resolve(text)
    assert (host.hypercalls - before[0], host.requests - before[1]) == (hypercalls, requests)


def test_a_domid_that_is_given_away_amid_the_look_is_looked_at_again(host: SimulatedHost) -> None:
    """P1: the answer is the domain that has it now, and never that there is none."""
    meddler = Meddler(host)

    def replace() -> None:
        host.destroy(1, order="at once")
        host.create("other", domid=1)

    with direct.open(meddler) as look:
        meddler.meddle["read"] = replace
        assert look.resolve("1").name == "other"


@pytest.mark.parametrize("text", ["nobody", "99"])
def test_a_typed_miss_beside_a_name_that_cannot_be_read_is_not_proven(
    host: SimulatedHost, look: Direct, text: str
) -> None:
    """P5: that name may be the one. A domid that is found is found."""
    host.refuse_node(1)
    with pytest.raises(NotLive):
        look.resolve(text)
    with pytest.raises(NoSuchDomain):
        look.resolve("id:99")
    assert look.resolve("1").name is None


@pytest.mark.parametrize("text", [7, b"web", None])
def test_only_text_can_be_typed(look: Direct, text: object) -> None:
    """What has a type has a look-up of its own."""
    with pytest.raises(InvalidKey):
        look.resolve(text)  # type: ignore[arg-type]
