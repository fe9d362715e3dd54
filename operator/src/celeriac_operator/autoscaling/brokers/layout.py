"""(pure) Which Redis keys hold a pool's messages, and what do its workers report?

The keys are those of the worker library, which lists them all with type and expiry. What only the application knows
(its `global_keyprefix` and priorities), its workers store in the layout record; for a pool whose workers never ran,
kombu's defaults are assumed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from celeriac_operator import bounded
from celeriac_operator.bounded import Bounds, OutOfBoundsError, is_count

RECORD: Final = Bounds(size=4096, depth=4)
"""Bounds of a layout record, which has three short fields and room for those of later versions."""

REPORT: Final = Bounds(size=1024, depth=4)
"""Bounds of one worker's report, which has five numbers."""

MAX_STEPS: Final = 32
"""Most priorities of a queue. Each is one more list to read, for each queue; Celery's default is 4, and a priority
is a number from 0 to 9 in kombu."""

MAX_PRIORITY: Final = 255
MAX_AFFIX: Final = 128
"""Longest prefix and longest separator, in characters."""

MAX_SLOTS: Final = 100_000
"""Largest numbers of slots, running tasks and held messages in the report of one worker."""

MAX_RECENT: Final = 10**9
MAX_SERVICE_SECONDS: Final = 10.0**8
"""Longest mean runtime: three years."""

MAX_TIME_TEXT: Final = 40
"""Longest text of a time, in characters."""


@dataclass(frozen=True)
class Layout:
    """How an application's transport names its Redis lists."""

    prefix: str = ""
    """kombu's `global_keyprefix`, the prefix of lists and of delivery keys."""
    steps: tuple[int, ...] = (0, 3, 6, 9)
    """kombu's `priority_steps`: each queue has one list for each step."""
    separator: str = "\x06\x16"
    """Separates the queue's name from a step other than 0."""

    def lists(self, queue: str) -> tuple[str, ...]:
        """Names of the lists of a queue."""
        return tuple(
            f"{self.prefix}{queue}{self.separator}{step}" if step else self.prefix + queue for step in self.steps
        )

    def held(self, queue: str) -> str:
        """Key of the messages of a queue that workers hold."""
        return f"{self.prefix}celeriac:held:{_tag(queue)}"


def workers_key(pool: str) -> str:
    """Key of the reports of a pool's workers; `pool` is `namespace/name`."""
    return f"celeriac:workers:{_tag(pool)}"


def layout_key(pool: str) -> str:
    """Key of a pool's layout record; `pool` is `namespace/name`."""
    return f"celeriac:layout:{_tag(pool)}"


def _tag(name: str) -> str:
    return name if "{" in name else f"{{{name}}}"


def read_layout(record: bytes) -> Layout | None:
    """Read a layout record; `None`: it is not valid. Keys that a newer library has added are ignored."""
    try:
        said = bounded.read_json(record, RECORD)
    except OutOfBoundsError:
        return None
    if not isinstance(said, dict):
        return None
    prefix, steps, separator = (said.get(key) for key in ("prefix", "prioritySteps", "separator"))
    if not (_is_affix(prefix) and _is_affix(separator) and isinstance(steps, list) and 1 <= len(steps) <= MAX_STEPS):
        return None
    if len(set(map(str, steps))) < len(steps) or not all(is_count(step, largest=MAX_PRIORITY) for step in steps):
        return None
    return Layout(prefix=str(prefix), steps=tuple(steps), separator=str(separator))


def _is_affix(value: object) -> bool:
    # A lone surrogate (JSON can escape one) cannot be sent to Redis.
    return isinstance(value, str) and len(value) <= MAX_AFFIX and not any("\ud800" <= one <= "\udfff" for one in value)


@dataclass(frozen=True)
class Workers:
    """The reports of a pool's living workers, added up."""

    slots: int = 0
    """Tasks that the workers can run at the same time."""
    busy: int = 0
    """Tasks that they ran at their last report, at most a quarter of a lease ago."""
    scheduled: int = 0
    """Messages that they hold and whose ETA is in the future."""
    service_seconds: float | None = None
    """Mean runtime of their recent tasks in seconds; `None`: none was measured yet."""


@dataclass
class Adding:
    """The sum of workers' reports, one by one."""

    slots: int = 0
    busy: int = 0
    scheduled: int = 0
    tasks: int = 0
    seconds: float = 0.0

    def add(self, report: bytes) -> None:
        """Add a report. One that cannot be right, or a number in it, is ignored."""
        said = _read_report(report)
        self.slots += _count(said, "slots", MAX_SLOTS)
        self.busy += _count(said, "busy", MAX_SLOTS)
        self.scheduled += _count(said, "scheduled", MAX_SLOTS)
        recent, mean = _count(said, "recentTasks", MAX_RECENT), said.get("serviceSeconds")
        if recent and isinstance(mean, (int, float)) and 0 <= mean <= MAX_SERVICE_SECONDS:
            self.tasks += recent
            self.seconds += recent * mean

    @property
    def workers(self) -> Workers:
        """The sum so far."""
        return Workers(self.slots, self.busy, self.scheduled, self.seconds / self.tasks if self.tasks else None)


def add_up(reports: Iterable[bytes]) -> Workers:
    """Add up the workers' reports."""
    adding = Adding()
    for report in reports:
        adding.add(report)
    return adding.workers


def _read_report(report: bytes) -> Mapping[str, object]:
    try:
        said = bounded.read_json(report, REPORT)
    except OutOfBoundsError:
        return {}
    return said if isinstance(said, dict) else {}


def _count(said: Mapping[str, object], key: str, largest: int) -> int:
    value = said.get(key)
    return value if isinstance(value, int) and is_count(value, largest=largest) else 0


def waited_seconds(published: str, eta: str, *, now: float) -> float | None:
    """Seconds that a message has been waiting to start, computed from its headers (`''`: absent); `now` is Unix time.

    The time before its ETA does not count. The producer's clock may differ, so a negative difference counts as 0.
    """
    if len(published) > MAX_TIME_TEXT:
        return None
    try:
        since = float(published)
    except ValueError:
        return None
    if not math.isfinite(since):
        return None
    try:
        due = datetime.fromisoformat(eta[: MAX_TIME_TEXT + 1])
        since = max(since, (due if due.tzinfo else due.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        pass  # no ETA, or one that the workers cannot read either
    return max(0.0, now - since)
