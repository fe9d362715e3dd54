"""(pure) Do the workers get their work done?

A pool is Ready when its workers consume; whether their tasks succeed is another question. The rules look at what the
workers reply, and at how their containers ended. A rule that has found a problem finds it again in each pass until it
is over, so the stored problems are all that is needed to record each of them once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from celeriac_operator.decide import work
from celeriac_operator.decide.observed import Pod
from celeriac_operator.decide.work import PoolWork
from celeriac_operator.reasons import Type, WorkReason
from celeriac_operator.resource import Problem, RunningTask, Work
from celeriac_operator.status.case import Case
from celeriac_operator.status.conditions.statement import ConditionStatus, Statement

WINDOW_SECONDS: Final = 900
"""Time for which the kill of a container is a problem; workers count over the same time."""

LEAST_FAILURES: Final = 3
FAILING_SHARE: Final = 0.5
"""Share of failed tasks from which on tasks fail."""
MENDED_SHARE: Final = 0.25
"""Share below which they do so no longer."""

MEMORY_ADVICE: Final = "raise resources.limits.memory, or set worker.maxMemoryPerChild (prefork)"


def working(case: Case) -> Statement | None:
    """The condition Working; None: there is no worker."""
    if case.seen.reports is None:
        return _as_before(case)
    found = problems(case)
    if found:
        message = "; ".join(problem.message for problem in found)
        return Statement(Type.WORKING, "False", WorkReason(found[0].reason), message)  # type: ignore[call-arg]  # an enum's value is enough
    if not case.seen.pods:
        return None
    if not case.seen.reports:
        return Statement(Type.WORKING, "Unknown", WorkReason.NOT_KNOWN, "no worker replies to the operator")
    if work.add_up(case.seen.reports.values()).busy:
        return Statement(Type.WORKING, "True", WorkReason.BUSY, "tasks run")
    return Statement(Type.WORKING, "True", WorkReason.IDLE, "no task runs")


def status_fields(case: Case) -> Mapping[str, Any]:
    """The status field about the work."""
    if case.seen.reports is None:
        return {"work": case.seen.pool.status.work}
    found, said = problems(case), work.add_up(case.seen.reports.values())
    if not case.seen.reports and not found:
        return {"work": None}
    oldest = said.oldest
    return {
        "work": Work(
            slots=said.slots,
            busy_slots=said.busy,
            oldest_task=RunningTask(
                name=oldest.name,
                id=oldest.id,
                pod=said.oldest_pod,
                started_at=oldest.started_at,
                limit_seconds=oldest.limit_seconds,
            )
            if oldest
            else None,
            succeeded=said.succeeded,
            failed=said.failed,
            dead_letters=said.dead_letters,
            problems=found,
        )
    }


def problems(case: Case) -> tuple[Problem, ...]:
    """What is wrong, the most severe first."""
    before = {problem.reason: problem for problem in _stored(case)}
    said = work.add_up((case.seen.reports or {}).values())
    found = []
    for reason, message in _rules(case, said, is_failing=WorkReason.TASKS_FAIL in before):
        was = before.get(reason)
        since = was.since if was else case.now.replace(microsecond=0)
        found.append(Problem(reason=reason.value, message=message[:1024], since=since))
    return tuple(found)


def recheck_seconds(case: Case) -> float | None:
    """Seconds until the kill of a container is over as a problem; None: there is none."""
    ends = [WINDOW_SECONDS - (case.now - at).total_seconds() for _, at, _ in _killed(case)]
    return min((wait for wait in ends if wait > 0), default=None)


def _rules(case: Case, said: PoolWork, *, is_failing: bool) -> Iterator[tuple[WorkReason, str]]:
    if said.stuck and said.stuck_task:
        is_all = said.stuck >= said.slots > 0
        reason = WorkReason.ALL_SLOTS_STUCK if is_all else WorkReason.TASK_STUCK
        yield reason, _stuck(case, said, is_all=is_all)
    memory = _memory(case, said)
    if memory:
        yield WorkReason.OUT_OF_MEMORY, memory
    ended = said.failed + said.succeeded
    share = MENDED_SHARE if is_failing else FAILING_SHARE
    if said.failed >= LEAST_FAILURES and said.failed >= share * ended:
        last = said.last_failure
        latest = f"; the last one is {last.task}[{last.id}]: {last.exception}" if last else ""
        yield WorkReason.TASKS_FAIL, f"{said.failed} of {ended} tasks failed in the last 15 minutes{latest}"
    if said.dead_letters:
        messages = "message was" if said.dead_letters == 1 else "messages were"
        yield (
            WorkReason.DEAD_LETTERS,
            f"{said.dead_letters} {messages} dead-lettered in the last 15 minutes: see celeriac dead list",
        )


def _stuck(case: Case, said: PoolWork, *, is_all: bool) -> str:
    task = said.stuck_task
    if task is None:
        return ""
    limit = "without a time limit" if task.limit_seconds is None else f"past its limit of {task.limit_seconds} s"
    since = task.started_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    others = "all slots are stuck" if is_all else f"{said.stuck} of {said.slots} slots are stuck"
    advice = "" if case.seen.pool.spec.time_limits else "; timeLimits.hardSeconds would end it"
    return f"{others}; {task.name}[{task.id}] in pod {said.stuck_pod} has run since {since} {limit}{advice}"


def _memory(case: Case, said: PoolWork) -> str:
    killed = sorted(_killed(case), key=lambda it: it[1])
    if killed:
        pod, _, code = killed[-1]
        others = f", and {len(killed) - 1} other workers" if len(killed) > 1 else ""
        return f"pod {pod.name} was killed at its memory limit (exit code {code}){others}: {MEMORY_ADVICE}"
    if said.out_of_memory:
        number = "a process was" if said.out_of_memory == 1 else f"{said.out_of_memory} processes were"
        return f"pod {said.memory_pod}: {number} killed at the memory limit in the last 15 minutes: {MEMORY_ADVICE}"
    return ""


def _killed(case: Case) -> Iterator[tuple[Pod, datetime, int]]:
    for pod in case.seen.pods:
        last = pod.worker.last if pod.worker else None
        if last is None or last.reason != "OOMKilled" or last.finished_at is None:
            continue
        if (case.now - last.finished_at).total_seconds() < WINDOW_SECONDS:
            yield pod, last.finished_at, last.exit_code


def _stored(case: Case) -> tuple[Problem, ...]:
    stored = case.seen.pool.status.work
    return stored.problems if stored else ()


def _as_before(case: Case) -> Statement | None:
    """Keep the previous condition: shortly after a start of the operator nothing is known yet."""
    for condition in case.seen.pool.status.conditions:
        if condition.type == Type.WORKING and condition.reason in set(WorkReason):
            status: ConditionStatus = condition.status
            return Statement(Type.WORKING, status, WorkReason(condition.reason), condition.message)  # type: ignore[call-arg]  # ditto
    return None
