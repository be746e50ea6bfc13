"""The table against the simplest thing that is right, and against what a listener believes."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from domindex.core.table import Change, DomainTable
from domindex.domain import NIL_UUID, Domain, Life, OSType, ShutdownReason
from domindex.events import DuplicateName, DuplicateUuid
from tests.believer import Believer

domids = st.integers(0, 4)
uuids = st.integers(0, 3).map(lambda number: UUID(int=number))
names = st.sampled_from([None, "", "a", "b", "c"])
reasons = st.sampled_from([None, ShutdownReason.POWEROFF, ShutdownReason.CRASH])
types = st.sampled_from([OSType.PV, OSType.PVH])
wanted = st.tuples(uuids, names, types, reasons)


class Absent(KeyError):
    """The table does not hold that key alone."""


def initial(domain: Domain) -> str | None:
    """What an index of the caller's may go by."""
    return domain.name[0] if domain.name else None


def _key(event: DuplicateName | DuplicateUuid) -> str | UUID:
    return event.name if isinstance(event, DuplicateName) else event.uuid


def absent(key: object) -> Domain:
    raise Absent(key)


class TableMachine(RuleBasedStateMachine):
    """Batches of changes, good and impossible ones."""

    def __init__(self) -> None:
        super().__init__()
        self.table = DomainTable(lambda _, key: absent(key))
        self.model: dict[int, Domain] = {}  # the simplest thing that is right
        self.listener = Believer()  # what a listener would believe
        self.lives = 0
        self.generation = 0
        self.hidden = False
        self.table.group("initial", initial)

    def begin(
        self,
        domid: int,
        uuid: UUID,
        name: str | None,
        type_: OSType,
        shutdown: ShutdownReason | None,
    ) -> Domain:
        self.lives += 1
        life = Life(domid, self.lives, None, None)
        return Domain(domid, uuid, name, type_, life, float(self.lives), shutdown)

    def take(self, changes: list[Change]) -> None:
        before = self.shared()
        events = self.table.apply(changes)
        for old, _ in changes:
            if old is not None:
                self.model.pop(old.domid)
        for _, new in changes:
            if new is not None:
                self.model[new.domid] = new
        if any(old != new for old, new in changes):
            self.generation += 1
        for event in events:
            assert event.generation == self.generation
            self.listener.hear(event)
        duplicates = [e for e in events if isinstance(e, (DuplicateName, DuplicateUuid))]
        assert events[len(events) - len(duplicates) :] == duplicates
        # Told is each key that several hold, and one of them not before.
        assert {_key(event): event.domains for event in duplicates} == {
            key: holders
            for key, holders in self.shared().items()
            if len(holders) > 1
            and not {d.life for d in holders} <= {d.life for d in before.get(key, ())}
        }

    def shared(self) -> dict[str | UUID, tuple[Domain, ...]]:
        """All that hold each key, by domid."""
        found: dict[str | UUID, tuple[Domain, ...]] = {}
        for _, domain in sorted(self.model.items()):
            for key in (domain.name, domain.uuid):
                if key is not None and key != NIL_UUID:
                    found[key] = (*found.get(key, ()), domain)
        return found

    @rule()
    def hide(self) -> None:
        """The line is lost, and look-ups are not to be served."""
        self.table.hide()
        self.hidden = True

    @rule()
    def show(self) -> None:
        """It is back."""
        self.table.hide(names=False, others=False)
        self.hidden = False

    @rule(batch=st.dictionaries(domids, st.tuples(wanted, st.booleans()), max_size=5))
    def change(
        self, batch: dict[int, tuple[tuple[UUID, str | None, OSType, ShutdownReason | None], bool]]
    ) -> None:
        """Some domids come, change, or are reused by another life."""
        changes: list[Change] = []
        for domid, ((uuid, name, type_, shutdown), reused) in batch.items():
            old = self.model.get(domid)
            if old is None or reused:
                new = self.begin(domid, uuid, name, type_, shutdown)
            else:
                new = replace(old, uuid=uuid, name=name, type=type_, shutdown=shutdown)
            changes.append((old, new))
        self.take(changes)

    @rule(gone=st.sets(domids), came=st.dictionaries(domids, wanted, max_size=2))
    def remove(
        self,
        gone: set[int],
        came: dict[int, tuple[UUID, str | None, OSType, ShutdownReason | None]],
    ) -> None:
        """Some go, and others come in the same batch, given as changes of their own."""
        changes: list[Change] = [
            (None, self.begin(domid, *particulars))
            for domid, particulars in came.items()
            if domid in gone or domid not in self.model
        ]
        changes += [(self.model[domid], None) for domid in gone if domid in self.model]
        self.take(changes)

    @precondition(lambda self: len(self.model) > 1)
    @rule(data=st.data())
    def swap(self, data: st.DataObject) -> None:
        """Two domains swap their names in one batch."""
        pick = st.sampled_from(sorted(self.model))
        one, other = self.model[data.draw(pick)], self.model[data.draw(pick)]
        if one != other:
            self.take(
                [(one, replace(one, name=other.name)), (other, replace(other, name=one.name))]
            )

    @rule(data=st.data(), domid=domids, particulars=wanted, flaw=st.integers(0, 4))
    def refuse(
        self,
        data: st.DataObject,
        domid: int,
        particulars: tuple[UUID, str | None, OSType, ShutdownReason | None],
        flaw: int,
    ) -> None:
        """A batch with one impossible change, amid good ones, raises and changes nothing."""
        stranger = self.begin(domid, *particulars)
        held = self.model.get(domid)
        bad: list[Change] = [(stranger, None)]
        if flaw == 1:
            bad = [(stranger, replace(stranger, name="z"))]
        elif flaw == 2 and held is not None:
            bad = [(None, stranger)]
        elif flaw == 3 and held is not None:
            bad = [(held, None), (held, replace(held, name="z"))]
        elif flaw == 4:
            bad = [(held, stranger), (None, replace(stranger, name="z"))]
        others: list[Change] = [(old, None) for other, old in self.model.items() if other != domid]
        batch = data.draw(st.permutations(others + bad))
        with pytest.raises(KeyError):
            self.table.apply(batch)

    @invariant()
    def agrees(self) -> None:
        """Every way in gives what the model gives, and the listener believes the same."""
        table, model = self.table, self.model
        table.check()
        assert table.generation == self.generation
        assert {d.domid: d for d in table} == model == self.listener.domains
        assert [d.domid for d in table] == sorted(model)
        named = [d for d in model.values() if d.name is not None]
        assert list(table.named()) == sorted(named, key=lambda d: (d.name, d.domid))
        assert [d.domid for d in table.between("a", "c")] == [
            d.domid for d in table.named() if d.name in ("a", "b")
        ]
        for letter in "abz":
            assert table.grouped("initial", letter) == tuple(
                model[domid] for domid in sorted(model) if initial(model[domid]) == letter
            )
        for name in ("", "a", "b", "c", "z"):
            holders = {d.domid: d for d in model.values() if d.name == name}
            assert table.names.holders(name) == holders
            assert table.names.view.get(name) == (
                next(iter(holders.values())) if len(holders) == 1 and not self.hidden else None
            )
        for uuid in (UUID(int=number) for number in range(4)):
            holders = {d.domid: d for d in model.values() if d.uuid == uuid != NIL_UUID}
            assert table.uuids.holders(uuid) == holders


TestTable = TableMachine.TestCase
TestTable.settings = settings(stateful_step_count=30)
