"""What tells one life from the next where Xen gives no unique ids: the theory, row by row."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domindex.core.lives import CLOCKS, Tracked, is_same_life
from domindex.domain import NIL_UUID, OSType, ShutdownReason
from domindex.ports import Row
from tests.core.by_hand import row

AGE = 10 * CLOCKS
PAGE = 0x1000


class Case(NamedTuple):
    """What was known of domid 7, what is listed now, and whether that is the same life."""

    why: str
    known: Row
    now: Row
    same: bool
    name: str | None = "web"
    silent: bool = True
    calm: bool = True


def unset(*, cpu_time: int = 0) -> Row:
    """Listed before its handle is set."""
    return row(7, cpu_time=cpu_time)._replace(handle=NIL_UUID.bytes)


CASES = (
    # The handle is as it was: only the other signs count.
    Case("nothing differs", row(7, 1), row(7, 1), True, silent=False, calm=False),
    Case("it ran", row(7, 1), row(7, 1, cpu_time=AGE), True, silent=False, calm=False),
    Case(
        "it stopped",
        row(7, 1),
        row(7, 1, shutdown=ShutdownReason.CRASH),
        True,
        silent=False,
        calm=False,
    ),
    Case(
        "its clocks differ",
        row(7, 1, cpu_time=AGE),
        row(7, 1, cpu_time=AGE - CLOCKS),
        True,
        silent=False,
        calm=False,
    ),
    Case("its type is known now", row(7, 1, type=OSType.UNKNOWN), row(7, 1), True),
    Case("its type is not told", row(7, 1), row(7, 1, type=OSType.UNKNOWN), True),
    # A contradiction outweighs a silent watch and a calm host, under this handle or another.
    Case("another type", row(7, 1, type=OSType.PV), row(7, 1), False),
    Case("another type and handle", row(7, 1, type=OSType.PV), row(7, 2), False),
    Case("another page", row(7, 1, frame=PAGE), row(7, 1, frame=2 * PAGE), False),
    Case("another page and handle", row(7, 1, frame=PAGE), row(7, 2, frame=2 * PAGE), False),
    Case("less time", row(7, 1, cpu_time=AGE), row(7, 1, cpu_time=AGE - CLOCKS - 1), False),
    Case("less time and another handle", row(7, 1, cpu_time=AGE), row(7, 2, cpu_time=1), False),
    # Another handle: the name's watch was silent, and one sign more.
    Case("silent and calm", row(7, 1), row(7, 2), True),
    Case("silent, calm, ran on", row(7, 1, cpu_time=5), row(7, 2, cpu_time=6), True),
    Case("silent, ran on", row(7, 1, cpu_time=5), row(7, 2, cpu_time=6), True, calm=False),
    Case("silent, as long", row(7, 1, cpu_time=5), row(7, 2, cpu_time=5), True, calm=False),
    Case("silent, never ran", row(7, 1), row(7, 2, cpu_time=6), False, calm=False),
    Case("silent, a little less", row(7, 1, cpu_time=6), row(7, 2, cpu_time=5), False, calm=False),
    Case("silent, calm, less", row(7, 1, cpu_time=6), row(7, 2, cpu_time=5), True),
    Case("calm alone", row(7, 1), row(7, 2), False, silent=False),
    Case("calm and ran on", row(7, 1, cpu_time=5), row(7, 2, cpu_time=6), False, silent=False),
    Case("handle taken away, silent", row(7, 1), unset(), True),
    Case("handle taken away", row(7, 1), unset(), False, silent=False),
    # Nobody has named it yet: a handle of zeros is filled in.
    Case("filled in, calm", unset(), row(7, 1), True, name=None, silent=False),
    Case(
        "filled in, ran on",
        unset(cpu_time=5),
        row(7, 1, cpu_time=6),
        True,
        name=None,
        silent=False,
        calm=False,
    ),
    Case("filled in", unset(), row(7, 1), False, name=None, silent=False, calm=False),
    Case("filled in, named", unset(), row(7, 1), False, silent=False),
    Case("nameless, had a handle", row(7, 1), row(7, 2), False, name=None, silent=False),
    Case("nameless, taken away", row(7, 1), unset(), False, name=None, silent=False),
)


def follow(known: Row, name: str | None) -> Tracked:
    """A life with that name, as it was seen last."""
    tracked = Tracked(known, None, 0.0)
    tracked.name = name
    return tracked


@pytest.mark.parametrize("case", CASES, ids=[case.why for case in CASES])
def test_the_signs_tell_whether_a_life_is_same_life(case: Case) -> None:
    """P3: neither an end that never was, nor two lives joined."""
    tracked = follow(case.known, case.name)
    assert is_same_life(tracked, case.now, silent=case.silent, calm=case.calm) is case.same


ROWS = st.builds(
    Row,
    st.sampled_from((0, 7)),
    st.sampled_from((NIL_UUID.bytes, UUID(int=1).bytes, UUID(int=2).bytes)),
    st.sampled_from(OSType),
    st.none(),
    st.just(False),
    st.sampled_from((0, 1, CLOCKS, AGE, AGE + 1)),
    st.sampled_from((None, PAGE, 2 * PAGE)),
)


@given(ROWS, ROWS, st.sampled_from((None, "Domain-0")), st.booleans(), st.booleans())
def test_domain_0_is_one_life_for_ever(
    known: Row, now: Row, name: str | None, silent: bool, calm: bool
) -> None:
    """P3: xenopsd gives it a uuid at each start, and Xen never gives its number again."""
    tracked = follow(known._replace(domid=0), name)
    assert is_same_life(tracked, now._replace(domid=0), silent=silent, calm=calm)


@given(ROWS, ROWS, st.sampled_from((None, "web")))
def test_more_signs_of_the_same_life_never_make_it_another(
    known: Row, now: Row, name: str | None
) -> None:
    """P3: what goes on though the watch fired, or the host was stirred, goes on without."""
    tracked, now = follow(known._replace(domid=7), name), now._replace(domid=7)
    said = {
        (silent, calm): is_same_life(tracked, now, silent=silent, calm=calm)
        for silent in (False, True)
        for calm in (False, True)
    }
    assert said[False, False] <= said[False, True] <= said[True, True]
    assert said[False, False] <= said[True, False] <= said[True, True]
