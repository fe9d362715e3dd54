"""How are the promises measured, one beside the other, and shown in the table's order?"""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from demo.programme import Row
from demo.scenarios import Evidence
from demo.shop import Shop


@dataclass(frozen=True)
class Outcome:
    """The result of one row."""

    row: Row
    seconds: float
    evidence: Evidence | None = None
    problem: str | None = None  # why the promise does not hold, or why it could not be measured
    diagnosis: str = ""  # what a person needs then, gathered at once

    @property
    def holds(self) -> bool:
        """Whether it was measured, and as promised."""
        return self.problem is None

    def document(self) -> dict[str, Any]:
        """Return what a script reads of it."""
        facts = asdict(self.evidence) if is_dataclass(self.evidence) and not isinstance(self.evidence, type) else None
        return {
            "name": self.row.name,
            "title": self.row.title,
            "holds": self.holds,
            "seconds": round(self.seconds, 2),
            "evidence": self.evidence.sentence() if self.evidence else None,
            "facts": facts,
            "problem": self.problem,
        }


def measure(row: Row, shop: Shop, diagnose: Callable[[], str]) -> Outcome:
    """Run one row. An error becomes its outcome, and the other rows continue."""
    began = time.monotonic()
    evidence: Evidence | None = None
    try:
        evidence = row.run(shop)
        problem = evidence.shortfall()
    except Exception as error:  # a scenario that could not measure: its error is the row's outcome
        problem = f"{type(error).__name__}: {error}"
        if not type(error).__module__.startswith("demo"):
            problem += "\n" + "".join(traceback.format_tb(error.__traceback__)[-2:]).rstrip()
    seconds = time.monotonic() - began
    return Outcome(row, seconds, evidence, problem, diagnose() if problem else "")


def run(
    stages: Iterable[Sequence[Sequence[Row]]],
    shop: Shop,
    diagnose: Callable[[], str],
    show: Callable[[Outcome], None],
) -> list[Outcome]:
    """Run all stages and show each outcome as soon as it is there.

    The tracks run in daemon threads, so that Ctrl-C ends the program at once instead of waiting for a time-out.
    """
    outcomes: list[Outcome] = []
    for stage in stages:
        arrived: queue.Queue[Outcome] = queue.Queue()
        for track in stage:
            threading.Thread(target=run_track, args=(track, shop, diagnose, arrived), daemon=True).start()
        for _ in range(sum(len(track) for track in stage)):
            outcome = arrived.get()
            outcomes.append(outcome)
            show(outcome)
    return outcomes


def run_track(track: Sequence[Row], shop: Shop, diagnose: Callable[[], str], arrived: queue.Queue[Outcome]) -> None:
    """Run the rows of one track one after the other."""
    for row in track:
        arrived.put(measure(row, shop, diagnose))
