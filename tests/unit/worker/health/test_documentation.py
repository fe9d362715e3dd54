from __future__ import annotations

import re
from pathlib import Path

from celeriac.health import rules

ROOT = Path(__file__).parents[4]
DOCUMENT = ROOT / "docs" / "health.md"
TESTS = ROOT / "tests" / "integration" / "worker" / "test_health.py"


def rows(heading: str) -> list[str]:
    """First cells of the table under a heading."""
    section = DOCUMENT.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")][1:]


def test_every_row_of_the_document_is_brought_about_and_every_test_is_documented() -> None:
    tested = set(re.findall(r'@row\("([^"]+)"\)', TESTS.read_text()))
    assert {*rows("When `/livez` fails"), *rows("When it must not")} == tested


def test_every_rule_has_its_row() -> None:
    # One row more: a process that does not answer breaks no rule, it asks none.
    assert len(rows("When `/livez` fails")) == len(rules.LIVENESS) + 1
