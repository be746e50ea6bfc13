"""Names that move, clash, lack or look alike.

Each step is told in short (`tests.stage.tale`), as in `test_hard_cases.py`.
"""

from __future__ import annotations

import pytest

from domindex import Ambiguous, NoSuchDomain
from tests.stage import Stage, news, tale


def test_swapped_between_two_looks(stage: Stage) -> None:
    """P2: both renames in one generation, and no moment at which two have one name."""
    with stage.index() as (index, heard):
        one, two = stage.toolstack.create("a"), stage.toolstack.create("b")
        heard.told(index)
        with stage.unseen():
            stage.toolstack.rename(one, "b")
            stage.toolstack.rename(two, "a")
        events = heard.told(index)
        assert tale(events) == ["a>b", "b>a"]
        assert len({event.generation for event in events}) == 1
        assert (index.by_name("b").domid, index.by_name("a").domid) == (one, two)


def test_names_go_round(stage: Stage) -> None:
    """P2: three names go round three domains, and back in steps that are all looked at."""
    with stage.index() as (index, heard):
        names = ["a", "b", "c"]
        made = [stage.toolstack.create(name) for name in names]
        heard.told(index)
        with stage.unseen():
            for domid, name in zip(made, ["b", "c", "a"], strict=True):
                stage.toolstack.rename(domid, name)
        assert news(index, heard) == ["a>b", "b>c", "c>a"]
        for domid, name in zip(made, names, strict=True):
            stage.toolstack.rename(domid, name)
            heard.told(index)
            assert index.by_id(domid).name == name
        assert [index.by_name(name, verify=True).domid for name in names] == made


def test_renamed_twice_between_two_looks(stage: Stage) -> None:
    """P1: a name that nobody saw is not told; there and back again is nothing at all."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("a")
        assert news(index, heard) == ["+a"]
        with stage.unseen():
            stage.toolstack.rename(domid, "b")
            stage.toolstack.rename(domid, "c")
        assert news(index, heard) == ["a>c"]
        with stage.unseen():
            stage.toolstack.rename(domid, "d")
            stage.toolstack.rename(domid, None)
            stage.toolstack.rename(domid, "c")
        assert news(index, heard) == []


def test_renamed_in_a_chain(stage: Stage) -> None:
    """P8: each name that is seen starts where the last one ended."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("a")
        assert news(index, heard) == ["+a"]
        for old, new in zip("abcdef", "bcdefg", strict=True):
            stage.toolstack.rename(domid, new)
            assert news(index, heard) == [f"{old}>{new}"]
            assert old not in index.names


def test_a_name_handed_on(stage: Stage) -> None:
    """P5: a name that two have for a moment is Ambiguous then, and the second's after that."""
    with stage.index() as (index, heard):
        one, two = stage.toolstack.create("web"), stage.toolstack.create("spare")
        heard.told(index)
        stage.toolstack.rename(two, "web")
        assert news(index, heard) == ["spare>web"]
        with pytest.raises(Ambiguous):
            index.by_name("web", verify=True)
        stage.toolstack.rename(one, "old")
        assert news(index, heard) == ["web>old"]
        assert index.by_name("web", verify=True).domid == two


def test_written_again_unchanged(stage: Stage) -> None:
    """P8: xenstore fires, nothing has changed, nothing is told."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create("web")
        assert news(index, heard) == ["+web"]
        generation = index.generation
        for _ in range(3):
            stage.toolstack.rename(domid, "web")
        assert news(index, heard) == []
        assert index.generation == generation


def test_dom0_without_a_name(stage: Stage) -> None:
    """P2: dom0 is held without a name as in early boot, and gets it back."""
    with stage.index() as (index, heard):
        name = index.by_id(0).name
        assert name is not None
        try:
            stage.toolstack.rename(0, None)
            assert news(index, heard) == [f"{name}>?"]
            assert index.by_id(0, verify=True).name is None
            with pytest.raises(NoSuchDomain):
                index.by_name(name, verify=True)
            with stage.index() as (other, _):
                assert other.by_id(0).name is None
        finally:
            stage.toolstack.rename(0, name)
        assert news(index, heard) == [f"?>{name}"]
        assert index.by_name(name, verify=True).domid == 0


def test_never_named(stage: Stage) -> None:
    """P2: found by domid and uuid all its life, and in no list of names."""
    with stage.index() as (index, heard):
        domid = stage.toolstack.create()
        assert news(index, heard) == ["+?"]
        domain = index.by_id(domid, verify=True)
        assert domain.name is None
        assert index.by_uuid(domain.uuid, verify=True) == domain
        assert domain in list(index)
        assert domain not in index.names.values()
        assert "" not in index.names
        assert "None" not in index.names
        stage.toolstack.destroy(domid)
        assert news(index, heard) == ["-?"]


def test_names_that_differ_in_case_only(stage: Stage) -> None:
    """P5: names are bytes; three spellings are three names."""
    with stage.index() as (index, heard):
        names = ["WEB", "Web", "web"]
        made = {name: stage.toolstack.create(name) for name in names}
        assert sorted(news(index, heard)) == ["+WEB", "+Web", "+web"]
        for name, domid in made.items():
            assert index.by_name(name, verify=True).domid == domid
        assert [domain.name for domain in index.find(prefix="W")] == ["WEB", "Web"]
        with pytest.raises(NoSuchDomain):
            index.by_name("wEB", verify=True)
        stage.toolstack.rename(made["web"], "weB")
        assert news(index, heard) == ["web>weB"]


def test_empty_name(stage: Stage) -> None:
    """P5: an empty name is a name, and not the same as none; two may have it."""
    with stage.index() as (index, heard):
        one, two = stage.toolstack.create(""), stage.toolstack.create("web")
        assert sorted(news(index, heard)) == ["+''", "+web"]
        assert index.by_name("", verify=True).domid == one
        stage.toolstack.rename(two, "")
        assert news(index, heard) == ["web>''"]
        with pytest.raises(Ambiguous):
            index.by_name("", verify=True)
        stage.toolstack.rename(one, None)
        assert news(index, heard) == ["''>?"]
        assert index.by_name("", verify=True).domid == two
        stage.toolstack.destroy(two)
        assert news(index, heard) == ["-''"]


def test_stub_domain(stage: Stage) -> None:
    """P2: NAME-dm comes before NAME runs, is renamed with it, and goes with it."""
    with stage.index() as (index, heard):
        guest = stage.toolstack.create("web", type="hvm", introduce=False)
        stub = stage.toolstack.create("web-dm")
        assert sorted(news(index, heard)) == ["+web", "+web-dm"]
        stage.toolstack.introduce(guest)
        assert news(index, heard) == []
        assert [domain.domid for domain in index.find(prefix="web")] == [guest, stub]
        with stage.unseen():
            stage.toolstack.rename(guest, "www")
            stage.toolstack.rename(stub, "www-dm")
        assert news(index, heard) == ["web>www", "web-dm>www-dm"]
        with stage.unseen():
            stage.toolstack.destroy(stub)
            stage.toolstack.destroy(guest)
        assert sorted(news(index, heard)) == ["-www", "-www-dm"]


def test_a_name_that_looks_like_a_domid(stage: Stage) -> None:
    """P5: a name made of another's domid is a name, and never mixes with that domid."""
    with stage.index() as (index, heard):
        one = stage.toolstack.create("web")
        two = stage.toolstack.create(str(one))
        heard.told(index)
        assert index.by_name(str(one), verify=True).domid == two
        assert index.by_id(one, verify=True).name == "web"
