"""etcd's programs: Debian's, fetched without root into the cache, and not installed.

    python tools/etcd.py

fetches those of sid, unless they are there, and prints in which directory they are. The tests use
the same ones. What fetches and unpacks is `tests/real/build`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from tests.real.build.debian import HostUnavailable, package_set  # noqa: E402

SUITES = {"3.5.30": "sid", "3.5.16": "trixie", "3.4.23": "bookworm"}
"""Which Debian has about which version. sid moves on: it is at least that."""


def program(suite: str, name: str = "etcd") -> Path:
    """The path of `etcd`, `etcdctl` or `etcdutl` of that Debian. Raises HostUnavailable."""
    packages = ["etcd-client", "etcd-server"]
    folder = package_set(suite, packages, only="usr/bin/etcd(ctl|utl)?") / "usr/bin"
    for path in folder.iterdir():  # all of them: who asks for one may have the folder in PATH
        if not os.access(path, os.X_OK):
            path.chmod(0o755)
    return folder / name


def main() -> int | str:
    """Fetch them all."""
    try:
        programs = [program("sid", name) for name in ("etcd", "etcdctl", "etcdutl")]
    except (HostUnavailable, OSError) as error:
        return f"etcd cannot be fetched: {error}"
    print(programs[0].parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
