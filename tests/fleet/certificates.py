"""Certificates for tests: an authority, a server, and a client for each name, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

from domindex.fleet.url import Tls


class Authority:
    """Signs. Its own certificate is `ca.pem` in its directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self.ca = home / "ca.pem"
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=authority"),
        )

    def client(self, name: str) -> Tls:
        """Certificates of one whose common name is this."""
        cert, key = self._signed(name, "extendedKeyUsage=clientAuth")
        return Tls(self.ca, cert, key)

    def server(self) -> tuple[Path, Path]:
        """Certificate and key of a server on the loopback, which is a client of itself too."""
        return self._signed(
            "server", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth"
        )

    def _signed(self, name: str, extensions: str) -> tuple[Path, Path]:
        cert, key = self.home / f"{name}.pem", self.home / f"{name}.key"
        (self.home / f"{name}.ext").write_text(extensions + "\n")
        self._openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", key.name, "-out", f"{name}.csr", "-subj", f"/CN={name}"),
        )
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-out", cert.name, "-days", "2", "-extfile", f"{name}.ext"),
        )
        return cert, key

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments], cwd=self.home, check=True, capture_output=True, timeout=30
        )


def server_arguments(authority: Authority) -> list[str]:
    """What etcd is started with."""
    cert, key = authority.server()
    return [
        *("--cert-file", str(cert), "--key-file", str(key)),
        *("--trusted-ca-file", str(authority.ca), "--client-cert-auth"),
    ]


def ctl_arguments(tls: Tls) -> list[str]:
    """The same identity for etcdctl."""
    return ["--cacert", str(tls.ca), "--cert", str(tls.cert), "--key", str(tls.key)]
