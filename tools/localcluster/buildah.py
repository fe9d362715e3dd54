"""buildah with its storage in the cache, no daemon and no registry."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from localcluster import build, locks, programs
from localcluster.errors import CommandError
from localcluster.paths import Cache

PACKAGES = ("buildah",)
SHOWN_LINES = 40


class Buildah:
    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    def __call__(self, *words: str | Path, env: dict[str, str] | None = None) -> str:
        """Run one command and return its standard output; CommandError carries the end of what it said."""
        self.cache.images.mkdir(parents=True, exist_ok=True)
        self.cache.temporary.mkdir(parents=True, exist_ok=True)
        command: Sequence[str | Path] = (
            "buildah",
            *("--root", self.cache.buildah, "--runroot", self.cache.root / "buildah-run"),
            *words,
        )
        environment = {
            **os.environ,
            "STORAGE_DRIVER": "overlay",
            "BUILDAH_ISOLATION": "chroot",  # needs no runtime of its own, and works inside containers
            "TMPDIR": str(self.cache.temporary),
            **(env or {}),
        }
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-SHOWN_LINES:])
            raise CommandError(f"buildah {words[0]} failed:\n{said}")
        return done.stdout.strip()

    def remove(self, image: str) -> None:
        """Forget an image, if it is there."""
        if self("images", "-q", "--filter", f"reference={image}"):
            self("rmi", image)

    def push(self, image: str, archive: Path) -> None:
        """Write an image to a file that keeps its name; complete or not there."""
        unfinished = archive.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        try:
            self("push", "-q", "--disable-compression", image, f"oci-archive:{unfinished}:{image}")
            unfinished.rename(archive)
        finally:
            unfinished.unlink(missing_ok=True)


def static_image(cache: Cache, name: str) -> tuple[str, Path]:
    """An image with one of our programs and nothing else; (name, archive). Made once for each build of the program."""
    tag = hashlib.sha256(programs.stamp(programs.PROGRAMS[name]).encode()).hexdigest()[:12]
    image, archive = f"localhost/{name}:{tag}", cache.images / f"{name}-{tag}.tar"
    if not archive.exists():
        build.ensure_packages(*PACKAGES)
        with locks.exclusive(cache.root / "images.lock", "other images are being built; waiting for them"):
            _build_static(Buildah(cache), cache.program(name), image, archive)
    return image, archive


def _build_static(buildah: Buildah, program: Path, image: str, archive: Path) -> None:
    container = buildah("from", "scratch")
    buildah("copy", "-q", container, program, f"/{program.name}")
    buildah("config", "--entrypoint", f'["/{program.name}"]', container)
    buildah("commit", "-q", "--rm", container, image)
    buildah.push(image, archive)
