"""(pure) What has failed since the last message, when is the next one due, and what does it say?

A message costs a person's attention, so a flood is one message with its count: the first failure after a quiet time
is told after a moment in which the rest of a burst may join it, and from then on one message at most goes out in each
interval. Failures are added up by what happened and to which task. Both the number of groups and the length of each
line are bounded, so nothing that fails can fill the worker's memory or the channel.

The text holds an exception's type and its first line, never a task's arguments.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Final

MOST_GROUPS: Final = 20
"""Kinds of failure that a message tells apart; the rest is one line with its count."""
LONGEST_DETAIL: Final = 200
LONGEST_NAME: Final = 150

_SAID: Final = {
    "exception": "{task} failed",
    "hard-time-limit": "{task} was ended at its hard time limit",
    "worker-lost": "{task} lost its process",
    "dead-letter": "a message of {task} is in the dead-letter queue",
    "unknown-task": "{task} is not known to this worker, its message was thrown away",
    "decode-error": "a message of {task} could not be decoded",
    "invalid-message": "a message of {task} is none of Celery's",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often a worker may speak; times are on one clock, in seconds."""

    gather_seconds: float = 1.0
    """The first failure after a quiet time waits so long for others of the same burst."""
    interval_seconds: float = 60.0
    """Between two messages."""

    def due_at(self, first: float, last_sent: float | None) -> float:
        """When a message is due whose first failure came at `first`."""
        gathered = first + self.gather_seconds
        return gathered if last_sent is None else max(gathered, last_sent + self.interval_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Whose failures they are: it stands at the head of each message."""

    namespace: str
    pool: str
    pod: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Failures of one kind of one task: how many, and the last one's id and detail."""

    count: int
    task_id: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """What a message tells; it never changes, a failure that joins makes a new one."""

    groups: dict[tuple[str, str], Group]
    """By kind and task name, in the order in which they came."""
    others: int
    """Failures beyond `MOST_GROUPS`."""
    since: float
    """Unix time of the first failure."""

    @property
    def count(self) -> int:
        """All failures in it."""
        return self.others + sum(group.count for group in self.groups.values())


def failure(kind: str, task_name: str, task_id: str, detail: str, *, at: float) -> Digest:
    """One failure alone: its kind, its task, type and text of the exception, and Unix time in seconds."""
    group = Group(count=1, task_id=task_id, detail=_shortened(detail, LONGEST_DETAIL))
    return Digest(groups={(kind, _shortened(task_name, LONGEST_NAME)): group}, others=0, since=at)


def merge(earlier: Digest | None, later: Digest | None) -> Digest | None:
    """Both in one; `None` is one without any failure."""
    if earlier is None or later is None:
        return earlier or later
    groups, others = dict(earlier.groups), earlier.others + later.others
    for key, group in later.groups.items():
        there = groups.get(key)
        if there is not None:
            groups[key] = replace(group, count=there.count + group.count)
        elif len(groups) < MOST_GROUPS:
            groups[key] = group
        else:
            others += group.count
    return Digest(groups=groups, others=others, since=min(earlier.since, later.since))


def text(digest: Digest, origin: Origin) -> str:
    """The message, in Slack's markup."""
    since = datetime.fromtimestamp(digest.since, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    noun = "failure" if digest.count == 1 else "failures"
    head = f"*{origin.namespace}/{origin.pool}* on {origin.pod}: {digest.count} {noun} since {since}"
    return "\n".join([_escaped(head), *_lines(digest)])


def _lines(digest: Digest) -> Iterable[str]:
    for (kind, task), group in digest.groups.items():
        what = _SAID.get(kind, f"{{task}}: {kind}").format(task=task)
        times, last = (f"{group.count} × ", "last: ") if group.count > 1 else ("", "")
        yield _escaped(f"• {times}{what} ({last}{group.task_id}): {group.detail}")
    if digest.others:
        yield f"• {digest.others} × other tasks"


def _shortened(words: str, length: int) -> str:
    """One line, and not a long one."""
    line = " ".join(words[: 10 * length].split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def _escaped(words: str) -> str:
    """As Slack wants it; without this a task's name or error could call everybody in the channel (`<!channel>`)."""
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
