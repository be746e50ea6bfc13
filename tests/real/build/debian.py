"""Debian packages without root: fetched, checked and unpacked into a private cache.

`package_set` gives a directory with the unpacked packages of one Debian suite. apt does the
fetching, with sources, lists, cache and status of its own: the machine's package database is
neither read nor changed. The mirror is the machine's own; a release file that the machine's
Debian keyring does not vouch for is refused.

A set is built under another name and renamed when it is whole, so an interrupted build leaves
nothing that looks finished, and a second run finds the directory and asks the network nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MIRROR_VARIABLE = "DOMINDEX_DEBIAN_MIRROR"
CACHE_VARIABLE = "DOMINDEX_CACHE"

HERE = "amd64"
"""The machine that the tests run on; what is emulated may be another."""

_SUITES = re.compile(r"(oldoldstable|oldstable|stable|testing|unstable|sid|[a-z]+)(-updates)?")
_KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
)
_APT_TIME_LIMIT = 900.0


class HostUnavailable(Exception):
    """This machine cannot build or run the Xen host; the message says what it lacks."""


def cache_directory() -> Path:
    """Where everything fetched and built is kept. Safe to delete at any time."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "domindex"


@contextmanager
def cache_lock(what: str) -> Iterator[Path]:
    """The cache directory, for one builder of `what` at a time.

    The kernel drops the lock of a builder that died. Not re-entrant: a holder that asks for
    the same lock again would wait for itself.
    """
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{what}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield cache


def partial_of(home: Path) -> Path:
    """The name under which `home` is built; what an interrupted build left there is removed."""
    partial = home.with_name(f"{home.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    return partial


def package_set(
    suite: str, packages: Sequence[str], *, only: str | None = None, machine: str = HERE
) -> Path:
    """A directory with `packages` of `suite` unpacked, and what they depend on.

    only: a pattern for paths like `boot/vmlinuz`. If it is given, nothing else is unpacked and
        dependencies are left out: a kernel package has 400 MB of modules and draws in a boot
        loader's worth of tools, of which six files are wanted.
    machine: whose packages, as Debian calls it: "amd64" or "arm64".
    Cost: nothing but a look at the cache if the set was fetched before.
    Raises HostUnavailable if it was not and cannot be.
    """
    names = sorted(set(packages))
    identity = json.dumps([suite, names, only, machine])
    key = hashlib.sha256(identity.encode()).hexdigest()[:12]
    home = cache_directory() / "packages" / f"{suite}-{names[0].lstrip('?')}-{key}"
    if not home.is_dir():
        with cache_lock("packages"):
            if not home.is_dir():  # another run may have built it while this one waited
                _build(home, _Apt(suite, machine), names, only)
    return home / "root"


def dependencies_of(suite: str, package: str, machine: str = HERE) -> list[str]:
    """What `package` depends on directly: how a metapackage is followed to the real one."""
    with cache_lock("packages"):
        apt = _Apt(suite, machine)
        apt.update_once()
        shown = apt.run("apt-cache", "depends", "--important", package)
    return re.findall(r"^\s*(?:Pre)?Depends: ([^<\s]+)$", shown, re.MULTILINE)


def mirror() -> tuple[str, Path]:
    """The Debian mirror this machine uses, and the keyring that vouches for it."""
    keyring = next((path for path in _KEYRINGS if path.is_file()), None)
    if keyring is None:
        raise HostUnavailable("there is no Debian archive keyring on this machine")
    given = os.environ.get(MIRROR_VARIABLE)
    if given:
        return given, keyring
    etc = Path("/etc/apt")
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    for file in files:
        if not file.is_file():
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        entries = _deb822(text) if file.suffix == ".sources" else _one_line(text)
        for uri, suites, components in entries:
            # Other people's archives have other suites or no `main`; the security archive has
            # a suffix. Should a stranger pass, the keyring refuses it.
            if "main" in components and any(_SUITES.fullmatch(suite) for suite in suites):
                return uri.rstrip("/"), keyring
    raise HostUnavailable(f"no Debian mirror in {etc}; name one in {MIRROR_VARIABLE}")


_Entry = tuple[str, list[str], list[str]]  # address, suites, components


def _one_line(text: str) -> Iterator[_Entry]:
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line)
        if match:
            yield match[1], [match[2]], match[3].split()


def _deb822(text: str) -> Iterator[_Entry]:
    for paragraph in re.split(r"\n\s*\n", text):
        lines = [line for line in paragraph.splitlines() if not line.startswith("#")]
        fields: dict[str, list[str]] = {}
        field = ""
        for line in lines:
            if line[:1].isspace():
                fields.setdefault(field, []).extend(line.split())
            elif ":" in line:
                field, _, value = line.partition(":")
                field = field.strip().lower()
                fields[field] = value.split()
        if "deb" in fields.get("types", []) and fields.get("enabled") != ["no"]:
            for uri in fields.get("uris", []):
                yield uri, fields.get("suites", []), fields.get("components", [])


class _Apt:
    """apt for one suite and machine, with every file it reads or writes inside the cache."""

    def __init__(self, suite: str, machine: str) -> None:
        for tool in ("apt-get", "apt-cache", "apt-config", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise HostUnavailable(f"{tool} is needed to fetch Debian packages")
        self.suite, self.machine = suite, machine
        self.home = cache_directory() / "apt" / f"{suite}-{machine}"
        for name in ("lists/partial", "archives/partial", "parts", "state"):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        (self.home / "state" / "status").touch()
        uri, keyring = mirror()
        # The list of sid is valid for a week, and a mirror may be older. It is signed all the same.
        old = " check-valid-until=no" if suite == "sid" else ""
        line = f"deb [arch={machine} signed-by={keyring}{old}] {uri} {suite} main\n"
        sources = self.home / "sources.list"
        if not sources.is_file() or sources.read_text() != line:
            self._stamp.unlink(missing_ok=True)
            sources.write_text(line)
        self._config = self.home / "apt.conf"
        self._config.write_text(self._settings())

    @property
    def _stamp(self) -> Path:
        return self.home / "updated"

    def _settings(self) -> str:
        home, parts = self.home, self.home / "parts"
        settings = {
            "APT::Architecture": self.machine,
            "APT::Architectures": self.machine,
            "APT::Sandbox::User": pwd.getpwuid(os.getuid()).pw_name,
            "APT::Get::Assume-Yes": "true",
            "APT::Install-Recommends": "false",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Debug::NoLocking": "true",  # cache_lock does it; apt would lock the machine's dpkg
            "Dir::Etc::sourcelist": f"{home}/sources.list",
            "Dir::Etc::sourceparts": f"{parts}",
            "Dir::Etc::preferences": f"{parts}/none",
            "Dir::Etc::preferencesparts": f"{parts}",
            # The machine's own settings hold hooks that clean its package cache. They are not
            # read; only how it reaches a mirror is taken over below.
            "Dir::Etc::main": f"{parts}/none",
            "Dir::Etc::parts": f"{parts}",
            "Dir::State": f"{home}/state",
            "Dir::State::lists": f"{home}/lists",
            "Dir::State::status": f"{home}/state/status",
            "Dir::Cache": f"{home}",
            "Dir::Cache::archives": f"{home}/archives",
            "Dir::Log": f"{home}",
        }
        lines = [f'{name} "{value}";' for name, value in settings.items()]
        dump = subprocess.run(
            ["apt-config", "dump"], capture_output=True, text=True, check=True, timeout=60
        )
        wanted = re.compile(r"(Acquire::(?:http|https|tor)(?:::\S*)? \"[^\"]+\";)", re.IGNORECASE)
        lines += [line for line in dump.stdout.splitlines() if wanted.fullmatch(line)]
        return "\n".join(lines) + "\n"

    def run(self, *command: str, cwd: Path | None = None) -> str:
        environment = {**os.environ, "APT_CONFIG": str(self._config), "LC_ALL": "C"}
        try:
            done = subprocess.run(
                command,
                env=environment,
                cwd=cwd or self.home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_APT_TIME_LIMIT,
            )
        except subprocess.TimeoutExpired as error:
            raise HostUnavailable(f"{shlex.join(command)} did not end") from error
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()[-6:]
            raise HostUnavailable(f"{shlex.join(command)} failed: " + "; ".join(said))
        return done.stdout

    def update_once(self) -> None:
        """The package lists are fetched when the first set of a suite is, then kept."""
        if not self._stamp.is_file():
            self.update()

    def update(self) -> None:
        self._stamp.unlink(missing_ok=True)
        # Without this a list that could not be fetched is only a warning.
        self.run("apt-get", "-oAPT::Update::Error-Mode=any", "update")
        self._stamp.touch()


def _build(home: Path, apt: _Apt, names: list[str], only: str | None) -> None:
    partial = partial_of(home)
    try:
        apt.update_once()
        _fetch(apt, partial, names, dependencies=only is None)
    except HostUnavailable:
        # The lists may be older than the mirror, which keeps no package that was replaced.
        apt.update()
        _fetch(apt, partial, names, dependencies=only is None)
    debs = sorted((partial / "debs").glob("*.deb"))
    for deb in debs:
        if only is None:
            apt.run("dpkg-deb", "-x", str(deb), str(partial / "root"))
        else:
            _unpack_only(deb, partial / "root", re.compile(only))
    if only is None:
        _write_database(partial / "root", [apt.run("dpkg-deb", "-f", str(deb)) for deb in debs])
    shutil.rmtree(partial / "debs")
    asked = {"suite": apt.suite, "machine": apt.machine, "asked": names}
    manifest = {**asked, "packages": [deb.stem for deb in debs]}
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    partial.rename(home)


def _write_database(root: Path, controls: list[str]) -> None:
    """Tell a dpkg that runs in `root` which packages are there, and so which are missing."""
    database = root / "var/lib/dpkg"
    (database / "info").mkdir(parents=True, exist_ok=True)
    entries = [control.rstrip() + "\nStatus: install ok installed\n" for control in controls]
    (database / "status").write_text("\n".join(entries))


def _fetch(apt: _Apt, partial: Path, names: list[str], *, dependencies: bool) -> None:
    if partial.exists():
        shutil.rmtree(partial)
    debs = partial / "debs"
    (debs / "partial").mkdir(parents=True)
    (partial / "root").mkdir()
    if dependencies:
        apt.run("apt-get", f"-oDir::Cache::archives={debs}", "--download-only", "install", *names)
    else:
        apt.run("apt-get", "download", *names, cwd=debs)


def _unpack_only(deb: Path, root: Path, wanted: re.Pattern[str]) -> None:
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as unpacker,
        tarfile.open(fileobj=unpacker.stdout, mode="r|") as archive,
    ):
        for member in archive:
            if member.isfile() and wanted.fullmatch(member.name.removeprefix("./")):
                archive.extract(member, root, set_attrs=False)
    if unpacker.returncode:
        raise HostUnavailable(f"{shlex.join(command)} failed")
