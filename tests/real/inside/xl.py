"""Domains through `xl`, the real toolstack: slower than `toolstack.py`, and nothing is imitated.

The kernels of /guests are made by `tests/real/build/guest.py`: "idle" sits still, "poweroff",
"reboot" and "crash" end at once when unpaused. An HVM domain has no kernel; a stub stands in
for its device model, and it is not meant to be unpaused.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from tests.stage import eventually

from .kinds import kind

TIME_LIMIT = 60.0  # seconds for one command; `create` takes about one
_CONFIGURATION = Path("/etc/xen/xl.conf")
# Name, domid, memory, processors, state, time, uuid and more; a name may be empty or have spaces.
_ROW = re.compile(
    r"(?P<name>.*?)\s+(?P<domid>\d+)\s+\d+\s+\d+\s+\S{6}\s+[\d.]+\s+(?P<uuid>[0-9a-f-]{36})\s"
)
_LEAST_MEMORY = {"pv": 4, "pvh": 32, "hvm": 32}  # MiB


class XlFailed(Exception):
    """`xl` said no; the message is what it said."""


def create(
    name: str,
    type: str | None = None,
    *,
    uuid: UUID | None = None,
    guest: str = "idle",
    on_crash: str | None = None,
    on_poweroff: str | None = None,
    on_reboot: str | None = None,
    memory: int | None = None,
    paused: bool = True,
) -> int:
    """Make a domain and return its domid. type: None is the usual one of this machine."""
    type = kind(type)
    settings: dict[str, str | int | None] = {
        "name": name,
        "type": type,
        "uuid": str(uuid) if uuid else None,
        "memory": memory or _LEAST_MEMORY[type],
        "vcpus": 1,
        "on_crash": on_crash,
        "on_poweroff": on_poweroff,
        "on_reboot": on_reboot,
    }
    if type == "hvm":
        # The old device model is asked for because libxl only waits for a word in xenstore from
        # it, where it talks with the new one.
        settings["device_model_version"] = "qemu-xen-traditional"
        settings["device_model_override"] = "/usr/local/bin/stub-device-model"
        settings["videoram"] = 4
    else:
        settings["kernel"] = f"/guests/{guest}"
    lines = [
        f"{key}={value}" if isinstance(value, int) else f'{key}="{value}"'
        for key, value in settings.items()
        if value is not None
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        run("create", *(["-p"] if paused else []), file.name)
    return int(run("domid", name))


def destroy(domain: int | str) -> None:
    run("destroy", str(domain))


def clear() -> None:
    """End every domain but dom0.

    First each `xl create` that stays behind to start its domain anew when it ends: one that is
    at it just now would make another after the last that is seen here.
    """
    for process in _left_behind():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    eventually(lambda: not any(_left_behind()), "every xl that was killed ended")
    for domid in set(list()) - {0}:
        with contextlib.suppress(XlFailed):  # it was dying already
            destroy(domid)
    eventually(lambda: set(list()) == {0}, "dom0 was alone")


def _left_behind() -> Iterator[int]:
    """The processes of `xl` that run, but for those that only wait to be reaped."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            number, name, state = stat.read_text().split()[:3]
            if name == "(xl)" and state != "Z":
                yield int(number)


def rename(domain: int | str, name: str) -> None:
    run("rename", str(domain), name)


def pause(domain: int | str) -> None:
    run("pause", str(domain))


def unpause(domain: int | str) -> None:
    run("unpause", str(domain))


def save(domain: int | str, file: Path, *, stay: str | None = None) -> None:
    """Save it to a file. It ends, unless `stay` says how it goes on: "run" or "paused"."""
    run("save", *({"run": ["-c"], "paused": ["-p"]}[stay] if stay else []), str(domain), str(file))


def restore(file: Path) -> None:
    """Make a domain of what was saved. It stays paused."""
    run("restore", "-p", str(file))


def migrate(domain: int | str) -> None:
    """Migrate it to this very host: the receiver is started here, and no ssh in between."""
    run("migrate", "-s", "", str(domain), "xl migrate-receive")


@contextmanager
def configured(line: str) -> Iterator[None]:
    """With one more line in xl.conf."""
    before = _CONFIGURATION.read_text()
    _CONFIGURATION.write_text(f"{before}\n{line}\n")
    try:
        yield
    finally:
        _CONFIGURATION.write_text(before)


def list() -> dict[int, str]:
    """The names of all domains by domid; "(null)" for one without."""
    return {domid: name for domid, (name, _) in list_with_uuids().items()}


def list_with_uuids() -> dict[int, tuple[str, UUID]]:
    """Name and uuid of all domains by domid.

    By `xl list -v`: `-l` leaves out every domain that was not made by xl.
    """
    found = {}
    for line in run("list", "-v").splitlines()[1:]:
        row = _ROW.match(line)
        assert row is not None, f"xl lists {line!r}"
        found[int(row["domid"])] = row["name"], UUID(row["uuid"])
    return found


def run(*arguments: str) -> str:
    """What `xl` with these arguments prints. Raises XlFailed, or TimeoutExpired."""
    done = subprocess.run(
        ["xl", *arguments], capture_output=True, text=True, timeout=TIME_LIMIT, check=False
    )
    if done.returncode:
        raise XlFailed(f"xl {' '.join(arguments)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
