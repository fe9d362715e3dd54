"""A certificate authority for one cluster, and what it signs, with the openssl command.

Python 3.13 verifies strictly: the authority needs critical basicConstraints and keyUsage, and every leaf a
subjectAltName and an authorityKeyIdentifier, or clients in pods refuse the API server.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from localcluster.errors import CommandError

DAYS = 3650
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Authority:
    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def key(self) -> Path:
        return self.folder / "ca.key"

    @classmethod
    def create(cls, folder: Path) -> Authority:
        folder.mkdir(mode=0o700, parents=True)
        authority = cls(folder)
        extensions = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
        words: list[str | Path] = ["req", "-x509", *NEW_KEY, "-days", str(DAYS), "-subj", "/CN=celeriac-local-ca"]
        for extension in extensions:
            words += ["-addext", extension]
        _openssl(*words, "-keyout", authority.key, "-out", authority.certificate)
        return authority

    def sign(self, name: str, subject: str, names: Iterable[str]) -> tuple[Path, Path]:
        """A certificate that serves as server and as client; (certificate, key). `names` as in `DNS:x` or `IP:y`."""
        certificate, key, request = (self.folder / f"{name}.{end}" for end in ("crt", "key", "csr"))
        _openssl("req", *NEW_KEY, "-subj", subject, "-keyout", key, "-out", request)
        signed: list[str | Path] = ["-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-days", str(DAYS)]
        _openssl("x509", "-req", "-in", request, *signed, "-out", certificate, "-extfile", "-", stdin=extensions(names))
        return certificate, key

    def service_account_keys(self) -> tuple[Path, Path]:
        """(private, public): signs and checks the tokens of service accounts."""
        private, public = self.folder / "service-account.key", self.folder / "service-account.pub"
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private)
        _openssl("ec", "-in", private, "-pubout", "-out", public)
        return private, public


def extensions(names: Iterable[str]) -> str:
    """(pure) openssl's extension file for a leaf."""
    return "\n".join(
        [
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature",
            "extendedKeyUsage=serverAuth,clientAuth",
            "subjectKeyIdentifier=hash",
            "authorityKeyIdentifier=keyid",
            f"subjectAltName={','.join(names)}",
            "",
        ]
    )


def kubeconfig(server: str, authority: bytes, user: dict[str, str]) -> str:
    """(pure) A kubeconfig, which may be JSON, with the certificates inside: it can be copied anywhere."""
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(authority).decode()}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "celeriac",
            "clusters": [{"name": "celeriac", "cluster": cluster}],
            "users": [{"name": "celeriac", "user": user}],
            "contexts": [{"name": "celeriac", "context": {"cluster": "celeriac", "user": "celeriac"}}],
        },
        indent=1,
    )


def client_user(certificate: bytes, key: bytes) -> dict[str, str]:
    """(pure) The user part of a kubeconfig for a client certificate."""
    return {
        "client-certificate-data": base64.b64encode(certificate).decode(),
        "client-key-data": base64.b64encode(key).decode(),
    }


def write_private(path: Path, text: str) -> Path:
    """Write a file that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 -- a descriptor, not a path
        file.write(text)
    return path


def _openssl(*words: str | Path, stdin: str | None = None) -> None:
    done = subprocess.run(["openssl", *words], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(f"openssl {words[0]}: {done.stderr.strip()}")
