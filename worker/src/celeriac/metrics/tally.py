"""(pure) What are the sums of all counts so far?

The tally is called for each count in the worker's parent process and read at each scrape, from several threads. A new
count is only stored, because the thread that counts has a task to run. Later many counts are added up together, under
one lock. Names of tasks and queues come from messages, so their number is limited: the first 100 of each are counted
separately and the rest as `other`, so that no producer can make the page grow without limit.
"""

from __future__ import annotations

import contextlib
import threading
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from celeriac.counts import Count, Timing

NAMES_KEPT_APART: Final = 100
BOUNDED_LABELS: Final = frozenset({"name", "queue"})
"""Labels whose values come from messages."""
OTHER: Final = "other"
ADDED_UP_TOGETHER: Final = 500
"""Number of counts that are stored before they are added up. Adding them up takes less than a millisecond."""

Labels = tuple[str, ...]


@dataclass(slots=True)
class Distribution:
    """All durations of one kind so far."""

    buckets: list[int]
    """Number of durations in each bucket. The last bucket has no upper bound."""
    sum_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All sums at one moment."""

    counts: dict[str, dict[Labels, float]] = field(default_factory=dict)
    timings: dict[str, dict[Labels, Distribution]] = field(default_factory=dict)


class Tally:
    """The sums of one worker. All methods may be called from any thread."""

    def __init__(self, *, names: int = NAMES_KEPT_APART) -> None:
        self.names = names
        self._lock = threading.Lock()
        self._new: deque[tuple[Count | Timing, float, Labels]] = deque()
        self._known: dict[str, set[str]] = {}
        self._counts: dict[str, dict[Labels, float]] = {}
        self._timings: dict[str, dict[Labels, Distribution]] = {}

    def receive(self, what: Count | Timing, value: float, labels: Labels) -> None:
        """Store one count."""
        self._new.append((what, value, labels))
        if len(self._new) >= ADDED_UP_TOGETHER:
            with self._lock:
                self._add_up()

    def snapshot(self) -> Snapshot:
        """A copy of all sums."""
        with self._lock:
            self._add_up()
            return Snapshot(
                {name: dict(rows) for name, rows in self._counts.items()},
                {
                    name: {labels: Distribution(list(it.buckets), it.sum_seconds) for labels, it in rows.items()}
                    for name, rows in self._timings.items()
                },
            )

    def _add_up(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._add(*self._new.popleft())

    def _add(self, what: Count | Timing, value: float, labels: Labels) -> None:
        if len(labels) != len(what.labels):
            return  # sent by a child with another version of the code
        if isinstance(what, Count):
            rows = self._counts.setdefault(what.name, {})
            if labels not in rows:  # existing labels are within the limit
                labels = self._bounded(what, labels)
            rows[labels] = rows.get(labels, 0.0) + value
            return
        distributions = self._timings.setdefault(what.name, {})
        found = distributions.get(labels)
        if found is None:
            labels = self._bounded(what, labels)
            found = distributions.setdefault(labels, Distribution([0] * (len(what.bounds) + 1)))
        found.buckets[bisect_left(what.bounds, value)] += 1
        found.sum_seconds += value

    def _bounded(self, what: Count | Timing, labels: Labels) -> Labels:
        if BOUNDED_LABELS.isdisjoint(what.labels):
            return labels
        return tuple(
            self._known_or_other(label, value) if label in BOUNDED_LABELS else value
            for label, value in zip(what.labels, labels, strict=True)
        )

    def _known_or_other(self, label: str, value: str) -> str:
        known = self._known.setdefault(label, set())
        if value in known:
            return value
        if len(known) >= self.names:
            return OTHER
        known.add(value)
        return value
