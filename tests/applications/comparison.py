"""(pure) Does an application behave with our workers as with stock Celery?

Each step of an application has an outcome in words, without times or ids. Outcomes of both sides are compared; a
difference is a fault, unless it is one of those that the pages describe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

NOT_REACHED = "not reached"
FAILED = "failed"
"""How the steps of a side ended, where one of them raised an error."""
NOT_THERE = (NOT_REACHED, FAILED)


class Verdict(StrEnum):
    """What a comparison of one step says."""

    SAME = "same"
    BETTER = "better"
    """Ours differs, on purpose, and a page says so."""
    FAULT = "FAULT"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step on one side: what was done, what came of it, and how long it took in seconds."""

    name: str
    outcome: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An outcome of ours that is not stock's, and the page that says so."""

    stock: str
    ours: str
    page: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One step of an application on both sides."""

    application: str
    step: str
    stock: str
    ours: str
    verdict: Verdict
    stock_seconds: float
    our_seconds: float


def compare(
    application: str, stock: Sequence[Step], ours: Sequence[Step], different: Mapping[str, Difference]
) -> list[Row]:
    """The rows of one application.

    Args:
        different: By step, the difference that is on purpose.
    """
    by_name = {step.name: step for step in ours}
    names = [step.name for step in stock] + [step.name for step in ours if step.name not in {it.name for it in stock}]
    stocks = {step.name: step for step in stock}
    missing = Step(name="", outcome=NOT_REACHED, seconds=0.0)
    rows = []
    for name in names:
        theirs, mine = stocks.get(name, missing), by_name.get(name, missing)
        rows.append(
            Row(
                application=application,
                step=name,
                stock=theirs.outcome,
                ours=mine.outcome,
                verdict=judge(theirs.outcome, mine.outcome, different.get(name)),
                stock_seconds=round(theirs.seconds, 1),
                our_seconds=round(mine.seconds, 1),
            )
        )
    return rows


def judge(stock: str, ours: str, different: Difference | None) -> Verdict:
    """The verdict on one step. An expected difference has to be there: one that is gone is a fault of the page."""
    if different is not None:
        return Verdict.BETTER if (stock, ours) == (different.stock, different.ours) else Verdict.FAULT
    return Verdict.SAME if stock == ours and ours not in NOT_THERE else Verdict.FAULT


def table(rows: Iterable[Row]) -> str:
    """The rows for a terminal, and for a page."""
    head = ("application", "step", "stock Celery", "Celeriac", "s", "s", "verdict")
    lines = [
        (it.application, it.step, it.stock, it.ours, f"{it.stock_seconds:.1f}", f"{it.our_seconds:.1f}", it.verdict)
        for it in rows
    ]
    widths = [max(len(str(line[at])) for line in [head, *lines]) for at in range(len(head))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        "| " + " | ".join(str(cell).ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in [head, rule, *lines]
    )
