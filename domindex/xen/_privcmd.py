"""The way to the hypervisor: devices, memory that Xen can reach, the ioctl.

What a call means is the subject of calls.py. This is the only file that imports cffi, in ABI mode:
it needs no compiler and no Xen library.

Read first of the files about the hypervisor; next layouts.py, calls.py.

Sources: include/uapi/xen/privcmd.h and drivers/xen/privcmd*.c of Linux;
xen/include/public/{sysctl,domctl}.h. The outer structs are the same in every release
from 3.1 on, on x86_64 and arm64.
"""

from __future__ import annotations

import errno
import mmap
import os
from typing import Any, Final, Protocol, TypeAlias, cast

from cffi import FFI

from domindex import forking
from domindex.errors import AccessDenied, Closed, HypercallFailed, NotControlDomain

CData: TypeAlias = Any

ffi = FFI()
ffi.cdef("""
struct privcmd_hypercall { uint64_t op; uint64_t arg[5]; };

struct sysctl_list {               /* struct xen_sysctl with u.getdomaininfolist */
    uint32_t cmd, interface_version;
    uint16_t first_domain;
    uint32_t max_domains;
    uint64_t buffer;
    uint32_t num_domains;
    uint8_t rest[108];
};

struct domctl {                    /* struct xen_domctl; u is read by its layout */
    uint32_t cmd, interface_version;
    uint16_t domain;
    uint16_t pad[3];
    union {
        uint8_t u[128];
        struct { uint16_t state, caps; uint32_t pad0; uint64_t unique_id; } get_domain_state;
    };
};

int ioctl(int fd, unsigned long request, void *argument);
void *mmap(void *at, size_t length, int prot, int flags, int fd, long offset);
int munmap(void *at, size_t length);
int madvise(void *at, size_t length, int advice);
""")
assert ffi.sizeof("struct sysctl_list") == 136
assert ffi.sizeof("struct domctl") == 144


class Libc(Protocol):
    """What is called of the C library, for the type checker."""

    def ioctl(self, fd: int, request: int, argument: CData, /) -> int: ...
    def mmap(
        self, at: CData, length: int, prot: int, flags: int, fd: int, offset: int, /
    ) -> CData: ...
    def munmap(self, at: CData, length: int, /) -> int: ...
    def madvise(self, at: CData, length: int, advice: int, /) -> int: ...


libc = cast(Libc, ffi.dlopen(None))

IOCTL_HYPERCALL: Final = 0x305000
PRIVCMD: Final = ("/dev/xen/privcmd", "/proc/xen/privcmd")
BUFFERS: Final = "/dev/xen/hypercall"
ABSENT: Final = (errno.ENOENT, errno.ENXIO, errno.ENODEV)

_MAP_LOCKED: Final = 0x2000
_MADV_DONTFORK, _MADV_DOFORK = 10, 11
_SPURIOUS: Final = 4
"""More tries of a call that failed with EFAULT. Memory that did not come from /dev/xen/hypercall is
locked, but the kernel may still move its pages, and Xen does not find it for that moment."""


class Memory:
    """Zeroed memory that is resident and never copied on write, so that Xen can use it.

    Xen writes to the pages themselves, past the page tables of this process. So they must not be
    swapped out, and not be shared with a forked child: a child does not have this memory at all.

    It is given back when nothing refers to it any more, not when the device is closed: another
    thread may be in a hypercall that uses it.

    Args:
        buffers: The descriptor of /dev/xen/hypercall, or None to lock plain memory instead.
        length: Bytes; rounded up to pages.

    Attributes:
        at: Its address as a C pointer. view: its bytes.
    """

    def __init__(self, buffers: int | None, length: int) -> None:
        self.length: int = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        flags = mmap.MAP_SHARED
        if buffers is None:
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_LOCKED
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        at = libc.mmap(
            ffi.NULL, self.length, protection, flags, -1 if buffers is None else buffers, 0
        )
        if at == ffi.cast("void *", -1):
            raise HypercallFailed(
                f"no {self.length} bytes of locked memory for hypercalls; see RLIMIT_MEMLOCK",
                ffi.errno,
            )
        length, owner = self.length, os.getpid()

        def free(at: CData) -> None:
            if os.getpid() == owner:  # in a child other memory may be at this address
                libc.madvise(at, length, _MADV_DOFORK)
                libc.munmap(at, length)

        self.at: CData = ffi.gc(at, free, length)
        self.view: CData = ffi.buffer(self.at, length)
        libc.madvise(at, length, _MADV_DONTFORK)
        if buffers is None:
            self.view[:] = bytes(length)  # a page is there for certain once it is written to

    @property
    def address(self) -> int:
        """As a number, which is what Xen is given."""
        return int(ffi.cast("uintptr_t", self.at))


class Privcmd:
    """An open privcmd device. Safe from any thread, as long as each uses its own memory."""

    def __init__(self) -> None:
        self._ioctl = libc.ioctl
        self._fd = _open_privcmd()
        try:
            self._buffers = _open_buffers()
        except BaseException:
            os.close(self._fd)
            raise
        # The memory is not there in a child, and the descriptors are the parent's way to Xen.
        forking.register(self.close)

    def memory(self, length: int) -> Memory:
        """Memory for one caller at a time. Raises Closed, HypercallFailed."""
        self.check_open()
        try:
            return Memory(self._buffers, length)
        except HypercallFailed:
            self.check_open()  # another thread closed the device meanwhile
            raise

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def check_open(self) -> None:
        """Raises Closed. To be called before memory is touched: a child does not have it."""
        if self._fd < 0:
            raise Closed("this hypervisor handle is closed, or belongs to the parent process")

    def prepare(self, op: int, *arguments: int) -> CData:
        """Hypercall number `op` with these arguments, for any number of `call`."""
        return ffi.new("struct privcmd_hypercall *", {"op": op, "arg": list(arguments)})

    def call(self, prepared: CData) -> int:
        """Make the hypercall.

        Returns:
            Its result, or minus the errno, which is Xen's or that of the driver.
        """
        result = self._ioctl(self._fd, IOCTL_HYPERCALL, prepared)
        return result if result >= 0 else self._again(prepared)

    def _again(self, prepared: CData) -> int:
        """The result of a call that failed, after more tries where they can help."""
        error = ffi.errno
        self.check_open()
        for _ in range(_SPURIOUS):
            if error != errno.EINTR and (error != errno.EFAULT or self._buffers is not None):
                break
            result = self._ioctl(self._fd, IOCTL_HYPERCALL, prepared)
            if result >= 0:
                return result
            error = ffi.errno
        return -error

    def close(self) -> None:
        """Give the descriptors back. May be called twice."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        os.close(fd)
        if self._buffers is not None:
            os.close(self._buffers)


def _open_privcmd() -> int:
    for path in PRIVCMD:
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in ABSENT:
                continue
            if error.errno in (errno.EACCES, errno.EPERM):
                raise AccessDenied(f"{path} may not be opened; run as root", error.errno) from None
            raise HypercallFailed(f"{path} cannot be opened", error.errno) from None
    raise NotControlDomain(
        f"neither {PRIVCMD[0]} nor {PRIVCMD[1]} is there: this is not a Xen host, or the "
        "module xen-privcmd is not loaded"
    )


def _open_buffers() -> int | None:
    try:
        return os.open(BUFFERS, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in ABSENT:  # before Linux 4.18
            return None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise AccessDenied(f"{BUFFERS} may not be opened; run as root", error.errno) from None
        raise HypercallFailed(f"{BUFFERS} cannot be opened", error.errno) from None
