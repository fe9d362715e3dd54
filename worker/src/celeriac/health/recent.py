"""(pure) What has ended in this worker in the last 15 minutes?

`/status` shows it, and the operator adds it up for a pool. The window slides in steps of `STEP_SECONDS`, so that a
worker that ends a million tasks keeps sixty numbers of each kind. All times are seconds on the monotonic clock, and
`now` is an argument. The methods may be called from any thread.
"""

from __future__ import annotations

import enum
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from celeriac.printable import printable

WINDOW_SECONDS: Final = 900
STEP_SECONDS: Final = 15
MOST_FAILURES: Final = 20
"""Failures that are kept with their names. Older ones are only counted."""


class End(str, enum.Enum):
    """What is counted."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The task raised an exception, exceeded its hard limit, or lost its process."""
    DEAD_LETTER = "dead_letters"
    OUT_OF_MEMORY = "out_of_memory"
    """The kernel killed a process of this container for its memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedTask:
    """A failure with its names, each cut to a length that can be shown."""

    task: str
    id: str
    exception: str
    seconds_ago: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentWork:
    """The last 15 minutes, seen at one moment."""

    window_seconds: int = WINDOW_SECONDS
    succeeded: int = 0
    failed: int = 0
    dead_letters: int = 0
    out_of_memory: int = 0
    failures: tuple[FailedTask, ...] = ()
    """The last failures, newest first."""


@dataclass(slots=True)
class _Step:
    number: int
    counts: dict[End, int] = field(default_factory=dict)


class Recent:
    """A sliding window over the tasks that have ended."""

    def __init__(self) -> None:
        self._steps: deque[_Step] = deque()
        self._failures: deque[tuple[float, str, str, str]] = deque(maxlen=MOST_FAILURES)
        self._lock = threading.Lock()

    def count(self, end: End, *, now: float, times: int = 1) -> None:
        """Count one thing that has ended, or several."""
        number = int(now // STEP_SECONDS)
        with self._lock:
            if not self._steps or self._steps[-1].number < number:
                self._steps.append(_Step(number))
                self._forget(number)
            counts = self._steps[-1].counts
            counts[end] = counts.get(end, 0) + times

    def fail(self, task: object, task_id: object, exception: str, *, now: float) -> None:
        """Count a failed task, and keep its names."""
        self.count(End.FAILED, now=now)
        self._failures.append((now, printable(task), printable(task_id), printable(exception)))

    def at(self, now: float) -> RecentWork:
        """What ended in the window that ends now."""
        with self._lock:
            self._forget(int(now // STEP_SECONDS))
            sums = {end: sum(step.counts.get(end, 0) for step in self._steps) for end in End}
            failures = list(self._failures)
        return RecentWork(
            **{end.value: number for end, number in sums.items()},
            failures=tuple(
                FailedTask(task=task, id=task_id, exception=exception, seconds_ago=now - at)
                for at, task, task_id, exception in reversed(failures)
                if now - at <= WINDOW_SECONDS
            ),
        )

    def _forget(self, number: int) -> None:
        while self._steps and self._steps[0].number <= number - WINDOW_SECONDS // STEP_SECONDS:
            self._steps.popleft()
