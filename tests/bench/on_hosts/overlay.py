"""What a host for benchmarks has in addition: libvirt, and Xen's own Python binding.

It is an overlay, so that the hosts for tests stay small. Read after __main__.py;
next in_dom0.py.
"""

from __future__ import annotations

from pathlib import Path

from tests.real.build.debian import package_set
from tests.real.build.host import Release, userland_packages
from tests.real.build.libraries import closure
from tests.real.build.root import Content

PROCESSOR = "Conroe"
"""libvirt's driver needs a processor that it knows by name."""

_PACKAGES = ("libvirt-daemon", "libvirt-daemon-driver-xen", "python3-libvirt")
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_DRIVERS = "libvirt/connection-driver"
_PYTHON = "usr/lib/python3/dist-packages"
_SETTINGS = b"""\
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "3:file:/run/libvirtd.log"
"""


def overlay(release: Release) -> dict[str, Content]:
    """Files for the dom0 of `release`. Raises HostUnavailable."""
    libvirt = package_set(release.userland, _PACKAGES)
    tools = package_set(release.suite, [f"xen-utils-{release.xen}", "xenstore-utils"])
    userland = package_set(release.userland, userland_packages(release))
    files: dict[str, Content] = {
        "/etc/libvirt/libvirtd.conf": _SETTINGS,
        "/usr/share/libvirt/cpu_map": libvirt / "usr/share/libvirt/cpu_map",
        f"/{_PYTHON}/libvirt.py": libvirt / _PYTHON / "libvirt.py",
        **lowlevel(release),
    }
    programs = {
        "/usr/sbin/libvirtd": libvirt / "usr/sbin/libvirtd",
        f"/{_LIBRARIES}/{_DRIVERS}/libvirt_driver_libxl.so": (
            libvirt / _LIBRARIES / _DRIVERS / "libvirt_driver_libxl.so"
        ),
        **{f"/{_PYTHON}/{path.name}": path for path in (libvirt / _PYTHON).glob("libvirtmod.*.so")},
    }
    search = [
        place / path
        for place in (userland, tools, libvirt)
        for path in ("lib/x86_64-linux-gnu", _LIBRARIES)
    ]
    needed: dict[str, Path] = closure(programs.values(), search)
    libraries = {
        f"/{_LIBRARIES}/{name}": path
        for name, path in needed.items()
        if not name.startswith("ld-linux")
    }
    return {**files, **programs, **libraries}


def lowlevel(release: Release) -> dict[str, Content]:
    """Files for xen.lowlevel.xs alone, which the daily hosts have the libraries for."""
    tools = package_set(release.suite, [f"xen-utils-{release.xen}", "xenstore-utils"])
    (binding,) = tools.glob(f"usr/lib/xen-{release.xen}/lib/python/xen/lowlevel/xs.*.so")
    return {
        f"/{_PYTHON}/xen/__init__.py": b"",
        f"/{_PYTHON}/xen/lowlevel/__init__.py": b"",
        f"/{_PYTHON}/xen/lowlevel/{binding.name}": binding,
    }
