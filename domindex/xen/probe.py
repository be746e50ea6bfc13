"""Which Xen this is: the release whose interface versions it accepts and whose entries fit.

Read after calls.py and layouts.py; next hypercall.py.

Tried in turn: the domctl version, by a look at one domain; the sysctl version, by a list of one;
then the size of the entry in that list. A wrong version is refused by Xen before it does anything.
"""

from __future__ import annotations

import errno
from typing import Final

from domindex.domain import FIRST_RESERVED_DOMID
from domindex.errors import AccessDenied, HypercallFailed, NotControlDomain, UnknownXen
from domindex.xen._privcmd import Privcmd
from domindex.xen.calls import (
    ABSENT,
    GET_DOMAIN_STATE,
    GETDOMAININFO,
    PAGE,
    Domctl,
    ListCall,
    xen_version,
)
from domindex.xen.layouts import RELEASES, Layout, Release

HIGHEST_DOMID: Final = FIRST_RESERVED_DOMID - 1
_STATE_SINCE: Final = 0x16
"""The sysctl version of Xen 4.21, the first with get_domain_state."""


class Probe:
    """Which release this is, and what the search for it leaves for use.

    Raises:
        NotControlDomain: This is a guest.
        AccessDenied: A policy forbids to list domains.
        UnknownXen: A newer Xen, another machine, or an interface that a vendor changed.
        HypercallFailed: The hypervisor could not be asked.

    Cost: Six hypercalls, and one more for each interface version that is refused.

    Attributes:
        said: The version that Xen reports, for people.
        release: What it is.
        layout: How its list is laid out on this machine.
        has_unique_ids: Whether get_domain_state can be used.
        domctl, one: Prepared calls, the second with the right version.
    """

    def __init__(self, privcmd: Privcmd, machine: str) -> None:
        self._privcmd = privcmd
        self.domctl: Domctl = Domctl(privcmd)
        self.one: ListCall = ListCall(privcmd, PAGE, 1)
        major, minor = self._xen_version()
        self.said: str = f"Xen {major}.{minor}"
        self.release: Release = self._find(major, minor, machine)
        layout = self.release.layout(machine)
        assert layout is not None
        self.layout: Layout = layout
        self._check_stride()
        result = self.domctl(GET_DOMAIN_STATE, 0, 0)
        self.has_unique_ids: bool = (
            result >= 0
            or -result in ABSENT
            # A policy may refuse the state of domain 0 alone. An older Xen, which does not know the
            # call, answers EACCES too: the release tells which of the two it is.
            or (result == -errno.EACCES and self.release.sysctl >= _STATE_SINCE)
        )

    def _xen_version(self) -> tuple[int, int]:
        result = xen_version(self._privcmd)
        if result < 0:
            raise self._denied(-result)
        return result >> 16, result & 0xFFFF

    def _find(self, major: int, minor: int, machine: str) -> Release:
        # The version that Xen reports only orders the candidates: vendors change the interface
        # of a release, and 4.10.0 and 4.10.1 differ while both report 4.10.
        runs = [release for release in RELEASES if release.layout(machine) is not None]
        likely = [release for release in runs if release.covers(major, minor)]
        versions = dict.fromkeys(release.domctl for release in (*likely, *runs))
        for domctl in versions:
            # A domid that is hardly ever in use, so that no policy about one interferes.
            if not self._speaks(self.domctl(GETDOMAININFO, domctl, HIGHEST_DOMID)):
                continue
            for release in (*likely, *runs):
                self.one.version = release.sysctl
                if release.domctl == domctl and self._speaks(self.one(0)):
                    return release
        if not runs:
            raise UnknownXen(f"{self.said} on {machine} is not known; x86_64 and arm64 are")
        newest = RELEASES[0].names.split()[0].split("-")[0].split(".")
        if (major, minor) > (int(newest[0]), int(newest[1])):
            raise UnknownXen(f"{self.said} is newer than this domindex; look for a newer one")
        raise AccessDenied(
            f"{self.said} refuses every interface version known for it: a Flask/XSM policy "
            "denies it to this domain, or a vendor changed the interface"
        )

    def _speaks(self, result: int) -> bool:
        """Whether the interface version was the right one. Raises if no other would help."""
        if result >= 0 or result == -errno.ESRCH:  # Xen looks for the domain after the version
            return True
        # Xen answers EACCES to a wrong version; a Flask policy answers the same to refuse.
        if result != -errno.EACCES:
            raise self._denied(-result)
        return False

    def _denied(self, error: int) -> Exception:
        if error in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            if _is_control_domain() is False:
                return NotControlDomain(
                    "this is a guest of Xen: only a control domain (dom0) may list domains"
                )
            return AccessDenied("the hypervisor does not let this domain list domains", error)
        return HypercallFailed("the hypervisor could not be asked for its version", error)

    def _check_stride(self) -> None:
        """Check that entries have the size that is expected.

        Xen copies an entry whole, padding included, so the bytes that it overwrites are the entry.
        Two fillers, as one could happen to be the last byte of an entry.
        """
        size = 0
        for filler in (b"\xa5", b"\x5a"):
            self.one.entries[:] = filler * len(self.one.entries)
            count, entry = self.one(0), bytes(self.one.entries)
            if count == 0:
                raise AccessDenied(
                    f"{self.said} lists no domain to this one: a Flask/XSM policy hides them all"
                )
            if count < 0:
                raise self._denied(-count)
            size = max(size, len(entry.rstrip(filler)))
        if size != self.layout.size:
            raise UnknownXen(
                f"{self.said} has entries of {size} bytes where {self.layout.size} are known: "
                "a vendor changed the interface"
            )


def _is_control_domain() -> bool | None:
    """None if the kernel does not say."""
    try:
        with open("/proc/xen/capabilities", encoding="ascii", errors="replace") as file:
            return "control_d" in file.read()
    except OSError:
        return None
