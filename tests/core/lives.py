"""Domains for the tests of the pure core, made from as little as a test cares about."""

from __future__ import annotations

from uuid import UUID

from domindex.domain import Domain, Life, OSType, ShutdownReason


def life(
    domid: int,
    name: str | None = None,
    *,
    uuid: int | None = None,
    number: int = 0,
    shutdown: ShutdownReason | None = None,
) -> Domain:
    """A domain with a uuid of its own. number: tells lives of one domid apart."""
    handle = UUID(int=100 * (number + 1) + domid if uuid is None else uuid)
    return Domain(
        domid,
        handle,
        name,
        OSType.PVH,
        Life(domid, number, None, None),
        first_seen=float(number),
        shutdown=shutdown,
    )
