"""(pure) What do the workers of a pool say of their work, and what does it add up to?

A worker's `/status` is read here, and nothing in it is trusted: sizes, types and lengths are checked, and names that
come from messages are escaped and cut. A worker with an older library leaves fields out; they count as nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from celeriac_operator.bounded import Bounds, OutOfBoundsError, is_count, read_json
from celeriac_operator.printable import printable

REPLY_BYTES: Final = 2**18
"""Largest reply that is read. A worker with 500 running tasks of the longest names needs less."""

BOUNDS: Final = Bounds(size=REPLY_BYTES, depth=6)

LARGEST_COUNT: Final = 10**9

LONGEST_SECONDS: Final = 10 * 365 * 86400

LONGEST_ERROR: Final = 500
"""Characters of an error message that are kept."""

SAME_SECONDS: Final = 3.0
"""Difference up to which two computed start times of a task count as the same."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A worker that can be asked."""

    uid: str
    """The uid of its pod."""
    name: str
    url: str
    """URL of its `/status`."""
    is_ready: bool


@dataclass(frozen=True, kw_only=True)
class RunningTask:
    """A task that runs."""

    name: str
    id: str
    started_at: datetime
    limit_seconds: int | None
    """Its hard limit; None: it has none."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A task that failed."""

    task: str
    id: str
    exception: str


@dataclass(frozen=True, kw_only=True)
class WorkerReport:
    """What one worker replied."""

    pod: str
    at: datetime
    consuming: bool
    away_seconds: float | None
    """Since when it has not reached the broker; None: it is connected, or has not tried yet."""
    broker_error: str
    """Why it could not connect the last time."""
    slots: int
    busy: int
    oldest: RunningTask | None
    stuck: int
    stuck_task: RunningTask | None
    succeeded: int
    failed: int
    dead_letters: int
    out_of_memory: int
    """Counts of the last 15 minutes."""
    last_failure: Failure | None


@dataclass(frozen=True, kw_only=True)
class PoolWork:
    """The replies of a pool's workers, added up."""

    workers: int = 0
    """Workers that have replied."""
    slots: int = 0
    busy: int = 0
    oldest: RunningTask | None = None
    oldest_pod: str = ""
    stuck: int = 0
    stuck_task: RunningTask | None = None
    stuck_pod: str = ""
    succeeded: int = 0
    failed: int = 0
    dead_letters: int = 0
    out_of_memory: int = 0
    memory_pod: str = ""
    last_failure: Failure | None = None


def read(body: bytes, *, pod: str, now: datetime, before: WorkerReport | None = None) -> WorkerReport | None:
    """Read a reply; None: it is not a worker's.

    Args:
        body: the reply.
        pod: the worker's pod.
        now: when it replied.
        before: its previous report. A task that still runs keeps its start time, which is computed from its age.
    """
    try:
        said = read_json(body, BOUNDS)
    except OutOfBoundsError:
        return None
    if not isinstance(said, dict) or not is_count(said.get("busy"), largest=LARGEST_COUNT):
        return None
    work = said.get("work")
    work = work if isinstance(work, dict) else {}
    failures = work.get("failures")
    known = [task for task in (before.oldest, before.stuck_task) if task] if before else []
    return WorkerReport(
        pod=pod,
        at=now,
        consuming=said.get("consuming") is True,
        away_seconds=_seconds(said.get("broker_away_seconds")),
        broker_error=printable(_text(said.get("broker_error")), limit=LONGEST_ERROR),
        slots=_count(said.get("slots")),
        busy=said["busy"],
        oldest=_task(work.get("oldest"), now, known),
        stuck=_count(work.get("stuck")),
        stuck_task=_task(work.get("stuck_task"), now, known),
        succeeded=_count(work.get("succeeded")),
        failed=_count(work.get("failed")),
        dead_letters=_count(work.get("dead_letters")),
        out_of_memory=_count(work.get("out_of_memory")),
        last_failure=_failure(failures[0]) if isinstance(failures, list) and failures else None,
    )


def add_up(reports: Iterable[WorkerReport]) -> PoolWork:
    """Add up the replies of a pool's workers."""
    said = sorted(reports, key=lambda report: report.pod)
    running = [(report.oldest, report.pod) for report in said if report.oldest]
    stuck = [(report.stuck_task, report.pod) for report in said if report.stuck_task]
    oldest = min(running, key=lambda it: it[0].started_at, default=(None, ""))
    longest = min(stuck, key=lambda it: it[0].started_at, default=(None, ""))
    return PoolWork(
        workers=len(said),
        slots=sum(report.slots for report in said),
        busy=sum(report.busy for report in said),
        oldest=oldest[0],
        oldest_pod=oldest[1],
        stuck=sum(report.stuck for report in said),
        stuck_task=longest[0],
        stuck_pod=longest[1],
        succeeded=sum(report.succeeded for report in said),
        failed=sum(report.failed for report in said),
        dead_letters=sum(report.dead_letters for report in said),
        out_of_memory=sum(report.out_of_memory for report in said),
        memory_pod=next((report.pod for report in said if report.out_of_memory), ""),
        last_failure=next((report.last_failure for report in said if report.last_failure), None),
    )


def is_news(before: Mapping[str, WorkerReport], after: Mapping[str, WorkerReport]) -> bool:
    """Whether the replies of a pool's workers, by uid, differ in what a condition looks at, and not in numbers only."""
    return _signs(before) != _signs(after)


def _signs(reports: Mapping[str, WorkerReport]) -> tuple[object, ...]:
    work = add_up(reports.values())
    away = tuple(sorted((uid, report.away_seconds is not None) for uid, report in reports.items()))
    stuck = work.stuck > 0, work.stuck >= work.slots
    few = min(work.failed, 3), work.failed * 2 >= work.failed + work.succeeded
    return (*stuck, *few, work.dead_letters > 0, work.out_of_memory > 0, away, bool(reports))


def _task(said: Any, now: datetime, known: Iterable[RunningTask]) -> RunningTask | None:
    if not isinstance(said, dict):
        return None
    seconds, limit = _seconds(said.get("seconds")), _seconds(said.get("hard_limit_seconds"))
    if seconds is None:
        return None
    name, task_id = printable(_text(said.get("name"))), printable(_text(said.get("id")))
    started_at = (now - timedelta(seconds=seconds)).replace(microsecond=0)
    for task in known:
        if task.id == task_id and abs((task.started_at - started_at).total_seconds()) <= SAME_SECONDS:
            started_at = task.started_at
    return RunningTask(
        name=name, id=task_id, started_at=started_at, limit_seconds=None if limit is None else round(limit)
    )


def _failure(said: Any) -> Failure | None:
    if not isinstance(said, dict):
        return None
    return Failure(
        task=printable(_text(said.get("task"))),
        id=printable(_text(said.get("id"))),
        exception=printable(_text(said.get("exception"))),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int:
    return value if isinstance(value, int) and is_count(value, largest=LARGEST_COUNT) else 0


def _seconds(value: object) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= LONGEST_SECONDS else None  # type: ignore[operator, arg-type]  # is_number
