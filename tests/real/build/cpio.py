"""A cpio archive as Linux reads it at boot ("newc"), written byte for byte the same each time.

Linux unpacks one archive after another from one initrd, later files over earlier ones, if each
begins on a multiple of four bytes. So a prepared archive and a small new one need only be
put end to end.

Source: Documentation/driver-api/early-userspace/buffer-format.rst in Linux.
"""

from __future__ import annotations

import stat
from typing import BinaryIO

_TRAILER = "TRAILER!!!"


class Archive:
    """Writes entries to `file`; missing parent directories are added before what is in them.

    Owner is root and every time stamp is `mtime`, whoever builds it and whenever.
    """

    def __init__(self, file: BinaryIO, *, mtime: int = 0) -> None:
        self._file = file
        self._mtime = mtime
        self._inode = 0
        self._directories = {""}

    def directory(self, path: str, mode: int = 0o755) -> None:
        """A directory; adding it again changes nothing."""
        path = path.strip("/")
        if path not in self._directories:
            self._parents(path)
            self._directories.add(path)
            self._entry(path, stat.S_IFDIR | mode, b"")

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._parents(path.strip("/"))
        self._entry(path.strip("/"), stat.S_IFREG | mode, data)

    def symlink(self, path: str, target: str) -> None:
        self._parents(path.strip("/"))
        self._entry(path.strip("/"), stat.S_IFLNK | 0o777, target.encode())

    def close(self) -> None:
        """Write the end mark. The file itself stays open."""
        self._inode = -1
        self._entry(_TRAILER, 0, b"")

    def _parents(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if parent:
            self.directory(parent)

    def _entry(self, path: str, mode: int, data: bytes) -> None:
        self._inode += 1
        name = path.encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, device of the file (major, minor), device
        # it is (major, minor), length of the name, checksum: eight hex digits each
        fields = (
            *(self._inode, mode, 0, 0, 1, self._mtime, len(data), 0, 0),
            *(0, 0, len(name), 0),
        )
        header = b"070701" + "".join(f"{field:08X}" for field in fields).encode() + name
        self._file.write(header + _padding(len(header)) + data + _padding(len(data)))


def _padding(length: int) -> bytes:
    return b"\0" * (-length % 4)
