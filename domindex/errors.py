"""Every error of this package, on one screen.

Each is also a builtin kind, so that code which knows only those catches it, and carries a
sentence for people that says what to do, and fields for programs.
"""

from __future__ import annotations

import os
from typing import Any

from domindex.domain import Domain


def _again(kind: type[DomindexError], args: tuple[Any, ...], fields: dict[str, Any]) -> Exception:
    # For pickle and copy: __init__ takes the parts of the sentence, `args` has the whole.
    error = kind.__new__(kind)
    Exception.__init__(error, *args)
    for name, value in fields.items():
        setattr(error, name, value)
    return error


class DomindexError(Exception):
    """The root: `except DomindexError` catches all that this package raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        fields = dict(vars(self))
        if isinstance(self, OSError):
            fields["errno"] = self.errno
        return _again, (type(self), self.args, fields)


class InvalidKey(DomindexError, ValueError, TypeError):
    """The argument cannot be a name, a uuid or a domid. The caller's mistake."""


class NoSuchDomain(DomindexError, KeyError):
    """Proven absent: the index was live and held no such domain."""

    def __init__(self, what: str, key: object) -> None:
        super().__init__(f"no running domain has {what} {key!r}")
        self.key = key

    __str__ = Exception.__str__  # KeyError would print the repr of the sentence


class Ambiguous(DomindexError, LookupError):
    """Several domains carry this key, as both ends of a local migration do. `domains` has all."""

    def __init__(self, what: str, key: object, domains: tuple[Domain, ...]) -> None:
        held = ", ".join(str(domain.domid) for domain in domains)
        by_domid = f"ask by domid, or all_by_{what}() of an index"
        way = by_domid if what in ("name", "uuid") else "say id:, uuid: or name:"
        super().__init__(f"{what} {key!r} belongs to domains {held}; {way}")
        self.key = key
        self.domains = domains


class NotLive(DomindexError, RuntimeError):
    """Cannot tell: the line to the host is down, so what is not held may still exist.

    `cause` is what broke. The index goes on trying by itself; `Recovered` tells when it is back.
    """

    def __init__(self, sentence: str, cause: BaseException | None = None) -> None:
        super().__init__(f"{sentence}: {cause}" if cause else sentence)
        self.cause = cause


class TimedOut(DomindexError, TimeoutError):
    """The answer did not come within the caller's time limit."""


class Closed(DomindexError, RuntimeError):
    """The index was closed, or belongs to the parent of this forked process. Open a new one."""


class NoEventLoop(DomindexError, RuntimeError):
    """`domindex.aio` was used outside of a running asyncio loop. The caller's mistake."""


class HostError(DomindexError, OSError):
    """The host could not be asked. `errno` is the system's number, where there is one."""

    def __init__(self, sentence: str, errno: int | None = None) -> None:
        super().__init__(f"{sentence} ({os.strerror(errno)})" if errno else sentence)
        self.errno = errno


class NotControlDomain(HostError):
    """No Xen here, or a guest of it: only a control domain (dom0) may list domains."""


class AccessDenied(HostError, PermissionError):
    """This is a Xen host, but this process may not ask it. Usually: be root when opening."""


class UnknownXen(HostError):
    """The hypervisor speaks a version, or lays its answers out in a way, that is not known here."""


class HypercallFailed(HostError):
    """The hypervisor refused a call or gave an answer that cannot be believed."""


class StoreError(HostError):
    """xenstore refused one request; the line itself works.

    operation: what was asked for, such as "READ". path: of what, fit to be printed. Both None where
    it is not about one node.
    """

    def __init__(
        self,
        sentence: str,
        errno: int | None = None,
        *,
        operation: str | None = None,
        path: str | None = None,
    ) -> None:
        super().__init__(sentence, errno)
        self.operation = operation
        self.path = path


class StoreLost(StoreError):
    """The line to xenstore is down: closed, silent beyond its time limit, or talking garbage."""
