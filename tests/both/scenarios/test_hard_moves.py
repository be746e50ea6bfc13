"""Lives that go on in another shape: suspended, resumed, reset, preserved, migrated.

Each step is told in short (`tests.stage.tale`), as in `test_hard_cases.py`.
"""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from domindex import Ambiguous, Index, NoSuchDomain, Removed, ShutDown
from domindex import ShutdownReason as Why
from tests.stage import Stage, news


def sharing(index: Index, uuid: UUID) -> list[int]:
    """The domids of those that share a uuid."""
    with pytest.raises(Ambiguous) as caught:
        index.by_uuid(uuid, verify=True)
    return [domain.domid for domain in caught.value.domains]


@pytest.mark.parametrize("type_", ["pvh", "hvm"])
def test_suspended_and_resumed(stage: Stage, type_: str) -> None:
    """P2: nothing tells of the resume, a refresh does; the next stop is an event again."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web", type=type_)
        assert news(index, heard) == ["+web"]
        life = index.by_id(domid).life
        stage.toolstack.shutdown(domid, Why.SUSPEND)
        assert news(index, heard) == ["web!suspend"]
        stage.toolstack.resume(domid)
        assert news(index, heard) == ["web~shutdown"]
        assert index.by_name("web", verify=True).shutdown is None
        stage.toolstack.shutdown(domid, Why.POWEROFF)
        told = heard.until(ShutDown, domid=domid)
        assert (told.reason, told.domain.life) == (Why.POWEROFF, life)


def test_a_resumed_domain_is_verified(stage: Stage) -> None:
    """P7: a verified look-up does not say that it is stopped, though no event told."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web", type="pvh")
        stage.toolstack.shutdown(domid, Why.SUSPEND)
        heard.told(index)
        assert index.by_id(domid).shutdown is Why.SUSPEND
        stage.toolstack.resume(domid)
        assert index.by_id(domid, verify=True).shutdown is None


@pytest.mark.parametrize("type_", ["pvh", "hvm"])
def test_soft_reset_between_two_looks(stage: Stage, type_: str) -> None:
    """P3: released, reset and introduced again it is the same life, and runs again."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web", type=type_)
        assert news(index, heard) == ["+web"]
        life = index.by_id(domid).life
        stage.toolstack.shutdown(domid, Why.SOFT_RESET)
        assert news(index, heard) == ["web!soft_reset"]
        with stage.unseen():
            stage.toolstack.soft_reset(domid)
        assert news(index, heard) == ["web~shutdown"]
        assert index.by_name("web", verify=True).life == life


def test_soft_reset_watched(stage: Stage) -> None:
    """P3: whatever is seen of the steps, none of them is an end or a birth."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web", type="hvm")
        assert news(index, heard) == ["+web"]
        for _ in range(5):
            stage.toolstack.shutdown(domid, Why.SOFT_RESET)
            stage.toolstack.soft_reset(domid)
            told = news(index, heard)
            assert not [text for text in told if text[0] in "+-"]
            assert index.by_name("web").shutdown is None
        stage.toolstack.destroy(domid)
        heard.until(Removed, domid=domid)


def test_preserved(stage: Stage) -> None:
    """P5: the corpse keeps its uuid under another name, and the heir has both uuid and name."""
    with stage.index() as (index, heard):
        uuid = uuid4()
        corpse = stage.toolstack.create("web", uuid=uuid)
        stage.toolstack.crash(corpse)
        heard.told(index)
        stage.toolstack.rename(corpse, "web-20240229T2359Z")
        assert news(index, heard) == ["web>web-20240229T2359Z"]
        heir = stage.toolstack.create("web", uuid=uuid)
        assert news(index, heard) == ["+web"]
        assert sharing(index, uuid) == [corpse, heir]
        assert index.by_name("web", verify=True).domid == heir
        assert index.by_id(corpse).shutdown is Why.CRASH
        stage.toolstack.destroy(corpse)
        assert news(index, heard) == ["-web-20240229T2359Z (crash)"]
        assert index.by_uuid(uuid, verify=True).domid == heir


def test_preserved_between_two_looks(stage: Stage) -> None:
    """P2: all of it in one look; the stop is told before the name, which has to be read first."""
    with stage.index() as (index, heard):
        uuid = uuid4()
        corpse = stage.toolstack.create("web", uuid=uuid)
        assert news(index, heard) == ["+web"]
        with stage.unseen():
            stage.toolstack.crash(corpse)
            stage.toolstack.rename(corpse, "web-old")
            heir = stage.toolstack.create("web", uuid=uuid)
        assert sorted(news(index, heard)) == ["+web", "web!crash", "web>web-old"]
        assert sharing(index, uuid) == [corpse, heir]


def test_migrated_to_the_same_host(stage: Stage) -> None:
    """P5: two with one uuid, told apart by name at every step; the second is it in the end."""
    with stage.index() as (index, heard):
        uuid = uuid4()
        source = stage.toolstack.create("web", uuid=uuid, type="pvh")
        assert news(index, heard) == ["+web"]
        target = stage.toolstack.create("web--incoming", uuid=uuid, type="pvh")
        assert news(index, heard) == ["+web--incoming"]
        assert sharing(index, uuid) == [source, target]
        stage.toolstack.shutdown(source, Why.SUSPEND)
        assert news(index, heard) == ["web!suspend"]
        stage.toolstack.rename(source, "web--migratedaway")
        assert news(index, heard) == ["web>web--migratedaway"]
        with pytest.raises(NoSuchDomain):
            index.by_name("web", verify=True)
        stage.toolstack.rename(target, "web")
        assert news(index, heard) == ["web--incoming>web"]
        stage.toolstack.destroy(source)
        assert news(index, heard) == ["-web--migratedaway (suspend)"]
        found = index.by_uuid(uuid, verify=True)
        assert found == index.by_name("web", verify=True) == index.by_id(target)


def test_migrated_between_two_looks(stage: Stage) -> None:
    """P2: a whole migration in one look: one life for another, with the same name and uuid."""
    with stage.index() as (index, heard):
        uuid = uuid4()
        source = stage.toolstack.create("web", uuid=uuid)
        assert news(index, heard) == ["+web"]
        with stage.unseen():
            target = stage.toolstack.create("web--incoming", uuid=uuid)
            stage.toolstack.shutdown(source, Why.SUSPEND)
            stage.toolstack.rename(source, "web--migratedaway")
            stage.toolstack.rename(target, "web")
            stage.toolstack.destroy(source)
        assert news(index, heard) == ["-web", "+web"]
        assert index.by_uuid(uuid, verify=True).domid == target


def test_migration_that_fails(stage: Stage) -> None:
    """P2: renamed back and resumed, the source is what it was; the target is forgotten."""
    with stage.index() as (index, heard):
        uuid = uuid4()
        source = stage.toolstack.create("web", uuid=uuid, type="pvh")
        target = stage.toolstack.create("web--incoming", uuid=uuid, type="pvh")
        heard.told(index)
        before = index.by_id(source)
        stage.toolstack.shutdown(source, Why.SUSPEND)
        stage.toolstack.rename(source, "web--migratedaway")
        heard.told(index)
        stage.toolstack.destroy(target)
        assert news(index, heard) == ["-web--incoming"]
        stage.toolstack.rename(source, "web")
        assert news(index, heard) == ["web--migratedaway>web"]
        stage.toolstack.resume(source)
        assert news(index, heard) == ["web~shutdown"]
        assert index.by_name("web", verify=True) == index.by_uuid(uuid) == before


@pytest.mark.parametrize("type_", ["pv", "pvh", "hvm"])
def test_handle_changed_on_a_live_domain(stage: Stage, type_: str) -> None:
    """P3, P7: no event tells of it; a refresh and a verified look-up find it by its new uuid."""
    with stage.index() as (index, heard):
        old, new = uuid4(), uuid4()
        domid = stage.toolstack.create("web", uuid=old, type=type_)
        assert news(index, heard) == ["+web"]
        stage.toolstack.change_handle(domid, new)
        assert heard.rest() == []
        with pytest.raises(NoSuchDomain):
            index.by_uuid(old, verify=True)
        assert news(index, heard) == ["web~uuid"]
        assert index.by_uuid(new, verify=True) == index.by_name("web") == index.by_id(domid)


def test_handle_changed_in_a_migration_by_xapi(stage: Stage) -> None:
    """P5: the source takes another uuid, then the target its own; each uuid has one holder."""
    with stage.index() as (index, heard):
        uuid, spare = uuid4(), uuid4()
        source = stage.toolstack.create("web", uuid=uuid)
        target = stage.toolstack.create("web", uuid=spare)
        assert sorted(news(index, heard)) == ["+web", "+web"]
        with stage.unseen():
            stage.toolstack.change_handle(source, uuid4())
            stage.toolstack.change_handle(target, uuid)
        assert index.by_uuid(uuid, verify=True).domid == target
        stage.toolstack.destroy(source, order="xapi")
        heard.told(index)
        assert index.by_name("web", verify=True) == index.by_uuid(uuid) == index.by_id(target)


def test_nil_uuid(stage: Stage) -> None:
    """P5: the uuid of dom0 is nobody's, though a guest may carry it too."""
    with stage.index() as (index, heard):
        nil = UUID(int=0)
        domid = stage.toolstack.create("web", uuid=nil)
        assert news(index, heard) == ["+web"]
        with pytest.raises(NoSuchDomain):
            index.by_uuid(nil)
        stage.toolstack.destroy(domid)
        assert news(index, heard) == ["-web"]
