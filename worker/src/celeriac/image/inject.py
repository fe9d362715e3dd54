"""How is the library added to an image that does not contain it?

An init container that contains this library runs `python -m celeriac inject DIR`, where DIR is on a volume that it
shares with the worker's container. DIR then contains

    launch.py     the program that the worker's container starts
    celeriac      the same as a command, which starts the image's own Python
    lib           the library and the distributions it needs, importable: a link to the folder of one copy
    lib-<digest>  that folder

Celery is not copied: a worker runs the Celery of its application. Only pure Python is copied, because the image's
interpreter may be any version from 3.10 on. A new copy is made beside the current one and replaces it by a rename. So a
reader sees either the old or the new copy, and running the init container again is harmless.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from typing import Final

from celeriac.exits import Exit

LIBRARY: Final = "celeriac"
OF_THE_IMAGE: Final = frozenset({"celery", "kombu", "billiard", "vine", "amqp"})
"""Celery and the distributions that it needs: they are never copied."""
DEFAULT_PYTHON: Final = ("python3",)
"""How to start Python in an image about which nothing is known."""
LONGEST_SHEBANG: Final = 127
"""Kernels before 5.1 truncate the first line of a script to this many characters."""
UNDECLARED: Final = ("packaging",)
"""kombu's Redis transport imports it, but some versions of kombu do not declare it."""
NATIVE: Final = (".so", ".pyd", ".dylib")
_PACKAGE: Final = Path(__file__).parents[1]
"""The library's own folder."""


class InjectError(Exception):
    """The copy cannot be made; the text says what to do."""


def main(directory: str, python: Sequence[str] = DEFAULT_PYTHON) -> int:
    """Copy everything into `directory`; return the exit code."""
    try:
        copied = inject(Path(directory), python)
    except InjectError as error:
        print(f"celeriac: {error}", file=sys.stderr)
        return int(Exit.FAILURE)
    print(f"celeriac: {', '.join(copied)} -> {directory}/lib; start {directory}/launch.py worker")
    return int(Exit.OK)


def inject(directory: Path, python: Sequence[str] = DEFAULT_PYTHON) -> list[str]:
    """Copy the library and what it needs; return the names and versions that were copied.

    Args:
        directory: the destination.
        python: the command and arguments that start Python in the image.

    Raises:
        InjectError: a distribution is missing or is not pure Python, or the folder cannot be written.
    """
    distributions = [_find(name) for name in needed()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=directory) as scratch:
            fresh = Path(scratch) / "lib"
            fresh.mkdir()
            for distribution in distributions:
                copy(distribution, fresh)
            _swap_in(directory, fresh)
        _replace(directory / "launch.py", (_PACKAGE / "launch.py").read_bytes())
        _replace(directory / "celeriac", command(directory / "launch.py", python).encode(), mode=0o755)
    except OSError as error:
        raise InjectError(f"cannot write to {directory}: {error.strerror or error}: is it a writable volume?") from None
    return [f"{it.name} {it.version}" for it in distributions]


def command(launcher: Path, python: Sequence[str]) -> str:
    """Return a script that runs the launcher with the image's Python, wherever the script is mounted."""
    start = f"#!{python[0]}"
    if len(python) == 1 and python[0].startswith("/") and " " not in start and len(start) <= LONGEST_SHEBANG:
        # No shell is used, because a minimal image has none.
        return (
            f"{start}\nimport os, sys\nos.execv(sys.executable, [sys.executable, {str(launcher)!r}] + sys.argv[1:])\n"
        )
    return f'#!/bin/sh\nexec {shlex.join([*python, str(launcher)])} "$@"\n'


def needed(root: str = LIBRARY) -> list[str]:
    """Return the distributions to copy: the library and, transitively, what it requires here, without Celery."""
    found: dict[str, None] = {}
    waiting = [root, *UNDECLARED]
    while waiting:
        name = waiting.pop(0)
        if name in found or name in OF_THE_IMAGE:
            continue
        found[name] = None
        waiting += _requirements(_find(name))
    return list(found)


def copy(distribution: Distribution, target: Path) -> None:
    """Copy one distribution's files, including its metadata, into `target`.

    Raises:
        InjectError: it contains native code, or its files are not known.
    """
    files = distribution.files
    if files is None:
        raise InjectError(f"{distribution.name} does not list its files: install it with pip or uv")
    for file in files:
        if ".." in file.parts or "__pycache__" in file.parts or file.suffix in {".pyc", ".pth"}:
            continue  # scripts, caches, and links to a source folder
        if file.suffix in NATIVE:
            raise InjectError(f"{distribution.name} has native code ({file}), which fits one Python only")
        _copy_file(Path(str(file.locate())), target / file)
    if distribution.name == LIBRARY and not (target / LIBRARY).exists():
        _copy_source(target)  # an editable installation lists no sources


def _copy_source(target: Path) -> None:
    for file in sorted(_PACKAGE.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            _copy_file(file, target / LIBRARY / file.relative_to(_PACKAGE))


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _requirements(distribution: Distribution) -> Iterable[str]:
    """Return the names of the distributions that this one requires; conditional ones count if they are installed."""
    for line in distribution.requires or ():
        requirement, _, marker = line.partition(";")
        if "extra" in marker:
            continue
        name = re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~(@]", requirement.strip(), maxsplit=1)[0]).lower()
        if not marker or _is_installed(name):
            yield name


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _find(name: str) -> Distribution:
    try:
        return importlib.metadata.distribution(name)
    except PackageNotFoundError:
        raise InjectError(
            f"{name} is not installed here ({sys.executable}): run this in the worker image, or `pip install celeriac`"
        ) from None


def _swap_in(directory: Path, fresh: Path) -> None:
    folder = directory / f"lib-{_digest(fresh)}"
    if not folder.exists():
        _make_readable(fresh)
        fresh.rename(folder)
    link = directory / "lib"
    before = link.resolve() if link.is_symlink() else None
    scratch = fresh.parent / "link"
    scratch.symlink_to(folder.name)
    if link.exists() and before is None:
        raise InjectError(f"{link} is there and was not made by this command: name an empty folder")
    scratch.replace(link)
    if before is not None and before != folder.resolve():
        shutil.rmtree(before, ignore_errors=True)


def _make_readable(folder: Path) -> None:
    """Make the files readable for every user: the worker's container may run as another user than this one."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def _replace(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    descriptor, scratch = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    Path(scratch).chmod(mode)
    Path(scratch).replace(path)
