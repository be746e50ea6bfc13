"""The look-ups of libxenlight in this process: what `xl` does, without starting `xl`.

Read beside peers.py.

Sources: tools/include/libxl.h (LIBXL_VERSION, libxl_ctx_alloc), libxl_utils.h, xentoollog.h of
Xen 4.5 to 4.20: these few have not changed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cffi import FFI

_DIRECTORIES = (
    *("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"),
    *("/usr/lib64", "/usr/lib", "/usr/local/lib"),
)
_VERSION = 0  # LIBXL_VERSION
_CRITICAL = 9  # XTL_CRITICAL: print nothing for a name that is not found

_DECLARATIONS = """
void *xtl_createlogger_stdiostream(void *file, int least, unsigned flags);
void xtl_logger_destroy(void *logger);
int libxl_ctx_alloc(void **context, int version, unsigned flags, void *logger);
int libxl_ctx_free(void *context);
int libxl_name_to_domid(void *context, const char *name, uint32_t *domid);
char *libxl_domid_to_name(void *context, uint32_t domid);
void free(void *memory);
extern void *stderr;
"""


class Libxl:
    """A context of the library. Raises OSError if there is no library, or if it refuses."""

    def __init__(self) -> None:
        light, log = _newest("libxenlight.so.4.*"), _newest("libxentoollog.so.1*")
        self.file = light.name
        ffi: Any = FFI()
        ffi.cdef(_DECLARATIONS)
        self._libc, self._log = ffi.dlopen(None), ffi.dlopen(str(log))
        self._light = library = ffi.dlopen(str(light))
        self._logger = self._log.xtl_createlogger_stdiostream(self._libc.stderr, _CRITICAL, 0)
        context = ffi.new("void **")
        if self._logger == ffi.NULL or (
            failed := library.libxl_ctx_alloc(context, _VERSION, 0, self._logger)
        ):
            raise OSError(f"libxl_ctx_alloc gives {failed}")
        self._context = context[0]
        self.name_to_domid: Callable[[bytes], int | None] = self._name_to_domid(ffi)
        self.domid_to_name: Callable[[int], bytes | None] = self._domid_to_name(ffi)

    def close(self) -> None:
        self._light.libxl_ctx_free(self._context)
        self._log.xtl_logger_destroy(self._logger)

    def _name_to_domid(self, ffi: Any) -> Callable[[bytes], int | None]:
        function, context, domid = (
            *(self._light.libxl_name_to_domid, self._context),
            ffi.new("uint32_t *"),
        )

        def call(name: bytes) -> int | None:
            return None if function(context, name, domid) else int(domid[0])

        return call

    def _domid_to_name(self, ffi: Any) -> Callable[[int], bytes | None]:
        function, context, free = self._light.libxl_domid_to_name, self._context, self._libc.free
        string, null = ffi.string, ffi.NULL

        def call(domid: int) -> bytes | None:
            found = function(context, domid)
            if found == null:
                return None
            name: bytes = string(found)
            free(found)
            return name

        return call


def _newest(pattern: str) -> Path:
    found = [path for place in _DIRECTORIES for path in Path(place).glob(pattern)]
    if not found:
        raise OSError(f"there is no {pattern} in {', '.join(_DIRECTORIES)}")
    return max(
        found, key=lambda path: [int(part) for part in path.name.split(".so.")[1].split(".")]
    )
