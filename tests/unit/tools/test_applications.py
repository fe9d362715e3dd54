"""What `make test-applications` says of two outcomes, and what it installs."""

from __future__ import annotations

import re

import pytest
from tests.applications.comparison import Difference, Step, Verdict, compare, table

from localcluster.paths import CHECKOUT

REQUIREMENTS = CHECKOUT / "tests" / "applications" / "requirements"
BETTER = Difference(stock="lost", ours="runs again", page="docs/guides/delivery.md")


def step(outcome: str, *, name: str = "a kill") -> Step:
    return Step(name=name, outcome=outcome, seconds=1.25)


@pytest.mark.parametrize(
    ("stock", "ours", "different", "verdict"),
    [
        pytest.param("done", "done", None, Verdict.SAME, id="equal outcomes"),
        pytest.param("done", "lost", None, Verdict.FAULT, id="a difference that no page describes"),
        pytest.param("lost", "runs again", BETTER, Verdict.BETTER, id="a difference that a page describes"),
        pytest.param("lost", "lost", BETTER, Verdict.FAULT, id="a difference of a page that is not there"),
    ],
)
def test_an_outcome_is_judged(stock: str, ours: str, different: Difference | None, verdict: Verdict) -> None:
    (row,) = compare("airflow", [step(stock)], [step(ours)], {"a kill": different} if different else {})
    assert row.verdict is verdict


def test_a_step_that_one_side_does_not_reach_is_a_fault() -> None:
    first, second = step("done", name="first"), step("done", name="second")
    rows = compare("airflow", [first, second], [first], {})
    assert [(row.step, row.ours, row.verdict) for row in rows] == [
        ("first", "done", Verdict.SAME),
        ("second", "not reached", Verdict.FAULT),
    ]
    assert [row.verdict for row in compare("airflow", [first], [first, second], {})][1] is Verdict.FAULT


def test_an_application_that_fails_on_both_sides_is_a_fault() -> None:
    (row,) = compare("airflow", [step("failed", name="end")], [step("failed", name="end")], {})
    assert row.verdict is Verdict.FAULT


def test_the_table_has_a_line_for_each_step() -> None:
    lines = table(compare("airflow", [step("done")], [step("done")], {})).splitlines()
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == [
        *("airflow", "a kill", "done", "done", "1.2", "1.2", "same"),
    ]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize("lock", sorted(REQUIREMENTS.glob("*.lock")), ids=lambda lock: lock.stem)
def test_what_is_installed_is_pinned_with_hashes_and_without_addresses(lock) -> None:
    text = lock.read_text()
    pinned = re.findall(r"^[a-z0-9][\w.-]*(?:\[[\w,-]+\])?==\S+.*\\$", text, re.MULTILINE)
    assert len(pinned) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE))
    assert "--hash=sha256:" in text
    assert not re.search(r"https?://", text)
    assert lock.with_suffix(".in").exists()
