"""Values: a domain's record, and how its name is shown."""

from __future__ import annotations

import copy
import pickle
import unicodedata
from dataclasses import FrozenInstanceError
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domindex.domain import Domain, DomainInfo, Life, OSType, ShutdownReason, printable
from domindex.keys import decode_name

U = UUID("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9")


def domain(name: str | None = "web") -> Domain:
    return Domain(7, U, name, OSType.PVH, Life(7, None, U, 1.5), 1.5)


# -- showing names ---------------------------------------------------------------------------

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=())) | st.binary().map(decode_name)
DIRECTING = frozenset({"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI", "B", "BN"})
MARKS = frozenset("\u200e\u200f\u061c")


def steers(character: str) -> bool:
    """Whether it could steer a terminal, break a line or turn the direction of text."""
    return (
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(character) in DIRECTING - {"BN"}
        or character in MARKS
    )


@given(ANY_TEXT)
@example("web\x1b[2J\n")
@example("\u202egpj.exe")
@example("\x9b31m\x85\u2028\u2029\x7f\ufeff\u2066")
def test_no_control_or_direction_character_gets_through(text: str) -> None:
    """P12: a name printed for a person steers no terminal and forges no log line."""
    shown = printable(text)
    assert not [character for character in shown if steers(character)]
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")  # no lone surrogate: it can be printed


def test_every_single_character_that_steers_is_escaped() -> None:
    """P12: all of Unicode, one character at a time."""
    every = (chr(code) for code in range(0x110000))
    through = [c for c in every if steers(c) and c in printable(f"a{c}b")]
    assert through == []


@given(ANY_TEXT, ANY_TEXT)
@example("\n", "\\n")
@example("\\", "\\\\")
@example("\xad", "\\xad")
@example("\udcff", "\\udcff")
def test_distinct_names_are_shown_distinct(one: str, other: str) -> None:
    """Escaping is one to one: nobody names a domain so that it reads as another."""
    assert (printable(one) == printable(other)) == (one == other)


@given(ANY_TEXT)
def test_what_is_shown_can_be_read_back(text: str) -> None:
    """A stronger form of distinct: undoing the escapes gives the name."""
    raw = printable(text).encode("latin-1", "backslashreplace")
    assert raw.decode("unicode_escape", "surrogatepass") == text


def test_plain_names_are_shown_as_they_are() -> None:
    """Letters of any script, blanks and punctuation stay."""
    for name in ("web-1", "Wéb 服务器", "naïve@x.y_z", "42", "עברית", "🐧"):
        assert printable(name) == name


def test_a_domain_without_a_name_prints_as_xl_prints_it() -> None:
    """No name and an empty name are shown apart."""
    assert domain(None).printable == "(null)"
    assert domain("").printable == ""
    assert domain("a\nb").printable == "a\\nb"


# -- records ---------------------------------------------------------------------------------


def test_a_domain_never_changes_and_fits_a_set() -> None:
    """Frozen, hashable, with slots; equal by value; it survives copy and pickle."""
    web = domain()
    with pytest.raises(FrozenInstanceError):
        web.name = "db"  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        web.colour = "red"  # type: ignore[attr-defined]
    assert len({web, domain(), domain("db")}) == 2
    assert pickle.loads(pickle.dumps(web)) == copy.copy(web) == copy.deepcopy(web) == web


def test_os_types_are_libxl_s_words() -> None:
    """They compare, print and format as plain text."""
    assert [str(kind) for kind in OSType] == ["pv", "hvm", "pvh", "unknown"]
    assert f"{OSType.PVH:>5}" == "  pvh"


def test_a_shutdown_reason_nobody_knows_is_unknown() -> None:
    """sched.h may grow; a new number must not be a crash (P12)."""
    assert ShutdownReason(3) is ShutdownReason.CRASH
    assert ShutdownReason(17) is ShutdownReason.UNKNOWN
    assert ShutdownReason(255) is ShutdownReason.UNKNOWN


@pytest.mark.parametrize(
    ("paused", "blocked", "running", "shutdown", "dying", "word"),
    [
        (True, True, True, ShutdownReason.CRASH, True, "dying"),
        (True, True, True, ShutdownReason.CRASH, False, "crashed"),
        (True, True, True, ShutdownReason.POWEROFF, False, "shutdown"),
        (True, True, True, None, False, "paused"),
        (False, True, True, None, False, "running"),
        (False, True, False, None, False, "blocked"),
        (False, False, False, None, False, "runnable"),
    ],
)
def test_the_state_is_the_word_that_matters_most(
    paused: bool,
    blocked: bool,
    running: bool,
    shutdown: ShutdownReason | None,
    dying: bool,
    word: str,
) -> None:
    """Dying hides crashed, crashed hides paused, and so on; no flag at all is no fault."""
    info = DomainInfo(
        7, U, OSType.PV, paused, blocked, running, shutdown, dying, 4096, 8192, 1000, 1
    )
    assert info.state == word
