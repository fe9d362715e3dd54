"""(pure) What has failed since the last message, when is the next one due, and what does it say?

A message costs a person's attention, so a burst of failures becomes one message with a count. The first failure after a
quiet time waits a moment for the rest of its burst. After that, at most one message is sent in each interval. Failures
are counted by kind and task. The number of groups and the length of each line are limited, so failures cannot fill the
worker's memory or the channel.

The text contains the type and the text of an exception, but never a task's arguments. Everything that comes from a
message (the task's name, its ID, the exception) is cut, kept on one line, and put into a code span. Slack, Mattermost
and Rocket.Chat show a code span unchanged: it notifies nobody (`@channel`), creates no link and loads no image.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Final

MOST_GROUPS: Final = 20
"""Maximum number of groups that a message lists. The rest is one line with a count."""
LONGEST_DETAIL: Final = 200
LONGEST_NAME: Final = 150
LONGEST_ID: Final = 50
"""Lengths are counted in characters of the message, where `&` counts as five (`&amp;`)."""

_SAID: Final = {
    "exception": "{task} failed",
    "hard-time-limit": "{task} was ended at its hard time limit",
    "worker-lost": "{task} lost its process",
    "dead-letter": "a message of {task} is in the dead-letter queue",
    "unknown-task": "{task} is not known to this worker, its message was discarded",
    "decode-error": "a message of {task} could not be decoded",
    "invalid-message": "a message of {task} is not one of Celery's",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePace:
    """How often a worker may send a message. Times are on the same clock, in seconds."""

    gather_seconds: float = 1.0
    """How long the first failure after a quiet time waits for others of the same burst."""
    interval_seconds: float = 60.0
    """Minimum time between two messages."""

    def due_at(self, first: float, last_sent: float | None) -> float:
        """When a message is due whose first failure happened at `first`."""
        gathered = first + self.gather_seconds
        return gathered if last_sent is None else max(gathered, last_sent + self.interval_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The worker that reports the failures. It is named at the start of each message."""

    namespace: str
    pool: str
    pod: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Failures of one kind and one task: their number, and the ID and detail of the last one."""

    count: int
    task_id: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """The content of a message. It is immutable: adding a failure creates a new digest."""

    groups: dict[tuple[str, str], Group]
    """By kind and task name, in the order of their first failure."""
    others: int
    """Failures beyond `MOST_GROUPS`."""
    since: float
    """Unix time of the first failure."""
    refused: int = 0
    """Failures whose message was refused because of its content."""

    @property
    def count(self) -> int:
        """Number of all failures in the digest."""
        return self.others + self.refused + sum(group.count for group in self.groups.values())

    def without_details(self) -> Digest:
        """Only the number of failures, for use after a message with the details was refused."""
        return Digest(groups={}, others=0, refused=self.count, since=self.since)


def failure(kind: str, task_name: str, task_id: str, detail: str, *, at: float) -> Digest:
    """A digest of one failure: its kind, its task, type and text of the exception, and Unix time in seconds."""
    group = Group(count=1, task_id=shown(task_id, LONGEST_ID), detail=shown(detail, LONGEST_DETAIL))
    return Digest(groups={(kind, shown(task_name, LONGEST_NAME)): group}, others=0, since=at)


def merge(earlier: Digest | None, later: Digest | None) -> Digest | None:
    """Merge two digests. `None` stands for a digest without failures."""
    if earlier is None or later is None:
        return earlier or later
    groups, others = dict(earlier.groups), earlier.others + later.others
    refused = earlier.refused + later.refused
    for key, group in later.groups.items():
        there = groups.get(key)
        if there is not None:
            groups[key] = replace(group, count=there.count + group.count)
        elif len(groups) < MOST_GROUPS:
            groups[key] = group
        else:
            others += group.count
    return Digest(groups=groups, others=others, refused=refused, since=min(earlier.since, later.since))


def text(digest: Digest, origin: Origin) -> str:
    """The message, in Slack's markup."""
    since = datetime.fromtimestamp(digest.since, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    noun = "failure" if digest.count == 1 else "failures"
    pool, pod = shown(f"{origin.namespace}/{origin.pool}", LONGEST_NAME), shown(origin.pod, LONGEST_NAME)
    return "\n".join([f"*{pool}* on {pod}: {digest.count} {noun} since {since}", *_lines(digest)])


def _lines(digest: Digest) -> Iterable[str]:
    for (kind, task), group in digest.groups.items():
        what = _SAID.get(kind, f"{{task}}: {kind}").format(task=f"`{task}`")
        times, last = (f"{group.count} × ", "last: ") if group.count > 1 else ("", "")
        yield f"• {times}{what} ({last}`{group.task_id}`): `{group.detail}`"
    if digest.others:
        yield f"• {digest.others} × other tasks"
    if digest.refused:
        yield f"• {digest.refused} × in a message that was refused; the worker's log names them"


def shown(text: str, length: int) -> str:
    """`text` for a code span: on one line, at most `length` characters long, and printable."""
    line = " ".join(text[: 10 * length].split())
    pieces = list(map(_shown, line[: length + 1]))
    if not pieces:
        return "-"
    if len(line) <= length and sum(map(len, pieces)) <= length:
        return "".join(pieces)
    while sum(map(len, pieces)) > length - 1:
        pieces.pop()
    return "".join(pieces) + "…"


def _shown(character: str) -> str:
    if character in _MARKUP:
        return _MARKUP[character]
    # Control characters, lone surrogates, and characters that change the direction of the text are escaped.
    return character if character.isprintable() else ascii(character)[1:-1]


_MARKUP: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "`": "'"}
"""Characters that must be escaped for Slack, and the character that ends a code span."""
