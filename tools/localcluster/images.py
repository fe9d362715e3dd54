"""Builds each image, but only if something that it is made from has changed."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from localcluster import base, locks, recipes
from localcluster.buildah import Buildah
from localcluster.errors import CommandError, LocalClusterError
from localcluster.paths import CHECKOUT, Cache
from localcluster.progress import step

KEPT_ARCHIVES = 3  # of each image: the newest, and what another branch or checkout may still use
PUBLIC_BASE = "python:3.13-slim-trixie"  # as in the Dockerfiles


@dataclass(frozen=True)
class Image:
    name: str  # such as celeriac-operator
    reference: str  # such as localhost/celeriac-operator:1234567890ab
    archive: Path | None  # None: Docker holds it


@dataclass(frozen=True)
class ArchivedImage(Image):
    archive: Path


def build(cache: Cache, names: Iterable[str], *, prefix: str, with_docker: bool) -> list[Image]:
    """Build these images (all, where none is named) unless they are there."""
    catalogue = recipes.read()
    wanted = list(names) or list(catalogue)
    unknown = [name for name in wanted if name not in catalogue]
    if unknown:
        raise LocalClusterError(f"no image called {', '.join(unknown)}; there are {', '.join(catalogue)}")
    builder = Docker(prefix) if with_docker else Archives(cache, prefix)
    return [builder.ensure(catalogue[name]) for name in wanted]


class Archives:
    """Builds with buildah and keeps each image in a file."""

    def __init__(self, cache: Cache, prefix: str) -> None:
        self.cache = cache
        self.prefix = prefix
        self.buildah = Buildah(cache)
        self.base = base.ensure(cache)

    def ensure(self, recipe: recipes.Recipe) -> Image:
        image = self._image(recipe, CHECKOUT)
        if image.archive.exists():
            return image
        with (
            locks.exclusive(self.cache.root / "images.lock", "other images are being built; waiting for them"),
            self._staged(recipe) as context,
        ):
            # The source may have changed since: what counts is the copy that the image is built from.
            image = self._image(recipe, context)
            if not image.archive.exists():
                with step(f"building {image.reference}", "built"):
                    self._build(recipe, image, context)
                self._prune(recipe, image.archive)
        return image

    def _image(self, recipe: recipes.Recipe, folder: Path) -> ArchivedImage:
        reference = f"{self.prefix}/{recipe.name}:{recipes.tag(recipe, self.base.identity, folder)}"
        file = f"{reference.replace('/', '_').replace(':', '-')}.tar"
        return ArchivedImage(recipe.name, reference, self.cache.images / file)

    @contextlib.contextmanager
    def _staged(self, recipe: recipes.Recipe) -> Iterator[Path]:
        # What a build that was killed left.
        shutil.rmtree(self.cache.temporary, ignore_errors=True)
        self.cache.temporary.mkdir(parents=True)
        self.buildah("rm", "--all")
        with tempfile.TemporaryDirectory(prefix="context-", dir=self.cache.temporary) as folder:
            recipes.stage(recipe, Path(folder))
            yield Path(folder)

    def _build(self, recipe: recipes.Recipe, image: ArchivedImage, context: Path) -> None:
        self.buildah(
            "bud",
            "--layers",  # each step is kept: a change of the source does not install the dependencies again
            "--pull-never",
            "--network=host",
            f"--build-arg=BASE_IMAGE={self.base.reference}",
            *base.build_mounts(self.cache),
            *((f"--target={recipe.target}",) if recipe.target else ()),
            f"--file={context / recipe.dockerfile}",
            f"--tag={image.reference}",
            context,
        )
        self.buildah.push(image.reference, image.archive)

    def _prune(self, recipe: recipes.Recipe, newest: Path) -> None:
        pattern = f"{self.prefix.replace('/', '_')}_{recipe.name}-{'?' * recipes.TAG_DIGITS}.tar"
        archives = sorted(self.cache.images.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in archives[KEPT_ARCHIVES:]:
            if old != newest:
                tag = old.stem[-recipes.TAG_DIGITS :]
                self.buildah.remove(f"{self.prefix}/{recipe.name}:{tag}")
                old.unlink()


class Docker:
    """Builds with Docker, which keeps the images itself."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def ensure(self, recipe: recipes.Recipe) -> Image:
        with tempfile.TemporaryDirectory(prefix="celeriac-") as folder:
            recipes.stage(recipe, Path(folder))
            reference = f"{self.prefix}/{recipe.name}:{recipes.tag(recipe, PUBLIC_BASE, Path(folder))}"
            if subprocess.run(["docker", "image", "inspect", reference], capture_output=True, check=False).returncode:
                with step(f"building {reference}", "built"):
                    self._run(docker_build(recipe, reference, Path(folder)))
        return Image(recipe.name, reference, None)

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CommandError(f"{' '.join(command)}:\n{done.stderr.strip()[-4000:]}")


def docker_build(recipe: recipes.Recipe, reference: str, context: Path) -> list[str]:
    """(pure) The command line that builds one image."""
    return [
        "docker",
        "build",
        f"--build-arg=BASE_IMAGE={PUBLIC_BASE}",
        *((f"--target={recipe.target}",) if recipe.target else ()),
        f"--file={context / recipe.dockerfile}",
        f"--tag={reference}",
        str(context),
    ]
