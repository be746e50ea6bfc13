"""Errors: each is the builtin kind it claims, and says what to do."""

from __future__ import annotations

import copy
import errno
import pickle
from uuid import UUID

import pytest

from domindex import errors
from domindex.domain import Domain, Life, OSType
from domindex.errors import (
    AccessDenied,
    Ambiguous,
    Closed,
    DomindexError,
    HostError,
    HypercallFailed,
    InvalidKey,
    NoEventLoop,
    NoSuchDomain,
    NotControlDomain,
    NotLive,
    StoreError,
    StoreLost,
    TimedOut,
    UnknownXen,
)


def domain(domid: int) -> Domain:
    uuid = UUID(int=domid)
    return Domain(domid, uuid, "web", OSType.PV, Life(domid, None, uuid, 1.0), 1.0)


SAMPLES: list[DomindexError] = [
    InvalidKey("a name is str or bytes, not int"),
    NoSuchDomain("name", "web"),
    Ambiguous("name", "web", (domain(1), domain(2))),
    NotLive("cannot tell", StoreLost("the line is cut")),
    TimedOut("the refresh took longer than 5 s; try again"),
    Closed("this index is closed; connect() opens a new one"),
    NoEventLoop("there is no loop here"),
    HostError("the host said no", errno.EIO),
    NotControlDomain("no Xen here"),
    AccessDenied("be root", errno.EACCES),
    UnknownXen("Xen 9.9"),
    HypercallFailed("the hypervisor would not list the domains", errno.EFAULT),
    StoreError("xenstored refuses: EINVAL", errno.EINVAL),
    StoreLost("the line is cut", errno.EPIPE),
]


@pytest.mark.parametrize(
    ("kind", "builtins"),
    [
        (InvalidKey, (ValueError, TypeError)),
        (NoSuchDomain, (KeyError, LookupError)),
        (Ambiguous, (LookupError,)),
        (NotLive, (RuntimeError,)),
        (TimedOut, (TimeoutError, OSError)),
        (Closed, (RuntimeError,)),
        (NoEventLoop, (RuntimeError,)),
        (HostError, (OSError,)),
        (NotControlDomain, (HostError,)),
        (AccessDenied, (HostError, PermissionError)),
        (UnknownXen, (HostError,)),
        (HypercallFailed, (HostError,)),
        (StoreError, (HostError,)),
        (StoreLost, (StoreError,)),
    ],
)
def test_each_error_is_the_builtin_kind_it_claims(
    kind: type[DomindexError], builtins: tuple[type[Exception], ...]
) -> None:
    """Code that knows only the builtin kinds catches it, and DomindexError catches all."""
    assert issubclass(kind, DomindexError)
    for builtin in builtins:
        assert issubclass(kind, builtin)


def test_no_error_was_forgotten_here() -> None:
    """A new error needs a sample, so that the tests below try it."""
    defined = {
        thing
        for thing in vars(errors).values()
        if isinstance(thing, type) and issubclass(thing, DomindexError)
    }
    assert defined - {DomindexError} == {type(sample) for sample in SAMPLES}


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_each_error_reads_as_a_sentence(error: DomindexError) -> None:
    """No repr of a repr, as KeyError would make it, and no bare tuple."""
    text = str(error)
    assert " " in text
    assert not text.startswith(("'", '"', "("))


def test_absent_names_the_key() -> None:
    """P5: what was asked for stands in the sentence and in `key`."""
    error = NoSuchDomain("name", "web\n")
    assert str(error) == r"no running domain has name 'web\n'"
    assert error.key == "web\n"


def test_ambiguous_has_all_and_says_what_to_call() -> None:
    """P5: all holders are in `domains`, and the sentence names the way out."""
    error = Ambiguous("uuid", UUID(int=9), (domain(1), domain(2)))
    assert error.domains == (domain(1), domain(2))
    assert error.key == UUID(int=9)
    assert "1, 2" in str(error)
    assert "all_by_uuid()" in str(error)


def test_not_live_carries_what_broke() -> None:
    """P5: cannot tell, because of `cause`."""
    cause = StoreLost("the line is cut")
    assert NotLive("cannot tell", cause).cause is cause
    assert str(NotLive("cannot tell", cause)) == "cannot tell: the line is cut"
    assert str(NotLive("cannot tell")) == "cannot tell"


def test_a_host_error_has_the_number_and_its_words() -> None:
    """`errno` is for programs, the words of strerror for people; neither is made up."""
    error = AccessDenied("the hypervisor does not let this domain list domains", errno.EPERM)
    assert error.errno == errno.EPERM
    assert "Operation not permitted" in str(error)
    bare = StoreLost("the line is cut")
    assert bare.errno is None
    assert str(bare) == "the line is cut"


@pytest.mark.parametrize("error", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_each_error_survives_pickle_and_copy(error: DomindexError) -> None:
    """A pool of processes hands errors over by pickle: type, sentence and fields stay."""

    def parts(error: DomindexError) -> tuple[object, ...]:
        fields = {name: repr(value) for name, value in vars(error).items()}
        return type(error), str(error), fields, getattr(error, "errno", None)

    assert parts(pickle.loads(pickle.dumps(error))) == parts(error)
    assert parts(copy.copy(error)) == parts(error)
    assert parts(copy.deepcopy(error)) == parts(error)
