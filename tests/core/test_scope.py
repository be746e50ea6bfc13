"""Which domains to look at: how scopes are joined, and when there is nothing to look at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domindex.core.scope import Scope

DOMIDS = st.frozensets(st.integers(0, 5))


@given(DOMIDS, DOMIDS)
def test_two_scopes_are_joined_to_what_is_in_either(
    one: frozenset[int], two: frozenset[int]
) -> None:
    """P2: no domid of either is lost."""
    joined = Scope(one) | Scope(two)
    assert joined == Scope(one | two)
    assert joined.domids == one | two
    assert bool(joined) is bool(one or two)


@given(DOMIDS)
def test_all_absorbs_what_is_joined_to_it(domids: frozenset[int]) -> None:
    """P2, P4: and is no list of domids, not even an empty one."""
    some = Scope(domids)
    assert (Scope.ALL | some) is (some | Scope.ALL) is (Scope.ALL | Scope.ALL) is Scope.ALL
    assert Scope.ALL
    assert some != Scope.ALL
    assert some != domids
    assert Scope.ALL == Scope.ALL


def test_equal_scopes_are_one_key() -> None:
    """And say what they are where a test fails."""
    assert {Scope({2, 1}), Scope([1, 2]), Scope.ALL, Scope()} == {Scope({1, 2}), Scope(), Scope.ALL}
    assert (repr(Scope({2, 1})), repr(Scope.ALL)) == ("Scope([1, 2])", "Scope.ALL")
