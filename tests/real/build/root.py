"""What dom0's file system holds, chosen from the unpacked packages.

Only named programs go in, with the libraries they need, because all of it is copied through an
emulated machine's memory at each boot. Everything lies under /usr, with links from /bin, /lib
and so on, whatever the suite does.
"""

from __future__ import annotations

import lzma
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from . import guest, init
from .cpio import Archive
from .libraries import closure
from .machine import Machine
from .python import compile_tree

_MERGED = ("bin", "sbin", "lib", "lib64")  # links into /usr

# Parts of Python's library that no test run needs; the first is larger than all the rest.
_PYTHON_LEFT_OUT = {
    *("test", "idlelib", "lib2to3", "ensurepip", "pydoc_data", "distutils", "turtledemo"),
    *("tkinter", "curses", "dbm", "venv", "config-3.11-x86_64-linux-gnu"),
}
_MODULES_LEFT_OUT = ("_curses", "readline", "_dbm", "nis", "_crypt", "_test", "_xx", "xx", "_tk")

_LOADED_BY_NAME = (
    *("libgcc_s.so.1", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1"),
)

_XEN_PROGRAMS = (
    *("xl", "xenstored", "oxenstored", "xenconsoled", "xen-init-dom0", "xenstore-control"),
    *("libxl-save-helper", "xen-hvmcrash", "xenlockprof", "init-dom0less"),
)

Content = bytes | Path


class Root:
    """The files of a dom0, gathered and then written as one archive."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[Content, int]] = {}
        self._links: dict[str, str] = {}
        self._directories: dict[str, int] = {}

    def add(self, path: str, content: Content, mode: int = 0o644) -> None:
        self._files[normal(path)] = (content, mode)

    def link(self, path: str, target: str) -> None:
        self._links[normal(path)] = target

    def directory(self, path: str, mode: int = 0o755) -> None:
        self._directories[normal(path)] = mode

    def write(self, file: BinaryIO) -> None:
        archive = Archive(file)
        for path, mode in sorted(self._directories.items()):
            archive.directory(path, mode)
        for path, target in sorted(self._links.items()):
            archive.symlink(path, target)
        for path, (content, mode) in sorted(self._files.items()):
            archive.file(
                path, content if isinstance(content, bytes) else content.read_bytes(), mode
            )
        archive.close()


def normal(path: str) -> str:
    """`path` without a leading slash and without the links into /usr.

    An archive that makes a directory where the file system has a link would replace the link,
    and with it all that is below.
    """
    path = path.strip("/")
    return f"usr/{path}" if path.split("/", 1)[0] in _MERGED else path


def fill(
    root: Root, machine: Machine, *, xen: str, store: str, python: str, sets: Mapping[str, Path]
) -> None:
    """Put a dom0 for Xen `xen` into `root`.

    sets: unpacked packages "xen", "userland" and "kernel"; and "here", which is "userland" for
        the machine that this runs on.
    """
    userland, tools, here = sets["userland"], sets["xen"], sets["here"]
    _skeleton(root)
    programs = [
        *_busybox(root, userland, here),
        *_xen(root, tools, xen),
        *_python(root, userland, here, python),
    ]
    # The userland's libraries come first: with older Xen packages on it, it has the newer libc.
    usual = (machine.libraries.removeprefix("usr/"), machine.libraries)
    search = [place / path for place in (userland, tools) for path in usual]
    # These no header names: libgcc_s is loaded when a thread ends, the empty shells of glibc are
    # wanted by wheels made for older ones, and a test may load any of Xen's.
    by_name = [
        next(path for d in search if (path := d / name).exists()) for name in _LOADED_BY_NAME
    ]
    by_name += sorted((tools / machine.libraries).glob("libxen*.so.*"))
    libraries = {path.name: path for path in by_name}
    libraries |= closure([*programs, *by_name], search)
    for name, path in libraries.items():
        if machine.loader.endswith(name):
            root.add(machine.loader, path, 0o755)
        root.add(f"{machine.libraries}/{name}", path, 0o755)
    _modules(root, sets["kernel"])
    root.add("init", init.init_script(machine, xen=xen).encode(), 0o755)
    for name, text in init.helpers(xen=xen, store=store).items():
        root.add(f"usr/local/bin/{name}", text.encode(), 0o755)
    root.add("guests/idle", machine.guest(None))
    for reason in guest.Reason:
        root.add(f"guests/{reason.name.lower()}", machine.guest(reason))


def _skeleton(root: Root) -> None:
    for path in ("dev", "proc", "sys", "run", "root", "out", "site", "tmp", "var/lock", "etc"):
        root.directory(path)
    for path in ("run/lock", "run/xen", "run/xenstored", "var/lib/xen", "var/lib/xenstored"):
        root.directory(path)
    for path in ("var/log/xen", "var/log/xen/console", "etc/xen/scripts", "usr/lib64"):
        root.directory(path)
    for name in _MERGED:
        root._links[name] = f"usr/{name}"
    root.link("var/run", "../run")
    root.add("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    root.add("etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    root.add("etc/hosts", b"127.0.0.1 localhost\n")
    root.add("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files\n")
    # dom0's memory is fixed at boot; shrinking it for each domain takes xl seconds.
    root.add("etc/xen/xl.conf", b'autoballoon="off"\n')


def _busybox(root: Root, userland: Path, here: Path) -> list[Path]:
    program, runs = (next(packages.glob("**/bin/busybox")) for packages in (userland, here))
    listed = subprocess.run(
        [runs, "--list"], capture_output=True, text=True, check=True, timeout=60
    )
    for applet in listed.stdout.split():
        root.link(f"usr/bin/{applet}", "busybox")
    root.add("usr/bin/busybox", program, 0o755)
    return []  # it is linked statically


def _xen(root: Root, tools: Path, xen: str) -> list[Path]:
    private = f"usr/lib/xen-{xen}"
    programs: list[Path] = []
    for name in _XEN_PROGRAMS:
        path = tools / private / "bin" / name
        if path.exists():
            root.add(f"{private}/bin/{name}", path, 0o755)
            programs.append(path)
    # One program under many names; which it is, it reads from its name.
    for path in sorted((tools / "usr/bin").glob("xenstore*")):
        if path.is_symlink():
            continue
        if not programs or path.name == "xenstore":
            root.add("usr/bin/xenstore", path, 0o755)
            programs.append(path)
        else:
            root.link(f"usr/bin/{path.name}", "xenstore")
    # From 4.20 on oxenstored reaches the hypervisor through a plug-in.
    for path in sorted((tools / private / "ocaml").rglob("*.cmxs")):
        root.add(str(path.relative_to(tools)), path)
        programs.append(path)
    if (loader := tools / private / "boot/hvmloader").exists():
        root.add(f"{private}/boot/hvmloader", loader)
    root.add("etc/xen/oxenstored.conf", tools / "etc/xen/oxenstored.conf")
    return programs


def _python(root: Root, userland: Path, here: Path, python: str) -> list[Path]:
    program = userland / f"usr/bin/python{python}"
    root.add(f"usr/bin/python{python}", program, 0o755)
    root.link("usr/bin/python3", f"python{python}")
    library = userland / f"usr/lib/python{python}"
    compile_tree(here, python, library, f"/usr/lib/python{python}")
    extensions: list[Path] = []
    for path in sorted(library.rglob("*")):
        inside = path.relative_to(library)
        if _PYTHON_LEFT_OUT & set(inside.parts):
            continue
        if inside.parts[0] == "lib-dynload" and inside.name.startswith(_MODULES_LEFT_OUT):
            continue
        if path.is_file():
            root.add(f"usr/lib/python{python}/{inside}", path)
            if path.suffix == ".so":
                extensions.append(path)
    return [program, *extensions]


def _modules(root: Root, kernel: Path) -> None:
    for name in init.module_names():
        path = next(kernel.glob(f"**/{name}.ko*"), None)
        if path is None:
            continue  # newer kernels have some of them built in
        data = path.read_bytes()
        root.add(
            f"usr/lib/modules/{name}.ko", lzma.decompress(data) if path.suffix == ".xz" else data
        )
