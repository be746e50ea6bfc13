"""Xen's own libraries as far as the tests' toolstack uses them, for any release from 4.14 on.

Their sonames carry the release, so the file that is there says which release it is. The only
thing that differs between releases here is what describes a new domain; its end differs between
machines too.

Sources: tools/include/xenctrl.h, xenguest.h, xenstore.h, xenforeignmemory.h;
xen/include/public/domctl.h (struct xen_domctl_createdomain) and arch-x86/xen.h, arch-arm.h.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cffi import FFI

from .kinds import MACHINE

_DIRECTORY = Path(f"/usr/lib/{MACHINE}-linux-gnu")

_DECLARATIONS = """
typedef uint64_t xen_pfn_t;
void *xc_interface_open(void *logger, void *builder_logger, unsigned flags);
int xc_interface_close(void *xch);
int xc_domain_create(void *xch, uint32_t *domid, void *config);
int xc_domain_max_vcpus(void *xch, uint32_t domid, unsigned max);
int xc_set_paging_mempool_size(void *xch, uint32_t domid, uint64_t size);
int xc_domain_setmaxmem(void *xch, uint32_t domid, uint64_t max_kib);
int xc_domain_populate_physmap_exact(void *xch, uint32_t domid, unsigned long extents,
                                     unsigned order, unsigned flags, xen_pfn_t *frames);
int xc_domain_getinfolist(void *xch, uint32_t first, unsigned max, void *entries);
int xc_domain_sethandle(void *xch, uint32_t domid, uint8_t *handle);
int xc_domain_pause(void *xch, uint32_t domid);
int xc_domain_unpause(void *xch, uint32_t domid);
int xc_domain_shutdown(void *xch, uint32_t domid, int reason);
int xc_domain_resume(void *xch, uint32_t domid, int fast);
int xc_domain_soft_reset(void *xch, uint32_t domid);
int xc_domain_destroy(void *xch, uint32_t domid);
int xc_evtchn_alloc_unbound(void *xch, uint32_t domid, uint32_t remote);
int xc_dom_gnttab_seed(void *xch, uint32_t domid, bool hvm, xen_pfn_t console, xen_pfn_t store,
                       uint32_t console_domid, uint32_t store_domid);

void *xs_open(unsigned long flags);
void xs_close(void *xs);
uint32_t xs_transaction_start(void *xs);
bool xs_transaction_end(void *xs, uint32_t transaction, bool abort);
bool xs_mkdir(void *xs, uint32_t transaction, const char *path);
bool xs_write(void *xs, uint32_t transaction, const char *path, const void *data, unsigned length);
bool xs_rm(void *xs, uint32_t transaction, const char *path);
bool xs_introduce_domain(void *xs, unsigned domid, unsigned long frame, unsigned port);
bool xs_release_domain(void *xs, unsigned domid);
bool xs_resume_domain(void *xs, unsigned domid);

void *xenforeignmemory_open(void *logger, unsigned flags);
int xenforeignmemory_close(void *memory);
void *xenforeignmemory_map(void *memory, uint32_t domid, int protection, size_t pages,
                           const xen_pfn_t frames[], int errors[]);
int xenforeignmemory_unmap(void *memory, void *address, size_t pages);
"""

# Members of xen_domctl_createdomain, each with the minor release that brought it.
_CREATE = (
    (0, "uint32_t ssidref"),
    (0, "uint8_t handle[16]"),
    (0, "uint32_t flags"),
    (0, "uint32_t iommu_opts"),
    (0, "uint32_t max_vcpus"),
    (0, "uint32_t max_evtchn_port"),
    (0, "int32_t max_grant_frames"),
    (0, "int32_t max_maptrack_frames"),
    (16, "uint32_t grant_opts"),
    (20, "uint32_t altp2m_opts"),
    (15, "uint32_t vmtrace_size"),
    (15, "uint32_t cpupool_id"),
)
_CREATE_MACHINE = {
    "x86_64": ((0, "uint32_t emulation_flags"), (15, "uint32_t misc_flags")),
    "aarch64": (
        (0, "uint8_t gic_version"),  # 0: the machine's own
        (18, "uint8_t sve_vl"),
        (13, "uint16_t tee_type"),
        (0, "uint32_t nr_spis"),
        (0, "uint32_t clock_frequency"),
    ),
}


@dataclass(frozen=True, slots=True)
class Libraries:
    """The opened libraries. minor: 17 for Xen 4.17."""

    ffi: FFI
    minor: int
    control: Any
    guest: Any
    store: Any
    memory: Any


def load() -> Libraries:
    """Open the libraries of the release that is installed."""
    control = max(_DIRECTORY.glob("libxenctrl.so.4.*"))
    minor = int(control.name.split(".")[3])
    known = (*_CREATE, *_CREATE_MACHINE[MACHINE])
    members = "; ".join(text for since, text in known if minor >= since)
    ffi = FFI()
    ffi.cdef(f"{_DECLARATIONS} struct create {{ {members}; }};")
    store = max(_DIRECTORY.glob("libxenstore.so.*"))
    return Libraries(
        ffi,
        minor,
        ffi.dlopen(str(control)),
        ffi.dlopen(str(_DIRECTORY / f"libxenguest.so.4.{minor}")),
        ffi.dlopen(str(store)),
        ffi.dlopen(str(max(_DIRECTORY.glob("libxenforeignmemory.so.1*")))),
    )


def failed(ffi: FFI, call: str) -> OSError:
    """The error of a call that has just failed, with the C errno."""
    return OSError(ffi.errno, f"{call}: {os.strerror(ffi.errno)}")
