"""The base image where there is no image registry: Debian trixie with Python, made by mmdebstrap.

Packages come from where this machine's own apt and pip get theirs. Nothing of that stays in an image: the package
sources, pip's settings and the certificates of the machine are mounted while an image is built, and only then.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from localcluster import build, locks
from localcluster.buildah import Buildah
from localcluster.errors import CommandError
from localcluster.paths import Cache
from localcluster.progress import step

PACKAGES = ("buildah", "mmdebstrap", "debian-archive-keyring")
SUITE = "trixie"
REFERENCE = f"localhost/celeriac-base:{SUITE}"
# venv for images that are built; certificates for programs that talk to Sentry; tzdata for Celery's schedules.
INCLUDED = ("ca-certificates", "python3", "python3-venv", "tzdata")
EXCLUDED_PATHS = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_SETTINGS = ("index-url", "extra-index-url", "find-links", "trusted-host", "timeout")


@dataclass(frozen=True)
class Base:
    reference: str
    identity: str  # changes when the image does


def ensure(cache: Cache, *, refresh: bool = False) -> Base:
    """Make the base image, unless it is there. `refresh` makes it again, with the newest packages."""
    recipe = hashlib.sha256(json.dumps([SUITE, INCLUDED, EXCLUDED_PATHS]).encode()).hexdigest()[:12]
    record = cache.images / "base.json"
    if record.exists() and not refresh:
        known = json.loads(record.read_text())
        if known["recipe"] == recipe:
            return Base(REFERENCE, known["identity"])
    build.ensure_packages(*PACKAGES)
    cache.images.mkdir(parents=True, exist_ok=True)
    with (
        locks.exclusive(cache.root / "images.lock", "other images are being built; waiting for them"),
        step("base image: Debian with Python", "made"),
    ):
        identity = _make(cache)
    record.write_text(json.dumps({"recipe": recipe, "identity": identity}))
    return Base(REFERENCE, identity)


def build_mounts(cache: Cache) -> list[str]:
    """buildah's arguments for what is there only while an image is built."""
    settings = cache.images / "pip.conf"
    settings.write_text(pip_configuration(_machine_pip_settings()))
    mounts = {settings: "/etc/pip.conf", _sources(cache): "/etc/apt/sources.list"}
    if CERTIFICATES.exists():
        mounts[CERTIFICATES] = str(CERTIFICATES)
    return [f"--volume={source}:{target}:ro" for source, target in mounts.items()]


def pip_configuration(settings: dict[str, str]) -> str:
    """(pure) A pip.conf."""
    lines = [f"{name} = {value}" for name, value in sorted(settings.items())]
    return "\n".join(["[global]", f"cert = {CERTIFICATES}", *lines, ""])


def _machine_pip_settings() -> dict[str, str]:
    """Where this machine's pip looks for packages: its files first, then the environment, which wins."""
    found: dict[str, str] = {}
    parser = configparser.RawConfigParser()
    home = Path.home()
    for path in (Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"):
        if path.exists():
            parser.read(path)
    for name in PIP_SETTINGS:
        value = os.environ.get(f"PIP_{name.upper().replace('-', '_')}") or parser.get("global", name, fallback=None)
        # A folder of wheels on this machine is not there while an image is built.
        if value and not (name == "find-links" and value.startswith(("/", "."))):
            found[name] = value
    return found


def _make(cache: Cache) -> str:
    rootfs = cache.images / "base-rootfs.tar"
    rootfs.unlink(missing_ok=True)
    command = [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        f"--include={','.join(INCLUDED)}",
        *(f"--dpkgopt=path-exclude={path}" for path in EXCLUDED_PATHS),
        # The image gets no package sources of its own: they would name this machine's mirror.
        f"--customize-hook=mv \"$1/etc/apt/sources.list\" '{_sources(cache)}'",
        SUITE,
        str(rootfs),
        *_mirrors(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(f"mmdebstrap failed:\n{done.stderr.strip()[-3000:]}")
    buildah = Buildah(cache)
    container = buildah("from", "scratch")
    buildah("add", "-q", container, rootfs, "/")
    buildah("config", "--env=LANG=C.UTF-8", "--cmd=[]", container)
    identity = buildah("commit", "-q", "--rm", container, REFERENCE)
    rootfs.unlink()
    return identity


def _mirrors() -> list[str]:
    """Package sources as this machine has them. Not on Debian: none, and mmdebstrap takes the public ones."""
    if platform.freedesktop_os_release().get("ID") != "debian":
        return []
    sources = {}
    targets = ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"]
    for line in subprocess.run(targets, capture_output=True, text=True, check=True).stdout.splitlines():
        codename, _, address = line.partition(" ")
        sources[codename.partition("-")[2]] = address
    return [
        f"deb {sources[kind]} {SUITE}{'-' if kind else ''}{kind} main"
        for kind in ("", "updates", "security")
        if kind in sources
    ]


def _sources(cache: Cache) -> Path:
    return cache.images / "apt-sources.list"
