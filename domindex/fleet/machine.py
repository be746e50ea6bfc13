"""Which machine this is, which boot of it, and that it publishes once.

Read before publisher.py.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import hmac
import os
import socket
import stat
import uuid
from pathlib import Path
from typing import Final

from domindex import forking
from domindex.errors import DomindexError

_APPLICATION: Final = b"domindex.fleet"
_MACHINE_ID: Final = ("/etc/machine-id", "/var/lib/dbus/machine-id")
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


class AlreadyPublishing(DomindexError, RuntimeError):
    """Another process of this machine publishes it. Two would fence each other for ever."""


def machine_id() -> str:
    """What stays the same for this installation, whatever it is called.

    The machine-id is hashed, as machine-id(5) asks of who gives it away. Where there is none, an
    id of the network hardware stands for it.
    """
    for path in _MACHINE_ID:
        with contextlib.suppress(OSError):
            if text := Path(path).read_text(encoding="ascii", errors="replace").strip():
                return hmac.new(text.encode(), _APPLICATION, hashlib.sha256).hexdigest()[:32]
    return hmac.new(str(uuid.getnode()).encode(), _APPLICATION, hashlib.sha256).hexdigest()[:32]


def boot_id() -> str:
    """Which boot of the machine this is; "" if the system does not say."""
    with contextlib.suppress(OSError):
        return Path(_BOOT_ID).read_text(encoding="ascii").strip()
    return ""


def host_name() -> str:
    """What this machine is called."""
    return socket.gethostname().lower()


def lock_directory() -> Path:
    """Where locks are, for root and for others."""
    if os.geteuid() == 0:
        return Path("/run/domindex")
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/domindex-{os.geteuid()}")


class MachineLock:
    """A file lock for the one publisher of a machine. It ends with the process, however that ends.

    Raises AlreadyPublishing, OSError.
    """

    def __init__(self, machine: str, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        digest = hashlib.sha256(machine.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self.path: Path = directory / f"publish-{digest}.lock"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd: int | None = os.open(self.path, flags, 0o600)
        try:
            found = os.fstat(self._fd)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                raise AlreadyPublishing(f"{self.path} belongs to somebody else: remove it")
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise AlreadyPublishing(
                    f"another process of this machine publishes it: it holds {self.path}"
                ) from None
            raise
        except BaseException:
            self.close()
            raise
        forking.register(self.close)  # a child that keeps it open would keep it locked

    def close(self) -> None:
        """Let another process publish. May be called twice."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
