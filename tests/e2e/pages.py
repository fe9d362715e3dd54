"""A page of the documentation, as its reader uses it: files to write and commands to type.

A fenced block of yaml whose first line names a file is that file; the lines of a console block are commands; a comment
before a block says why the tests do not run it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from demo import install

BLOCK = re.compile(
    r"(?P<skipped><!-- not run by the tests: [^\n]+ -->\n)?^```(?P<language>\w+)(?: (?P<file>\S+))?\n(?P<body>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
PROMPT = "$ "


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block. `file` is the name that it is to be written under, or empty; `is_run` is false where a comment
    says why the tests leave it out."""

    language: str
    file: str
    body: str
    is_run: bool


def read(name: str) -> list[Block]:
    """The blocks of a page of docs/."""
    text = (install.ROOT / "docs" / name).read_text()
    return [
        Block(language=it["language"], file=it["file"] or "", body=it["body"], is_run=not it["skipped"])
        for it in BLOCK.finditer(text)
    ]


def console_lines(blocks: Iterable[Block], *, is_run: bool = True) -> list[str]:
    """Every line of the console blocks that are run, or of those that are not."""
    return [
        line
        for block in blocks
        if block.language == "console" and block.is_run == is_run
        for line in block.body.splitlines()
    ]


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
