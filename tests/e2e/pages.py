"""What the cluster tests add to a page: the images that were built here, and a shell that runs its commands."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.pages import PROMPT, Block, console_lines, read

from demo import install

__all__ = ["PROMPT", "Block", "console_lines", "read", "run", "with_images", "write_files"]


def with_images(text: str, images: Mapping[str, str]) -> str:
    """What a reader writes instead of the pages' images: those that were built here."""
    for repository in ("operator", "worker"):
        name, tag = install.split(images[f"celeriac-{repository}"])
        text = text.replace(f"registry.example/me/celeriac-{repository}", f"{name}, tag: {tag}")
    return text.replace("registry.example/me/my-app:1.0", images["celeriac-demo-plain"])


def write_files(blocks: Iterable[Block], folder: Path, images: Mapping[str, str]) -> None:
    """Make the folder that the reader works in: a checkout, and the files that the page tells them to write."""
    for name in ("charts", "crds"):
        (folder / name).symlink_to(install.ROOT / name)
    for block in blocks:
        if block.file:
            (folder / block.file).write_text(with_images(block.body, images))


def run(lines: Iterable[str], folder: Path, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Type one command after the other; yields each with what it printed. Each has to end well."""
    for line in lines:
        command = line.removeprefix(PROMPT)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=dict(environment),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        yield command, done.stdout
