"""Every error of this package, on one screen.

Each one is also of a builtin kind, for code that knows only those. Its text says what happened
and what to do; its fields are for programs.

Read after domain.py; next keys.py.
"""

from __future__ import annotations

import os
from typing import Any

from domindex.domain import NIL_UUID, Domain


def _again(kind: type[DomindexError], args: tuple[Any, ...], fields: dict[str, Any]) -> Exception:
    # For pickle and copy: __init__ takes the parts of the text, `args` holds the whole text.
    error = kind.__new__(kind)
    Exception.__init__(error, *args)
    for name, value in fields.items():
        setattr(error, name, value)
    return error


class DomindexError(Exception):
    """The base class: `except DomindexError` catches every error that this package defines."""

    def __reduce__(self) -> tuple[Any, ...]:
        fields = dict(vars(self))
        if isinstance(self, OSError):
            fields["errno"] = self.errno  # a slot of OSError, not in vars()
        return _again, (type(self), self.args, fields)


class InvalidKey(DomindexError, ValueError, TypeError):
    """The argument cannot be a name, a uuid or a domid. A mistake in the calling program."""


class NoSuchDomain(DomindexError, KeyError):
    """There is no such domain: the index was live and did not hold one.

    Attributes:
        key: What was looked up.
    """

    def __init__(self, what: str, key: object) -> None:
        nil = "the nil uuid belongs to no domain: dom0 has it, and domains made without a uuid"
        super().__init__(nil if key == NIL_UUID else f"no running domain has {what} {key!r}")
        self.key = key

    def __str__(self) -> str:
        return Exception.__str__(self)  # KeyError would print the repr of the sentence


class Ambiguous(DomindexError, LookupError):
    """Several domains have this key, as both ends of a local migration do.

    Attributes:
        key: What was looked up.
        domains: Every domain that has it, lowest domid first.
    """

    def __init__(self, what: str, key: object, domains: tuple[Domain, ...]) -> None:
        domids = ", ".join(str(domain.domid) for domain in domains)
        by_domid = f"look one up by domid, or all of them with all_by_{what}() of an index"
        way = by_domid if what in ("name", "uuid") else "put id:, uuid: or name: in front of it"
        super().__init__(f"{what} {key!r} belongs to domains {domids}; {way}")
        self.key = key
        self.domains = domains


class NotLive(DomindexError, RuntimeError):
    """The index cannot tell: its line to the host is down, so it may have missed a change.

    It retries by itself. A `Recovered` event, or `wait_live`, says when it is live again.

    Attributes:
        cause: The error that broke the line, or None.
    """

    def __init__(self, sentence: str, cause: BaseException | None = None) -> None:
        super().__init__(f"{sentence}: {cause}" if cause else sentence)
        self.cause = cause


class TimedOut(DomindexError, TimeoutError):
    """There was no result within the time limit of the call."""


class Closed(DomindexError, RuntimeError):
    """The index was closed, or was opened by the parent of this forked process. Open a new one."""


class NoEventLoop(DomindexError, RuntimeError):
    """`domindex.aio` was used outside a running asyncio loop. A mistake in the calling program."""


class HostError(DomindexError, OSError):
    """The hypervisor or xenstore could not be used.

    Attributes:
        errno: The error number of the system, or None where there is none.
    """

    def __init__(self, sentence: str, errno: int | None = None) -> None:
        super().__init__(f"{sentence} ({os.strerror(errno)})" if errno else sentence)
        self.errno = errno


class NotControlDomain(HostError):
    """There is no Xen here, or this is a guest. Only a control domain (dom0) may list domains."""


class AccessDenied(HostError, PermissionError):
    """This is a Xen host, but this process has no access. Usually the cure is to open as root."""


class UnknownXen(HostError):
    """This package does not know this version of Xen, or the layout of its answers."""


class HypercallFailed(HostError):
    """The hypervisor refused a call, or its answer makes no sense."""


class StoreError(HostError):
    """xenstore refused one request. The line itself works.

    Attributes:
        operation: The request, such as "READ"; None if the error is not about one node.
        path: The node, escaped so that it can be printed; None if there is none.
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
    """The line to xenstore is down: closed, silent beyond its time limit, or sending nonsense."""
