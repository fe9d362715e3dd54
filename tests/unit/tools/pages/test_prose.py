"""Pages, tools and tests use the terms of Celery, Redis and Kubernetes, and prose is wrapped at 120 characters."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

from localcluster.paths import CHECKOUT

PLAIN = {
    r"Python's (global )?lock": "the GIL",
    r"\b[Hh]ears? of\b|\b[Hh]eard of\b": "is notified of",
    r"\b[Ww]hoever\b": "everyone who, or name the person",
    r"\bwhose word\b|\bnearest word\b": "where a value comes from",
    r"\bso many seconds\b|\bat most so long\b": "name the quantity",
    r"\bhow dear\b": "costly",
    r"\bfarewells?\b": "last words",
    r"\bburied\b|\bburies\b": "dead-lettered, or reaped",
    r"\b(make|made|makes) up for\b": "corrects",
    r"\bnot a mishap\b": "a permanent refusal",
    r"\bis the cure\b": "helps",
    r"\bout of its books\b": "from its active set",
    r"\bWhat when\b": "What happens when",
}
FOLDERS = ("charts", "docs", "examples", "tests", "tools")
KINDS = {".md", ".py", ".yaml", ""}
FENCE = re.compile(r"^ {0,3}(```|~~~).*?^ {0,3}\1", re.DOTALL | re.MULTILINE)
# Written from docstrings of the programs, which are held to this elsewhere.
GENERATED = {"celeryworkerpools.yaml", "celeryworkerpool.md", "conditions.md", "labels.md", "operator-metrics.md"}


def files() -> list[Path]:
    found = [CHECKOUT / "Makefile", *CHECKOUT.glob("*.md"), *CHECKOUT.glob("[ow]*/README.md")]
    for folder in FOLDERS:
        found += [path for path in (CHECKOUT / folder).rglob("*") if path.is_file() and path.suffix in KINDS]
    return [
        path for path in found if path.name not in GENERATED and "golden" not in path.parts and path != Path(__file__)
    ]


@functools.cache
def texts() -> dict[str, str]:
    return {str(path.relative_to(CHECKOUT)): path.read_text(errors="ignore") for path in files()}


@pytest.mark.parametrize("wording", PLAIN, ids=PLAIN.values())
def test_a_wording_that_has_to_be_read_twice_is_used_nowhere(wording: str) -> None:
    pattern = re.compile(wording)
    assert [f"{name}: {match[0]}" for name, text in texts().items() for match in pattern.finditer(text)] == []


@pytest.mark.parametrize("page", [path for path in files() if path.suffix == ".md"], ids=lambda path: path.name)
def test_prose_is_wrapped(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    if page.name == "benchmarks.md":  # written by make bench
        return
    prose = [line for line in text.splitlines() if not re.match(r"\||#|!\[|<!--|    ", line)]
    assert [line for line in prose if len(line) > 120] == []
