"""A page of the documentation, as its reader uses it: files to write and commands to type.

A fenced block whose first line names a file is that file; the lines of a console block are commands; a comment before a
block says why the tests do not run it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
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
    return [
        Block(language=it["language"], file=it["file"] or "", body=it["body"], is_run=not it["skipped"])
        for it in BLOCK.finditer((DOCS / name).read_text())
    ]


def console_lines(blocks: Iterable[Block], *, is_run: bool = True) -> list[str]:
    """Every line of the console blocks that are run, or of those that are not."""
    return [
        line
        for block in blocks
        if block.language == "console" and block.is_run == is_run
        for line in block.body.splitlines()
    ]
