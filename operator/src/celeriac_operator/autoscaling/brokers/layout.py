"""(pure) Which Redis keys hold a pool's messages, and what do its workers report?

The keys are those of the worker library, which lists them all with type and expiry. What only the application knows
(its `global_keyprefix` and priorities), its workers store in the layout record; for a pool whose workers never ran,
kombu's defaults are assumed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime


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
        said = json.loads(record)
        layout = Layout(prefix=said["prefix"], steps=tuple(said["prioritySteps"]), separator=said["separator"])
    except (ValueError, TypeError, KeyError):
        return None
    texts = isinstance(layout.prefix, str) and isinstance(layout.separator, str)
    return layout if texts and layout.steps and all(type(step) is int for step in layout.steps) else None


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


def add_up(entries: Iterable[bytes]) -> Workers:
    """Add up the workers' reports. A report that cannot be read is ignored."""
    slots = busy = scheduled = tasks = 0
    seconds = 0.0
    for entry in entries:
        said = _read_entry(entry)
        slots += _count(said, "slots")
        busy += _count(said, "busy")
        scheduled += _count(said, "scheduled")
        recent, mean = _count(said, "recentTasks"), said.get("serviceSeconds")
        if recent and isinstance(mean, (int, float)) and mean >= 0:
            tasks += recent
            seconds += recent * mean
    return Workers(slots, busy, scheduled, seconds / tasks if tasks else None)


def _read_entry(entry: bytes) -> Mapping[str, object]:
    try:
        said = json.loads(entry)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _count(said: Mapping[str, object], key: str) -> int:
    value = said.get(key)
    return value if type(value) is int and value > 0 else 0


def waited_seconds(published: str, eta: str, *, now: float) -> float | None:
    """Seconds that a message has been waiting to start, computed from its headers (`''`: absent); `now` is Unix time.

    The time before its ETA does not count. The producer's clock may differ, so a negative difference counts as 0.
    """
    try:
        since = float(published)
    except ValueError:
        return None
    try:
        due = datetime.fromisoformat(eta)
        since = max(since, (due if due.tzinfo else due.replace(tzinfo=UTC)).timestamp())
    except ValueError:
        pass  # no ETA, or one that the workers cannot read either
    return max(0.0, now - since)
