"""(pure) Where are a pool's messages in Redis, and what do its workers say of themselves?

The names are those of the worker library, which lists all of them with type and expiry. What only an application knows
(its `global_keyprefix`, its priorities) its workers write down in the layout record; a pool whose workers never ran
gets kombu's defaults.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Layout:
    """How an application's transport names its lists."""

    prefix: str = ""
    """Kombu's `global_keyprefix`, in front of lists and of the keys of deliveries."""
    steps: tuple[int, ...] = (0, 3, 6, 9)
    """Kombu's `priority_steps`: each queue has one list for each of them."""
    separator: str = "\x06\x16"
    """Between a queue's name and a step other than 0."""

    def lists(self, queue: str) -> tuple[str, ...]:
        """Names of a queue's lists."""
        return tuple(
            f"{self.prefix}{queue}{self.separator}{step}" if step else self.prefix + queue for step in self.steps
        )

    def held(self, queue: str) -> str:
        """Messages of a queue that workers have and that are not settled."""
        return f"{self.prefix}celeriac:held:{_tag(queue)}"


def workers_key(pool: str) -> str:
    """What the workers of a pool (`namespace/name`) say of themselves."""
    return f"celeriac:workers:{_tag(pool)}"


def layout_key(pool: str) -> str:
    """How the application of a pool (`namespace/name`) names its lists."""
    return f"celeriac:layout:{_tag(pool)}"


def _tag(name: str) -> str:
    return name if "{" in name else f"{{{name}}}"


def read_layout(record: bytes) -> Layout | None:
    """Read a layout record; `None` when it is none. Keys that a newer library has added are passed over."""
    try:
        said = json.loads(record)
        layout = Layout(prefix=said["prefix"], steps=tuple(said["prioritySteps"]), separator=said["separator"])
    except (ValueError, TypeError, KeyError):
        return None
    texts = isinstance(layout.prefix, str) and isinstance(layout.separator, str)
    return layout if texts and layout.steps and all(type(step) is int for step in layout.steps) else None


@dataclass(frozen=True)
class Workers:
    """What the living workers of a pool said, together."""

    slots: int = 0
    """Tasks that they can run at the same time."""
    busy: int = 0
    """Tasks that they ran when they last said so, a quarter of a lease ago at most."""
    scheduled: int = 0
    """Messages that they hold and whose time has not come."""
    service_seconds: float | None = None
    """Mean runtime of their recent tasks; `None` before the first."""


def add_up(entries: Iterable[bytes]) -> Workers:
    """Read the workers' entries. One that cannot be read counts for nothing."""
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
    """How long a message has been waiting to start, by what its headers say (`''`: nothing); `now` in Unix time.

    It does not wait before its ETA. The producer's clock is another machine's: a negative difference is none.
    """
    try:
        since = float(published)
    except ValueError:
        return None
    try:
        due = datetime.fromisoformat(eta)
        since = max(since, (due if due.tzinfo else due.replace(tzinfo=UTC)).timestamp())
    except ValueError:
        pass  # none, or one that the workers will not understand either
    return max(0.0, now - since)
