"""A Debian in a directory, and commands that run in it, without root.

`System` is one suite with a few packages, unpacked by `tests/real/build/debian.py` and never
changed. `run` shows a command that directory as its whole file system. What the command writes
goes into memory and is gone afterwards, except what it writes to /mnt, which is a directory of
the caller's. This takes a user namespace, in which the caller is root over what it owns.

Maintainer scripts are not run when packages are unpacked. `_ENTER` does what is wanted of them.
"""

from __future__ import annotations

import functools
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.real.build.debian import HostUnavailable, package_set

_ENTER = r"""
set -eu
work=$1 memory=$2; shift 2
mount -t tmpfs tmpfs "$memory"
mkdir "$memory/upper" "$memory/overlay" "$memory/root"
mount -t overlay overlay "$memory/root" \
    -o "lowerdir=.,upperdir=$memory/upper,workdir=$memory/overlay,userxattr"
cd "$memory/root"
mkdir -p dev proc sys mnt
for kernel in dev proc sys; do mount --rbind "/$kernel" "$kernel"; done
mount --bind "$work" mnt
cp usr/share/base-passwd/passwd.master etc/passwd
cp usr/share/base-passwd/group.master etc/group
cp -L /etc/resolv.conf /etc/hosts etc/ 2>/dev/null || true
if test -d usr/share/ca-certificates; then cp -L /etc/ssl/certs/*.crt etc/ssl/certs/; fi
ln -sf debian etc/dpkg/origins/default
ln -sf mawk usr/bin/awk
exec chroot . /bin/sh -euc "$@"
"""

_UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")
_ESSENTIAL = "?essential"  # apt's pattern for what every Debian has


@dataclass(frozen=True, slots=True)
class System:
    """One suite of Debian with its essential packages and those named, unpacked."""

    suite: str
    packages: tuple[str, ...]

    def unpack(self) -> Path:
        """Its directory. Raises HostUnavailable if it cannot be had, or cannot be used here."""
        _allowed()
        return package_set(self.suite, (_ESSENTIAL, *self.packages))

    def run(
        self,
        script: str,
        work: Path,
        *,
        network: bool = False,
        environment: Mapping[str, str] | None = None,
        timeout: float = 900.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell script in it, as root of a user namespace.

        Args:
            script: For the system's own `sh -eu`.
            work: A directory that the script finds at /mnt, and where it starts.
            network: Whether it has one. Without, even loopback is down.
            environment: All that the script has beside PATH, HOME and LC_ALL.
            timeout: Seconds until it is killed.

        Returns:
            The process that has ended: its status, and all that it printed as `stdout`.

        Raises:
            HostUnavailable: The packages cannot be had, or user namespaces are not allowed.
        """
        root = self.unpack()
        enter = [*_UNSHARE, "--fork", "--kill-child", *(() if network else ("--net",))]
        inside = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
        with tempfile.TemporaryDirectory() as memory:
            return subprocess.run(
                [*enter, "sh", "-c", _ENTER, "sh", str(work), memory, f"cd /mnt\n{script}"],
                cwd=root,
                env={**inside, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=timeout,
            )


@functools.cache
def _allowed() -> None:
    """Raise HostUnavailable if this machine does not allow the namespaces, with its reason."""
    try:
        done = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True, timeout=60)
    except FileNotFoundError as error:
        raise HostUnavailable("unshare of util-linux is needed to run unpacked Debians") from error
    if done.returncode:
        raise HostUnavailable(f"no user namespaces on this machine: {done.stderr.strip()}")
