"""(pure) What will go wrong with this worker?

There is one function for each finding. It returns nothing, or a message that says what was found, what it causes and
what to do. An error is a promise that this setup cannot keep. A warning is a risk that may have been chosen on purpose.
docs/operations/doctor.md lists all findings, and a test compares the two.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from celeriac.config.installed import LEAST
from celeriac.doctor.facts import Ancestor, Facts, TaskFacts

Severity = Literal["error", "warning"]

SHELLS: Final = frozenset({"sh", "ash", "bash", "busybox", "dash", "ksh", "zsh"})
FORWARDERS: Final = frozenset({"catatonit", "docker-init", "pause", "tini", "tini-static"})
"""Programs that pass a signal to their only child, and to no other process."""
SUPERVISORS: Final = frozenset({"foreman", "honcho", "supervisord"})
"""Programs that end the whole process group of what they run."""
OLDEST: Final = {"celery": (5, 4), "kombu": (5, 3), "redis": (5, 0), "sentry-sdk": (2, 0), "prometheus-client": (0, 20)}
"""The oldest releases with which the library's tests pass; see docs/guides/versions.md."""
SHOWN: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A problem that a rule has found."""

    code: str
    """Stable name; the heading in docs/operations/doctor.md."""
    severity: Severity
    message: str


# --- time


def visibility_timeout_covers_limits(facts: Facts) -> Finding | None:
    """Without leases the broker redelivers the message of a long task, and two workers run it at the same time."""
    timeout = facts.visibility_timeout_seconds
    if facts.has_leases or timeout is None:
        return None
    late = [task for task in facts.tasks if task.acks_late]
    longer = [task for task in late if (task.hard_limit_seconds or 0) >= timeout]
    if longer:
        return Finding(
            code="visibility-timeout-below-limit",
            severity="error",
            message=f"{_named(longer)} may run for longer than the broker's visibility_timeout of {timeout:g} s, and "
            "would be delivered again while running: raise broker_transport_options['visibility_timeout'] or lower "
            "the hard limit",
        )
    unlimited = [task for task in late if task.hard_limit_seconds is None]
    if unlimited:
        return Finding(
            code="visibility-timeout-without-limit",
            severity="warning",
            message=f"{_named(unlimited)} has no hard time limit; a run of more than {timeout:g} s (the broker's "
            "visibility_timeout) would be delivered again while running: set timeLimits.hardSeconds below it",
        )
    return None


def lease_replaces_visibility_timeout(facts: Facts) -> Finding | None:
    """An application with a long visibility timeout may rely on it. A lease redelivers a message sooner."""
    timeout = facts.own_visibility_timeout_seconds
    if not facts.has_leases or timeout is None or timeout <= facts.lease_seconds:
        return None
    return Finding(
        code="lease-below-visibility-timeout",
        severity="warning",
        message=f"the application sets visibility_timeout to {timeout:g} s, which a lease of {facts.lease_seconds:g} s "
        "replaces: while a worker lives its messages stay its own however long a task runs, but those of a lost worker "
        "run again after the lease; if that is too soon (Airflow), raise delivery.leaseSeconds",
    )


def visibility_timeout_covers_etas(facts: Facts) -> Finding | None:
    """Without leases a message that waits in a worker for its ETA is redelivered, and its task runs several times."""
    timeout = facts.visibility_timeout_seconds
    if facts.has_leases or timeout is None:
        return None
    later = [task for task in facts.tasks if task.longest_retry_delay_seconds >= timeout]
    if not later:
        return None
    return Finding(
        code="eta-beyond-visibility-timeout",
        severity="error",
        message=f"{_named(later)} waits up to {max(task.longest_retry_delay_seconds for task in later):g} s for a "
        f"retry, longer than the broker's visibility_timeout of {timeout:g} s: the retry would run several times; "
        "raise the one or lower the other",
    )


def drain_covers_limits(facts: Facts) -> Finding | None:
    """A task that may run longer than the drain timeout is cut short by a rollout."""
    longer = [
        task
        for task in facts.tasks
        if task.hard_limit_seconds is not None and task.hard_limit_seconds > facts.drain_seconds
    ]
    if not longer:
        return None
    is_lost = any(not task.acks_late for task in longer)
    fate = "are lost" if is_lost else "start again elsewhere"
    return Finding(
        code="drain-below-limit",
        severity="warning",
        message=f"{_named(longer)} may run for up to {max(task.hard_limit_seconds or 0 for task in longer):g} s, a "
        f"drain lasts {facts.drain_seconds:g} s: runs that are cut short {fate}; raise drain.timeoutSeconds or lower "
        "the limit",
    )


def soft_limits_are_enforced(facts: Facts) -> Finding | None:
    """Celery enforces the soft limit only in processes."""
    limited = [task for task in facts.tasks if task.soft_limit_seconds is not None]
    if facts.pool == "prefork" or not limited:
        return None
    return Finding(
        code="soft-limit-without-prefork",
        severity="warning",
        message=f"{_named(limited)} has a soft time limit, which Celery enforces in the prefork pool only, not in "
        f"{facts.pool}: nothing will interrupt it before the hard limit",
    )


# --- scaling


def prefetch_leaves_work_to_others(facts: Facts) -> Finding | None:
    """New workers cannot take the messages that a busy worker holds for later."""
    held = facts.held_beyond_running
    batch = max((task.batch for task in facts.tasks), default=1) or 1
    if held is not None and held <= facts.slots * batch:
        return None
    amount = "as many messages as there are" if held is None else f"{held} messages beyond its {facts.slots} slots"
    return Finding(
        code="prefetch-hoards",
        severity="warning",
        message=f"a worker holds {amount}: those that scaling adds find less to do, and the backlog looks smaller than "
        "it is; set worker.prefetch to 1, or to the number of slots at most",
    )


def window_fills_a_batch(facts: Facts) -> Finding | None:
    """A batch that never becomes full always starts only at the end of its interval."""
    short = [task for task in facts.tasks if facts.window is not None and task.batch > facts.window]
    if not short:
        return None
    needed = max(task.batch for task in short)
    return Finding(
        code="batch-never-fills",
        severity="warning",
        message=f"{_named(short)} runs in batches of up to {needed} messages, and a worker holds {facts.window} at "
        f"most: each batch waits for its interval; set worker.prefetch to {needed - facts.slots} at least, "
        f"{(needed - 1) * facts.slots} for a batch in each slot",
    )


# --- delivery


def promise_is_kept_by_all_tasks(facts: Facts) -> Finding | None:
    """A message that is acknowledged before its task runs is lost if its worker dies."""
    early = [task for task in facts.tasks if not task.acks_late]
    if not facts.promises_at_least_once or not early:
        return None
    return Finding(
        code="early-acks",
        severity="error",
        message=f"delivery.mode is AtLeastOnce, but {_named(early)} declares acks_late=False: its run is lost if the "
        "worker dies; remove the attribute, or set delivery.mode: App",
    )


def promise_outlives_a_process(facts: Facts) -> Finding | None:
    """Celery acknowledges the message of a killed process, unless a setting tells it to hand the message back."""
    lost = [task for task in facts.tasks if task.acks_late and not task.reject_on_worker_lost]
    if not facts.promises_at_least_once or facts.pool != "prefork" or not lost:
        return None
    return Finding(
        code="lost-process-acks",
        severity="error",
        message=f"delivery.mode is AtLeastOnce, but {_named(lost)} declares reject_on_worker_lost=False: when its "
        "process is killed (out of memory) the message counts as done; remove the attribute",
    )


def broker_gives_back(facts: Facts) -> Finding | None:
    """Only Redis has atomic fetch and leases, and only AMQP does not need them."""
    if facts.has_leases or facts.notices_lost_consumers:
        return None
    return Finding(
        code="leases-off",
        severity="warning",
        message=f"the broker's transport is {facts.broker}, which has no atomic fetch and no leases: the broker "
        "decides when a killed worker's messages are redelivered; Redis (with kombu's own transport) has both",
    )


def routes_can_be_used(facts: Facts) -> Finding | None:
    """Celery reads `task_routes` only when a task is called, so a mistake in it is found late."""
    if facts.routes_problem is None:
        return None
    return Finding(
        code="unusable-routes",
        severity="error",
        message=f"the application's task_routes cannot be used, and every call of a task fails: {facts.routes_problem}",
    )


def queues_get_tasks(facts: Facts) -> Finding | None:
    """A worker whose queue gets no tasks waits forever, although it is ready."""
    without = [queue for queue in facts.consumed if queue not in facts.destinations]
    elsewhere = {queue: tasks for queue, tasks in facts.destinations.items() if queue not in facts.consumed}
    if not without or not elsewhere:
        return None
    misspelt = {queue: near for queue in without if (near := _near(queue, elsewhere))}
    if len(without) == len(facts.consumed):
        message = (
            f"no task is routed to {_queues(without)}, and this worker consumes no other queue: "
            f"{'; '.join(_goes(tasks, queue) for queue, tasks in elsewhere.items())}; put {' or '.join(elsewhere)} "
            "into queues, or set task_default_queue or task_routes in the application"
        )
    elif misspelt:
        queue, near = next(iter(misspelt.items()))
        message = (
            f"no task is routed to queue {queue}; {_goes(elsewhere[near], near)}, which this worker does not "
            "consume: is it the same queue, misspelt?"
        )
    else:
        return None
    return Finding(code="queues-without-tasks", severity="warning", message=message)


# --- signals


def no_shell_eats_sigterm(facts: Facts) -> Finding | None:
    """A shell that waits for its child does not pass signals on, so the worker does not receive SIGTERM."""
    found = [it for it in facts.ancestors if it.name in SHELLS]
    if not found:
        return None
    shell = found[0]
    if shell.catches_sigterm:
        return Finding(
            code="shell-between",
            severity="warning",
            message=f"process {shell.pid} ({shell.name}) is a parent of the worker and catches SIGTERM: unless its "
            "trap passes the signal on, the worker is killed without a drain; start the worker with exec",
        )
    return Finding(
        code="shell-eats-sigterm",
        severity="error",
        message=f"process {shell.pid} ({shell.name}) is a parent of the worker and does not pass SIGTERM on: "
        "the worker is killed without a drain at the end of its grace period; start it with exec",
    )


def no_wrapper_multiplies_sigterm(facts: Facts) -> Finding | None:
    """SIGTERM to the whole process group ends the pool's processes at once (apache/airflow #18066)."""
    found = [it for it in facts.ancestors if _multiplies(it)]
    if not found or facts.pool != "prefork":
        return None
    remedy = {
        "dumb-init": "call it with --single-child",
        "timeout": "call it with --foreground",
        "tini": "call it without -g",
        "tini-static": "call it without -g",
    }.get(found[0].name, "run the worker without it, Kubernetes supervises")
    return Finding(
        code="wrapper-multiplies-sigterm",
        severity="error",
        message=f"process {found[0].pid} ({found[0].name}) sends SIGTERM to the worker's children too: their tasks are "
        f"cut off instead of drained; {remedy}",
    )


def parents_are_known(facts: Facts) -> Finding | None:
    """Every other process above the worker must pass SIGTERM on, and only to the worker."""
    known = SHELLS | FORWARDERS
    strange = [it for it in facts.ancestors if it.name not in known and not _multiplies(it)]
    strange = [it for it in strange if it.name not in {"dumb-init", "timeout"}]
    if not strange:
        return None
    return Finding(
        code="unknown-parent",
        severity="warning",
        message=f"process {strange[0].pid} ({strange[0].name}) is a parent of the worker: unless it passes SIGTERM on, "
        "and to the worker alone, there is no drain; start the worker with exec",
    )


# --- versions


def versions_are_enough(facts: Facts) -> Finding | None:
    """A worker on a Redis broker gives up at once if redis-py is too old."""
    found, oldest = facts.versions.get("redis"), LEAST["redis"]
    if not facts.has_leases or found is None:
        return None
    if found >= oldest and facts.refused_by_kombu:
        return Finding(
            code="redis-py-too-old",
            severity="error",
            message=f"kombu and redis-py do not go together, and the worker gives up at its start: "
            f"{facts.refused_by_kombu}: install a newer redis-py, or an older kombu",
        )
    if found >= oldest:
        return None
    return Finding(
        code="redis-py-too-old",
        severity="error",
        message=f"redis-py {'.'.join(map(str, found))} is too old for the Redis broker, and the worker gives up at its "
        f"start: install {'.'.join(map(str, oldest))} or later",
    )


def versions_are_tested(facts: Facts) -> Finding | None:
    """A release older than those that are tested may lack a function that the library needs."""
    older = [
        f"{name} {'.'.join(map(str, facts.versions[name]))} (tested from {'.'.join(map(str, oldest))} on)"
        for name, oldest in OLDEST.items()
        if name in facts.versions and facts.versions[name] < oldest
    ]
    if not older:
        return None
    return Finding(
        code="older-versions", severity="warning", message=f"parts of the library may not work with {', '.join(older)}"
    )


def policies_have_effect(facts: Facts) -> Finding | None:
    """A policy that is wrong or misplaced has no effect. Calls of its task fail, and the worker does not start."""
    if not facts.wrong_policies:
        return None
    return Finding(code="wrong-policy", severity="error", message="; ".join(facts.wrong_policies))


Rule = Callable[[Facts], Finding | None]

RULES: Final[tuple[Rule, ...]] = (
    promise_is_kept_by_all_tasks,
    promise_outlives_a_process,
    no_shell_eats_sigterm,
    no_wrapper_multiplies_sigterm,
    parents_are_known,
    visibility_timeout_covers_limits,
    lease_replaces_visibility_timeout,
    visibility_timeout_covers_etas,
    drain_covers_limits,
    soft_limits_are_enforced,
    prefetch_leaves_work_to_others,
    window_fills_a_batch,
    broker_gives_back,
    versions_are_enough,
    routes_can_be_used,
    queues_get_tasks,
    versions_are_tested,
    policies_have_effect,
)


def findings(facts: Facts, rules: Sequence[Rule] = RULES) -> list[Finding]:
    """All findings, errors first."""
    found = [it for rule in rules if (it := rule(facts)) is not None]
    return sorted(found, key=lambda it: it.severity != "error")


def _multiplies(process: Ancestor) -> bool:
    given = process.arguments[1:]
    if process.name in SUPERVISORS:
        return True
    if process.name == "dumb-init":
        return not {"-c", "--single-child"} & set(given)
    if process.name == "timeout":
        return "--foreground" not in given
    return process.name.startswith("tini") and "-g" in given


def _near(queue: str, others: Iterable[str]) -> str | None:
    """The queue among the others whose name is so similar to `queue` that one may be misspelt."""
    by_lower = {other.lower(): other for other in others}
    near = difflib.get_close_matches(queue.lower(), by_lower, n=1, cutoff=0.8)
    return by_lower[near[0]] if near else None


def _queues(names: Sequence[str]) -> str:
    return f"queue{'s' * (len(names) > 1)} {', '.join(names)}"


def _goes(tasks: Sequence[str], queue: str) -> str:
    return f"{_joined(tasks)} {'go' if len(tasks) > 1 else 'goes'} to {queue}"


def _named(tasks: Sequence[TaskFacts]) -> str:
    return _joined([task.name for task in tasks])


def _joined(names: Sequence[str]) -> str:
    if len(names) <= SHOWN:
        return " and ".join(names) if len(names) < SHOWN else f"{names[0]}, {names[1]} and {names[2]}"
    return f"{', '.join(names[:SHOWN])} and {len(names) - SHOWN} more"
