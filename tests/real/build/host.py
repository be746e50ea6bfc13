"""Builds a bootable Xen host from Debian's packages, and boots it to run one command in dom0.

`build` is slow once and then only a look at the cache. `boot` starts an emulator, hands over
what dom0 prints line by line, and ends the emulator whatever happens.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import re
import secrets
import selectors
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from pathlib import Path

from . import dom0less, init, network, qemu
from .cpio import Archive
from .debian import cache_directory, cache_lock, dependencies_of, package_set, partial_of
from .machine import ARM, PC, Machine
from .report import Report
from .root import Content, Root, fill, normal

_HYPERVISOR = r"boot/xen-[0-9.]+-(amd64\.gz|arm64)"
_GZIP = b"\x1f\x8b"
LOG_TAIL = 4000  # characters of the log that go into an error
_READY_WITHIN = 120.0  # seconds; a boot takes 10, on a machine with other work some more


@dataclass(frozen=True, slots=True)
class Release:
    """A host that can be built: Xen's packages of one suite on the userland of one."""

    xen: str
    suite: str  # of the Xen packages
    userland: str  # suite of the kernel, Python and busybox
    python: str
    store: str = "xenstored"  # or "oxenstored"
    machine: Machine = PC
    dom0less: bool = False  # with guests that Xen has started itself

    @property
    def name(self) -> str:
        return f"{self.xen}-dom0less" if self.dom0less else self.image

    @property
    def image(self) -> str:
        """The name of what is built for it."""
        kind = "" if self.machine is PC else f"-{self.machine.debian}"
        return f"{self.xen}{kind}{'' if self.store == 'xenstored' else '-ox'}"


_PCS = (
    Release("4.14", suite="bullseye", userland="bookworm", python="3.11"),
    Release("4.17", suite="bookworm", userland="bookworm", python="3.11"),
    Release("4.20", suite="trixie", userland="trixie", python="3.13"),
)
RELEASES: Mapping[str, Release] = {
    release.name: release
    for release in (
        *(replace(plain, store=store) for plain in _PCS for store in ("xenstored", "oxenstored")),
        replace(_PCS[-1], machine=ARM),
        replace(_PCS[-1], machine=ARM, dom0less=True),
    )
}


@dataclass(frozen=True, slots=True)
class Image:
    """What a boot needs, as files: Xen, the dom0 kernel and dom0's file system."""

    release: Release
    xen: Path
    linux: Path
    initrd: Path


class BootFailed(Exception):
    """dom0 never came to run the command. The message ends with the end of the log."""


class Outcome(Enum):
    FINISHED = "finished"
    TIME_LIMIT = "ran into the time limit"
    HOST_DIED = "ended with its host"


@dataclass(frozen=True, slots=True)
class BootResult:
    """How the command in dom0 ended.

    status: its exit status if it finished, else None.
    boot_seconds: from starting the emulator to starting the command.
    command_seconds: from there to the command's end, or to ours.
    files: what it left in /out, by path; complete if it finished.
    log: what Xen and the dom0 kernel said.
    """

    outcome: Outcome
    status: int | None
    boot_seconds: float
    command_seconds: float
    log: str
    files: Mapping[str, bytes] = field(default_factory=dict)


def build(release: Release) -> Image:
    """The image of `release`, from the cache if it is there. Raises HostUnavailable."""
    home = cache_directory() / "images" / f"{release.image}-{_recipe()}"
    if not home.is_dir():
        with cache_lock(f"image-{release.image}"):
            if not home.is_dir():
                _build(release, home)
    return Image(release, home / "xen", home / "linux", home / "initrd")


def userland_packages(release: Release) -> list[str]:
    """What dom0 has besides Xen's own: a shell, Python, and a library that xl aborts without."""
    python = release.python
    return ["busybox-static", "libgcc-s1", f"libpython{python}-stdlib", f"python{python}-minimal"]


def userland_here(release: Release) -> Path:
    """The same for the machine that this runs on: its programs do for dom0's what can be done."""
    return package_set(release.userland, userland_packages(release))


def _recipe() -> str:
    """Changes when the code here does, so that an image is never older than what made it."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _build(release: Release, home: Path) -> None:
    machine = release.machine.debian
    hypervisor = f"xen-hypervisor-{release.xen}-{machine}"
    kernels = [
        name
        for name in dependencies_of(release.userland, f"linux-image-{machine}", machine)
        if name.startswith("linux-image-")
    ]
    modules = "|".join(init.module_names())
    packages = partial(package_set, machine=machine)
    sets = {
        "hypervisor": packages(release.suite, [hypervisor], only=_HYPERVISOR),
        "xen": packages(release.suite, [f"xen-utils-{release.xen}", "xenstore-utils"]),
        "userland": packages(release.userland, userland_packages(release)),
        "here": userland_here(release),
        "kernel": packages(
            release.userland, kernels, only=rf"boot/vmlinuz-.*|.*/({modules})\.ko(\.xz)?"
        ),
    }
    # Images of this release that other code made are of no more use, and each is 120 MB.
    for old in home.parent.glob(f"{release.image}-*"):
        if re.fullmatch(r"[0-9a-f]{12}", old.name.removeprefix(f"{release.image}-")):
            shutil.rmtree(old, ignore_errors=True)
    unfinished = partial_of(home)
    unfinished.mkdir(parents=True)
    xen = max(sets["hypervisor"].glob("boot/xen-*")).read_bytes()
    (unfinished / "xen").write_bytes(gzip.decompress(xen) if xen.startswith(_GZIP) else xen)
    linux = next(sets["kernel"].glob("boot/vmlinuz-*"))
    (unfinished / "linux").write_bytes(_unpacked_kernel(linux.read_bytes()))
    root = Root()
    fill(
        root,
        release.machine,
        xen=release.xen,
        store=release.store,
        python=release.python,
        sets=sets,
    )
    with (unfinished / "initrd").open("wb") as file:
        root.write(file)
    unfinished.rename(home)


def _unpacked_kernel(image: bytes) -> bytes:
    """The ELF file inside a bzImage if it is packed with xz, else the image as it is.

    Xen would unpack it too, on the emulated processor, in seconds.
    Source: Documentation/arch/x86/boot.rst in Linux (setup_sects, payload_offset).
    """
    if image[0x202:0x206] != b"HdrS":
        return image
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = image[start : start + length - 4]  # the last four bytes are the unpacked size
    if not payload.startswith(b"\xfd7zXZ\0"):
        return image
    return lzma.decompress(payload)


def boot(
    image: Image,
    *,
    overlay: Mapping[str, Content],
    command: str,
    timeout: float,
    on_line: Callable[[str], None],
    processor: str | None = None,
    memory: int = 768,
    stdin: int | None = None,
    port: int | None = None,
) -> BootResult:
    """Run the shell command `command` in a fresh dom0 and say how it ended.

    overlay: files to add to dom0, by their path there: bytes, or a file or directory to copy.
    timeout: seconds for all of it, boot included. The emulator never outlives this call.
    on_line: is called with each line that the command prints, as it comes.
    processor: another than the usual one, as the emulator calls it. One without AMD's
        virtualisation has PV domains only. memory: of dom0, in MiB.
    stdin: a file descriptor; what is written there comes in by dom0's line, `Machine.line`.
    port: of the loopback, to be `network.OUTSIDE` for dom0. Without it the host has no network.

    Raises HostUnavailable without an emulator, BootFailed if the command was never started.
    """
    machine = image.release.machine
    emulator = qemu.find(machine)
    word = secrets.token_hex(8)
    deadline = time.monotonic() + timeout
    with tempfile.TemporaryDirectory(prefix="domindex-xenhost-") as name:
        run = Path(name)
        # The emulator splits its options at spaces and commas: give it names without any.
        (run / "xen").symlink_to(image.xen)
        (run / "linux").symlink_to(image.linux)
        _write_initrd(run / "initrd", image.initrd, overlay, command, word)
        (run / "log").touch()
        report = Report(word, on_line)
        processor = processor or machine.processor
        if image.release.dom0less:
            arguments = dom0less.arguments(emulator, run, memory, processor)
        else:
            arguments = machine.arguments(memory, processor)
        if port is not None:
            arguments += network.arguments(run, userland_here(image.release), port)
        with _running(emulator, run, arguments, stdin) as process:
            started = time.monotonic()
            _listen(process, report, started, deadline)
            ended = time.monotonic()
        log = (run / "log").read_bytes().decode("utf-8", "replace").replace("\r\n", "\n")
        said = (run / "errors").read_text("utf-8", "replace")
    if report.ready_at is None:
        tail = (said + log)[-LOG_TAIL:]
        raise BootFailed(f"dom0 did not start in {ended - started:.0f} s; the log ends:\n{tail}")
    if report.status is not None:
        outcome = Outcome.FINISHED
    else:
        outcome = Outcome.TIME_LIMIT if ended >= deadline else Outcome.HOST_DIED
    return BootResult(
        outcome,
        report.status,
        report.ready_at - started,
        (report.exit_at or ended) - report.ready_at,
        log,
        report.files(),
    )


def _write_initrd(
    path: Path, base: Path, overlay: Mapping[str, Content], command: str, word: str
) -> None:
    own: dict[str, Content] = {
        init.COMMAND_FILE: command.encode() + b"\n",
        init.WORD_FILE: word.encode(),
    }
    added = io.BytesIO()
    archive = Archive(added)
    for name, content in sorted({**overlay, **own}.items()):
        for inside, file in _each_file(normal(name), content):
            if isinstance(file, bytes):
                archive.file(inside, file, 0o644)
            else:
                archive.file(inside, file.read_bytes(), file.stat().st_mode & 0o777)
    archive.close()
    shutil.copyfile(base, path)
    with path.open("ab") as initrd:
        initrd.write(b"\0" * (-initrd.tell() % 4) + added.getbuffer())


def _each_file(name: str, content: Content) -> Iterator[tuple[str, Content]]:
    if isinstance(content, Path) and content.is_dir():
        for path in sorted(content.rglob("*")):
            if path.is_file():
                yield f"{name}/{path.relative_to(content)}", path
    else:
        yield name, content


@contextmanager
def _running(
    emulator: qemu.Emulator, run: Path, arguments: Sequence[str], stdin: int | None
) -> Iterator[subprocess.Popen[bytes]]:
    """The emulator, in a process group of its own that is gone when the block is left."""
    command = [
        # If this process is killed, no `finally` runs: then the kernel ends the emulator.
        *(["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []),
        *emulator.argv,
        *("-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"),
        *("-accel", "tcg,tb-size=512", "-smp", "1", "-chardev", "stdio,id=line,signal=off"),
        *arguments,
    ]
    with (run / "errors").open("wb") as errors:
        process = subprocess.Popen(
            command,
            cwd=run,
            env=dict(emulator.environment),
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _listen(
    process: subprocess.Popen[bytes], report: Report, started: float, deadline: float
) -> None:
    """Feed `report` until the host has nothing more to say, dies, or is out of time."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not report.complete:
            until = deadline if report.ready_at else min(deadline, started + _READY_WITHIN)
            left = until - time.monotonic()
            if left <= 0:
                break
            if selector.select(left):
                data = os.read(process.stdout.fileno(), 1 << 16)
                if not data:
                    break
                report.feed(data)
    report.finish()
