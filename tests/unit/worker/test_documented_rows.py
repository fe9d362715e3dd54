"""Pages whose tables promise something: each row has a test, and each test that names a row has one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from celeriac.health import rules

ROOT = Path(__file__).parents[3]
TESTS = ROOT / "tests" / "integration" / "worker" / "observability"


def rows(page: str, heading: str) -> set[str]:
    """First cells of the table under a heading."""
    section = (ROOT / "docs" / "operations" / page).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return {line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")} - {
        "reason",
        "situation",
        "what",
        "what happens",
    }


@pytest.mark.parametrize(
    ("page", "headings", "tests"),
    [
        pytest.param("health.md", ("When `/livez` fails", "When it does not fail"), "test_health.py", id="health"),
        pytest.param(
            "notifications.md",
            ("What is reported", "When Slack is not available"),
            "test_notifications.py",
            id="notifications",
        ),
        pytest.param("sentry.md", ("What is reported, once", "What is not reported"), "test_sentry.py", id="Sentry"),
    ],
)
def test_every_row_is_brought_about_and_every_test_has_its_row(
    page: str, headings: tuple[str, ...], tests: str
) -> None:
    tested = set(re.findall(r'@row\("([^"]+)"\)', (TESTS / tests).read_text()))
    documented = set().union(*(rows(page, heading) for heading in headings))
    assert documented == tested


def test_every_rule_of_the_liveness_probe_has_its_row() -> None:
    # One row more: a process that does not answer breaks no rule, it asks none.
    assert len(rows("health.md", "When `/livez` fails")) == len(rules.LIVENESS) + 1
