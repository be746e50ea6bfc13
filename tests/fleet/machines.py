"""The machines of docs/fleet-operations.md: its files and commands, on directories and ports.

Each machine is a directory, which has its `/etc` and `/var`. All are this machine: so a name and a
port of the page become `localhost` and a port of their own, and nothing else of it is replaced.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from domindex.fleet.url import Tls
from tests.shape.pages import BLOCK, read

from .servers import STARTING, free_port, program, wait_until

PAGE = read("fleet-operations.md")
MEMBERS = ("a", "b", "c")
_QUICK = "unsafe-no-fsync: true\nheartbeat-interval: 50\nelection-timeout: 500\n"
"""A disk that is slow, or shared with other tests, is not what is tried here."""


def block(words: str, kind: str = "sh") -> str:
    """The only block of the page that has these words."""
    (found,) = [text for one, text in BLOCK.findall(PAGE) if one == kind and words in text]
    return str(found)


class Machines:
    """a, b and c, and an administrator's, where commands run unless another one is named."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._ports = {
            (name, port): free_port() for name in MEMBERS for port in ("2379", "2380", "12379")
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._exports = ""
        self.admin = home / "admin"
        for directory in (
            *(home / name / below for name in MEMBERS for below in ("etc/etcd", "etc/default")),
            *(home / name / "var/lib/etcd" for name in MEMBERS),
            home / "bin",
            self.admin,
        ):
            directory.mkdir(parents=True)
        ours = home / "bin" / "domindex"
        ours.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m domindex "$@"\n')
        ours.chmod(0o755)

    def url(self, *names: str) -> str:
        """The URL of these members; of all if none is named."""
        return "etcd://" + ",".join(f"localhost:{self.port(name)}" for name in names or MEMBERS)

    def port(self, name: str, which: str = "2379") -> int:
        """A port of a member."""
        return self._ports[name, which]

    def tls(self, name: str) -> Tls:
        """The certificates of a host, a reader or an administrator."""
        files = ("clients-ca.pem", f"{name}.pem", f"{name}.key")
        return Tls(*(self.admin / one for one in files))

    def here(self, text: str, on: str = "a") -> str:
        """What the page says, for a machine that has this name."""
        own = r"(name: |--name |advertise-(?:client|peer)-urls:? https://)a\b"
        text = re.sub(own, rf"\g<1>{on}", text).replace(" a-$", f" {on}-$")
        text = re.sub(
            r"\b([abc])\.example:(\d+)",
            lambda found: f"localhost:{self._ports[found[1], found[2]]}",
            text,
        )
        text = text.replace("DNS:%s.example", "DNS:localhost").replace("0.0.0.0", "127.0.0.1")
        text = re.sub(r"(?<=:)(12379|23[78]\d)\b", lambda found: str(self.port(on, found[1])), text)
        text = re.sub(r"(?<![\w/.])/(?=(?:etc|var)/)", f"{self.home}/{on}/", text)
        return re.sub(r"(-o |chown -R )etcd\b", rf"\g<1>{os.getuid()}", text)

    def file(self, words: str, path: str, on: str) -> Path:
        """Write a file as the page has it."""
        target = self.home / on / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(self.here(block(words, "text"), on))
        return target

    def run(
        self,
        commands: str,
        on: str = "a",
        *,
        status: int = 0,
        variables: Mapping[str, str] | None = None,
    ) -> str:
        """Run commands of the page; what they print. What they export is kept."""
        text = self.here(commands, on)
        for part in re.split(r"^(systemctl \w+ etcd\n)", text, flags=re.MULTILINE):
            if part.startswith("systemctl"):
                self._unit(part.split()[1], on)
                said = ""
            elif part:
                said = self._shell(part, status, variables or {})
        self._exports += "".join(re.findall(r"^export .*\n", text, re.MULTILINE))
        return said

    def wait_ready(self, *names: str) -> None:
        """Until these members, or all, serve clients."""
        for name in names or MEMBERS:
            log = self.home / name / "log"
            process = self._running[name]

            def ready(log: Path = log, process: subprocess.Popen[bytes] = process) -> bool:
                text = log.read_text(errors="replace")
                assert process.poll() is None, text[-2000:]
                return "serving client traffic securely" in text

            wait_until(ready, STARTING)

    def start(self, name: str) -> None:
        """As `systemctl start etcd` on it."""
        self._unit("start", name)

    def stop(self, *names: str) -> None:
        """As `systemctl stop etcd` on these at once."""
        for name in names:
            self._running[name].terminate()
        for name in names:
            self._unit("stop", name)

    def kill(self, name: str) -> None:
        """End etcd on it, as a power failure does."""
        process = self._running.pop(name)
        process.kill()
        process.wait(20)

    def close(self) -> None:
        """End all members."""
        for name in list(self._running):
            self.kill(name)

    def _shell(self, text: str, status: int, variables: Mapping[str, str]) -> str:
        path = (self.home / "bin", program("sid").parent, os.environ["PATH"])
        done = subprocess.run(
            ["sh", "-euc", self._exports + text],
            cwd=self.admin,
            env={"PATH": ":".join(map(str, path)), "HOME": str(self.admin), **variables},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == status, (text, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def _unit(self, action: str, name: str) -> None:
        """What Debian's unit does."""
        if action in ("stop", "restart") and (process := self._running.pop(name, None)):
            process.terminate()
            try:
                process.wait(20)
            finally:
                process.kill()
        if action in ("start", "restart"):
            settings = (self.home / name / "etc/default/etcd").read_text()
            (_, arguments), *_ = re.findall(r"^(DAEMON_ARGS)=(.*)$", settings, re.MULTILINE)
            (options,) = shlex.split(arguments)
            (self.home / name / "log").unlink(missing_ok=True)
            with (self.home / name / "log").open("wb") as log:
                self._running[name] = subprocess.Popen(
                    [str(program("sid")), *options.split()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.home / name,
                )


def set_up(machines: Machines) -> None:
    """Certificates, three members, users and rights: the page's chapter, from its top."""
    machines.run(block("req -x509"))
    machines.run(block("CN=$name "))
    machines.run(block("CN=etcd-$name"))
    for name in MEMBERS:
        config = machines.file("data-dir:", "etc/etcd/domindex.yaml", name)
        config.write_text(config.read_text() + _QUICK)
        machines.file("DAEMON_ARGS", "etc/default/etcd", name)
        machines.run(block("install -m"), name)
    machines.wait_ready()
    machines.run(block("export ETCDCTL_ENDPOINTS=https://a.example:2379"))
    machines.run(block(">grants"))
    machines.run(block("auth enable"))
