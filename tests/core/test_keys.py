"""Keys: what a caller may give as a name, a uuid or a domid."""

from __future__ import annotations

import contextlib
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domindex.domain import FIRST_RESERVED_DOMID
from domindex.errors import InvalidKey
from domindex.keys import as_domid, as_name, as_uuid, decode_name

U = UUID("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9")


# -- uuids -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling",
    [
        U,
        str(U),
        str(U).upper(),
        U.hex,
        U.urn,
        f"{{{U}}}",
        f"  {U}\n",
        U.bytes,
        bytearray(U.bytes),
    ],
    ids=repr,
)
def test_a_uuid_is_taken_in_any_form(spelling: object) -> None:
    """A UUID, text in any case and form, and 16 bytes in textual order are the same uuid."""
    assert as_uuid(spelling) == U


def test_uuid_bytes_are_in_textual_order() -> None:
    """The hypervisor's handle reads as the text does, not as a little-endian GUID would."""
    assert as_uuid(bytes(range(16))) == UUID("00010203-0405-0607-0809-0a0b0c0d0e0f")


@given(st.uuids())
def test_every_uuid_comes_back_from_each_of_its_spellings(uuid: UUID) -> None:
    """No uuid, the nil one included, is lost on the way through text or bytes."""
    for spelling in (str(uuid), str(uuid).upper(), uuid.hex, uuid.urn, uuid.bytes):
        assert as_uuid(spelling) == uuid


@pytest.mark.parametrize(
    "nonsense",
    [
        *("", "web", str(U)[:-1], str(U) + "0", "g" * 32, "\0" * 32),
        *(b"", b"0" * 15, b"0" * 17, b"0" * 36),
        *(None, 7, 7.0, True, [U], U.int),
        pytest.param(object(), id="object"),
    ],
    ids=repr,
)
def test_what_is_no_uuid_is_refused(nonsense: object) -> None:
    """A wrong length, wrong digits and a wrong type are the caller's mistake: InvalidKey."""
    with pytest.raises(InvalidKey) as refused:
        as_uuid(nonsense)
    assert "uuid" in str(refused.value)


@given(st.text() | st.binary())
def test_no_text_and_no_bytes_raise_anything_but_invalid_key(text: str | bytes) -> None:
    """P12: whatever is given as a uuid is taken or refused, never a crash."""
    with contextlib.suppress(InvalidKey):
        assert isinstance(as_uuid(text), UUID)


# -- domids ----------------------------------------------------------------------------------


@pytest.mark.parametrize("domid", [0, 1, 7, FIRST_RESERVED_DOMID - 1])
def test_a_domid_in_range_is_taken(domid: int) -> None:
    """0 to 0x7FEF name domains."""
    assert as_domid(domid) == domid


@pytest.mark.parametrize("domid", [-1, FIRST_RESERVED_DOMID, 0x7FFF, 0x10000, 2**64, -(2**64)])
def test_a_domid_out_of_range_is_refused(domid: int) -> None:
    """DOMID_SELF, DOMID_IO and numbers beyond u16 never name a guest."""
    with pytest.raises(InvalidKey, match=r"outside 0\.\.32751"):
        as_domid(domid)


@pytest.mark.parametrize("wrong", ["7", b"7", 7.0, None, True, False, U, [7]], ids=repr)
def test_what_is_no_int_is_refused_as_a_domid(wrong: object) -> None:
    """Digits as text are a name, and True is not domain 1."""
    with pytest.raises(InvalidKey, match="a domid is int, not"):
        as_domid(wrong)


# -- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"web", b"42", b"x" * 4000, "wéb-服务器".encode()),
        *(b"\xff\xfe", b"\xed\xa0\x80", b"a\0b", bytes(range(256))),
    ],
    ids=lambda raw: f"{len(raw)} bytes",
)
def test_any_bytes_are_a_name_and_come_back(raw: bytes) -> None:
    """Names of 0 and 4,000 bytes, digits, control characters and no UTF-8: none loses a byte."""
    assert as_name(raw) == decode_name(raw)
    assert decode_name(raw).encode("utf-8", "surrogateescape") == raw


@given(st.binary(max_size=200))
def test_every_name_comes_back_byte_for_byte(raw: bytes) -> None:
    """Decoding is one to one, but for NULs at the end: those are no part of it."""
    assert decode_name(raw).encode("utf-8", "surrogateescape") == raw.rstrip(b"\0")


@pytest.mark.parametrize("end", ["\0", "\0\0"])
def test_a_nul_at_the_end_is_no_part_of_a_name(end: str) -> None:
    """G: a tool that writes a C string whole leaves one, and no user types it."""
    assert as_name("web" + end) == as_name(b"web" + end.encode()) == "web"
    assert decode_name(b"a\0b" + end.encode()) == "a\0b"


def test_a_name_given_as_text_is_kept_as_it_is() -> None:
    """Case, blanks and digits count."""
    for name in ("", "Web", " web ", "42", "0x7"):
        assert as_name(name) == name


@pytest.mark.parametrize("wrong", [None, 42, 4.2, ["web"], bytearray(b"web"), U], ids=repr)
def test_what_is_neither_str_nor_bytes_is_refused_as_a_name(wrong: object) -> None:
    """The number 42 is not the name "42"."""
    with pytest.raises(InvalidKey, match="a name is str or bytes, not"):
        as_name(wrong)
