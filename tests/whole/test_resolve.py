"""What somebody types: a name, a domid or a uuid, and when it is not clear which."""

from __future__ import annotations

from uuid import UUID

import pytest

from domindex.errors import Ambiguous, InvalidKey, NoSuchDomain, NotLive
from domindex.index import Index
from domindex.testing import SimulatedHost
from tests.whole.helpers import SHARP, eventually

U = UUID("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9")


@pytest.fixture
def host() -> SimulatedHost:
    """One kind will do: what differs between them is below all this."""
    return SimulatedHost(idle=True)


@pytest.fixture
def web(host: SimulatedHost, index: Index) -> int:
    """Domain 7, called "web", with the uuid U."""
    domid = host.create("web", domid=7, uuid=U)
    index.refresh()
    return domid


@pytest.mark.parametrize(
    "text",
    [
        *("web", "name:web", "7", "007", "id:7", "id:07"),
        *(str(U), str(U).upper(), U.hex, U.urn, f"{{{U}}}", f"uuid:{U}", f"uuid:{U.hex}"),
    ],
)
def test_each_way_to_say_it_leads_to_the_domain(web: int, index: Index, text: str) -> None:
    """Plain or with what it is before a colon."""
    assert index.resolve(text).domid == web


@pytest.mark.parametrize(
    "text",
    [
        *("nobody", "name:7", "8", "id:8", "", "name:", "-7", "+7", "7.0", " 7", "\u0667", "99999"),
        *("1" * 5000, str(UUID(int=9)), str(UUID(int=0)), f"uuid:{UUID(int=9)}", "id", "Web"),
    ],
)
def test_what_leads_nowhere_is_absent(web: int, index: Index, text: str) -> None:
    """P5: whatever it may have meant."""
    with pytest.raises(NoSuchDomain):
        index.resolve(text)


@pytest.mark.parametrize(
    "text",
    ["id:", "id:web", "id:-1", "id:32752", "id:" + "1" * 5000, "id:\u0667", "uuid:", "uuid:web"],
)
def test_what_cannot_be_meant_is_refused(web: int, index: Index, text: str) -> None:
    """It says which key it is, and is none."""
    with pytest.raises(InvalidKey):
        index.resolve(text)


@pytest.mark.parametrize("key", [7, b"web", None, U])
def test_only_text_can_be_typed(index: Index, key: object) -> None:
    """What has a type has a look-up of its own."""
    with pytest.raises(InvalidKey):
        index.resolve(key)  # type: ignore[arg-type]


def test_a_name_that_is_another_s_domid_or_uuid_is_ambiguous(
    host: SimulatedHost, web: int, index: Index
) -> None:
    """Both are named, and the error says how to choose: there each finds its own."""
    for name, text in (("7", "id:7"), (str(U), f"uuid:{U}")):
        other = host.create(name)
        index.refresh()
        with pytest.raises(Ambiguous) as caught:
            index.resolve(name)
        assert [domain.domid for domain in caught.value.domains] == sorted([web, other])
        assert caught.value.key == name
        for form in ("id:", "uuid:", "name:"):
            assert form in str(caught.value)
        assert "all_by" not in str(caught.value)
        assert index.resolve(f"name:{name}").domid == other
        assert index.resolve(text).domid == web


def test_a_domain_called_by_its_own_domid_is_not(host: SimulatedHost, index: Index) -> None:
    """All roads lead to the same."""
    host.create("9", domid=9, uuid=U)
    host.create(str(U), domid=8, uuid=UUID(int=8))
    host.change_handle(9, UUID(int=99))
    index.refresh()
    assert index.resolve("9").domid == 9
    assert index.resolve(str(U)).domid == 8


def test_a_key_of_two_is_ambiguous(host: SimulatedHost, web: int, index: Index) -> None:
    """A name, a uuid; spelt out or not; together with a domid too."""
    other = host.create("web", uuid=U)
    index.refresh()
    for text in ("web", "name:web", str(U), f"uuid:{U}"):
        with pytest.raises(Ambiguous) as caught:
            index.resolve(text)
        assert [domain.domid for domain in caught.value.domains] == [web, other]
    for name in ("7", "7"):
        host.create(name)
    index.refresh()
    with pytest.raises(Ambiguous) as caught:
        index.resolve("7")
    assert len(caught.value.domains) == 3


def test_a_name_with_a_colon_is_a_name(host: SimulatedHost, index: Index) -> None:
    """Unless it begins as one of the three forms; then it is spelt out."""
    one, other = host.create("a:b"), host.create("id:7")
    index.refresh()
    assert index.resolve("a:b").domid == one
    assert index.resolve("name:id:7").domid == other


def test_while_the_line_is_down_a_miss_cannot_tell(host: SimulatedHost) -> None:
    """P5: and what is held is served."""
    host.create("web")
    with host.connect(timing=SHARP) as index:
        host.stop_xenstored()
        eventually(lambda: not index.live)
        assert index.resolve("web")
        for text in ("nobody", "id:9", "name:nobody"):
            with pytest.raises(NotLive):
                index.resolve(text)


@pytest.mark.parametrize("form", ["{}", "id:{}"])
def test_a_domid_has_five_digits_at_most(host: SimulatedHost, index: Index, form: str) -> None:
    """P5: all five count; what has six is no domid, whatever number it would be."""
    far, near = host.create("far", domid=30_001), host.create("near", domid=7)
    index.refresh()
    assert index.resolve(form.format("30001")).domid == far
    assert index.resolve(form.format("00007")).domid == near
    with pytest.raises((NoSuchDomain, InvalidKey)):
        index.resolve(form.format("000007"))
    with pytest.raises((NoSuchDomain, InvalidKey)):
        index.resolve(form.format("030001"))
