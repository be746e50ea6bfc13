"""What is asked of the outside: a hypervisor, a xenstore, and a host that has both.

The real ones are in `xen/`, the simulated ones in `testing.py`. The contract tests hold all of
them to what is written here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from domindex.domain import Domain, DomainInfo, OSType, Role, ShutdownReason
from domindex.errors import StoreError
from domindex.infos import Infos


class Row(NamedTuple):
    """One domain in the hypervisor's list.

    dying: its resources are gone, only the number is held (a zombie); for the index it is gone.
    cpu_time: nanoseconds. Within one life it falls by no more than the clocks of two processors
        differ, which is microseconds.
    frame: the page that a PV domain shares with Xen from its birth to its end; None for others.
    roles: None where the list does not tell; where there are unique ids it never does.
    """

    domid: int
    handle: bytes
    type: OSType
    shutdown: ShutdownReason | None
    dying: bool
    cpu_time: int
    frame: int | None
    roles: Role | None = None


class LifeState(NamedTuple):
    """What Xen >= 4.21 says of one life: its number, and its roles. Neither ever changes."""

    unique_id: int
    roles: Role


class Hypervisor(Protocol):
    """Which domains there are. Safe from any thread. Every call may raise HypercallFailed."""

    version: str
    has_unique_ids: bool

    def list(self) -> Sequence[Row]:
        """Every domain, lowest domid first, dying ones included. One hypercall per 1,024.

        The list is the caller's to keep. A row that is as it was in the last list should be the
        same object again: core/listed.py then compares two lists without a line of Python for
        each domain. An equal row that is another object is only slower.
        """
        ...

    def get(self, domid: int) -> Row | None:
        """That domain alone, or None. One hypercall."""
        ...

    def confirms(self, domain: Domain) -> bool:
        """Whether that very domain runs now, in all that the record takes from here.

        Compared are uuid, type and shutdown, by one hypercall; where there are unique ids the
        life too, by a second one.
        """
        ...

    def state(self, domid: int) -> LifeState | None:
        """What Xen >= 4.21 says of this life, None if there is none. One hypercall.

        Only where `has_unique_ids`. Raises HypercallFailed with EACCES or EPERM where a policy
        refuses the state of that domain; others may still be asked.
        """
        ...

    def info(self, domid: int) -> DomainInfo | None:
        """State, memory and times of that domain now, or None. One hypercall."""
        ...

    def infos(self) -> Infos:
        """The same of every domain, dying ones included. One hypercall per 1,024."""
        ...

    def close(self) -> None:
        """Give descriptors and memory back. May be called twice."""
        ...


def unique_id_of(hypervisor: Hypervisor, domid: int) -> int | None:
    """What Xen >= 4.21 calls the life on this domid. As `Hypervisor.state`, and cost."""
    state = hypervisor.state(domid)
    return None if state is None else state.unique_id


class Watch(NamedTuple):
    """A path watched under a token. Both are unique to their holder: the token names the life."""

    path: bytes
    token: bytes


class Store(Protocol):
    """One line to xenstore, driven by one thread.

    `wake` and `interrupt` alone may be called from others. Every call has a time limit and
    raises StoreLost once the line cannot be trusted; after that only `close` is of use. What
    the server refuses about one path is given in that path's place, and ends nothing.
    """

    forgets: bool
    """The server may be restarted behind this line, and its watches be gone, without a sign."""

    def watch(
        self, watches: Sequence[Watch], *, depth: int | None = None
    ) -> list[StoreError | None]:
        """Set watches; returns once each is answered: None if it is set, or why it is not.

        One that is set fires once at the start, with its own path. Without `depth` it covers the
        node and all below, and its events come with its own path whatever changed. depth: so many
        levels below the node, and the events come with the path that changed; of a special watch
        1, and they name the domid (`@releaseDomain/7`). A server, or a way to it, that knows no
        depth refuses it with EINVAL.
        """
        ...

    def unwatch(self, watches: Sequence[Watch]) -> None:
        """Drop watches. One that the server no longer knows is no error."""
        ...

    def read(self, paths: Sequence[bytes]) -> list[bytes | StoreError | None]:
        """The values: None where there is no such node, why where it may not be read."""
        ...

    def is_introduced(self, domid: int) -> bool | None:
        """Whether the server was told of that domain; None where it does not say. A round trip."""
        ...

    def barrier(self) -> None:
        """Returns when every event that the server sent before is in the queue here."""
        ...

    def events(self, *, arrived: bool = False) -> Iterable[Watch]:
        """Take what is queued, equal ones folded into one, without waiting.

        arrived: with what has arrived and was not taken in by another call.
        """
        ...

    def wait(self, timeout: float) -> None:
        """Return when an event is queued, `wake` was called, or the time has passed."""
        ...

    def wake(self) -> None:
        """From any thread: make the current or the next `wait` return."""
        ...

    def interrupt(self) -> None:
        """From any thread: make the current and each later call raise StoreLost."""
        ...

    def close(self) -> None:
        """Give the descriptors back, and with them every watch. May be called twice."""
        ...


@runtime_checkable
class Host(Protocol):
    """Where both come from."""

    def open_hypervisor(self) -> Hypervisor:
        """Raises NotControlDomain, AccessDenied, UnknownXen or HypercallFailed."""
        ...

    def open_store(self, timeout: float) -> Store:
        """A new line. `timeout`: seconds for the connection and for each later request.

        Raises StoreLost or AccessDenied.
        """
        ...


def check_host(host: object) -> None:
    """Raises TypeError for what is no host, as the class of one."""
    if isinstance(host, type) or not isinstance(host, Host):
        raise TypeError(f"a host is an object such as XenHost(), not {host!r}")
