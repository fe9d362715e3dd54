"""(pure) What is the status of a pool: its counts and its conditions?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celeriac_operator import labels, names
from celeriac_operator.decide import observed, plan
from celeriac_operator.decide.observed import Observed, Pod
from celeriac_operator.desired import deployment
from celeriac_operator.printable import printable
from celeriac_operator.reasons import Activity, Cause, Meaningful, Progress, Type
from celeriac_operator.resource import Condition, LastStalled, Status
from celeriac_operator.status import shown, stalled
from celeriac_operator.status.case import Case, Finding
from celeriac_operator.status.conditions import broker, notifications, scaling, sentry, time_limits, working
from celeriac_operator.status.conditions.statement import ConditionStatus, Statement

QUESTIONS = (
    broker.reachable,
    working.working,
    time_limits.enforced,
    sentry.configured,
    notifications.configured,
    scaling.active,
)
"""Rules of further conditions; each may return None, and the condition is then absent."""

MESSAGE_CHARACTERS = 2000
"""Longest message of a condition. Parts of it come from tenants: a template, a host name, a container's last words."""

SET_UP_SECONDS = 30
"""Time that the kubelet may take for a pod's volumes and network before the pool reports that it waits for them."""

NOT_CONSUMING_SECONDS = 30
"""Time that a started worker may take to reach the broker before the pool reports that it does not consume."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of computing a status."""

    status: Status
    """The status to be written."""
    recheck_seconds: float | None = None
    """Seconds after which the status may change without an event; None: it does not."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Workers by state. `is_current`: the Deployment controller has seen the newest Deployment, and all workers have
    its template."""

    desired: int
    there: int
    ready: int
    updated: int
    is_current: bool


@dataclass(frozen=True, kw_only=True)
class _Verdict:
    """The state of the pool as a whole, from which Ready, Reconciling and Stalled follow."""

    reason: Meaningful
    message: str
    ready: bool = False
    reconciling: bool = False
    stalled: bool = False
    failing_since: datetime | None = None


def compute(case: Case) -> Report:
    """Compute the status of a pool."""
    pool, counts = case.seen.pool, _count(case.seen)
    library = plan.running_library(case.seen.deployment)
    verdict = _judge(case, counts)
    statements = [
        *_overall(verdict),
        *(statement for question in QUESTIONS if (statement := question(case))),
    ]
    status = Status(
        observed_generation=pool.metadata.generation,
        replicas=counts.there,
        ready_replicas=counts.ready,
        desired_replicas=counts.desired,
        ready=f"{counts.ready}/{counts.desired}",
        selector=labels.as_selector(labels.selector(pool)),
        draining=sum(pod.deleting for pod in case.seen.pods),
        library=library or None,
        library_version=shown.version(library) or None,
        **_images(case.seen),
        rolled_out=_rolled_out(case, verdict),
        failing_since=verdict.failing_since,
        stalled=_last_stalled(verdict, pool.status, case.now),
        **scaling.status_fields(case.seen),
        **working.status_fields(case),
        conditions=_conditions(statements, pool.status, pool.metadata.generation, case.now),
    )
    return Report(status=status, recheck_seconds=_recheck(case, verdict))


def _images(seen: Observed) -> Mapping[str, Any]:
    """The Deployment's image, and the one before it."""
    containers = seen.deployment["spec"]["template"]["spec"]["containers"] if seen.deployment else ()
    image = next((worker["image"] for worker in containers if worker["name"] == names.WORKER_CONTAINER), None)
    before = seen.pool.status
    is_new = before.image is not None and image is not None and image != before.image
    return {
        "image": image or before.image,
        "image_name": shown.image(image or before.image or "") or None,
        "previous_image": before.image if is_new else before.previous_image,
    }


def _rolled_out(case: Case, verdict: _Verdict) -> str | None:
    """The template's hash once workers are ready with it; at zero nothing is known of a new template."""
    is_shown = verdict.ready and verdict.reason is Progress.READY and not case.seen.is_paused
    return (observed.template_hash(case.seen.deployment) if is_shown else "") or case.seen.pool.status.rolled_out


def unreadable(old: Status, generation: int, message: str, now: datetime) -> Status:
    """Compute the status of a pool whose spec this operator cannot read; none of its objects are changed."""
    verdict = _Verdict(reason=Cause.INVALID_SPEC, message=message, stalled=True)
    conditions = _conditions(_overall(verdict), old, generation, now)
    stalled = _last_stalled(verdict, old, now)
    return old.model_copy(update={"observed_generation": generation, "conditions": conditions, "stalled": stalled})


def _last_stalled(verdict: _Verdict, old: Status, now: datetime) -> LastStalled | None:
    """The last stall, kept until the pool is ready. Before that, the pool may be Reconciling or fail in another way."""
    if verdict.ready:
        return None
    if not verdict.stalled:
        return old.stalled
    since = old.stalled.since if old.stalled else now.replace(microsecond=0)
    return LastStalled(reason=verdict.reason.value, since=since)


def _overall(verdict: _Verdict) -> list[Statement]:
    ready: ConditionStatus = "True" if verdict.ready else "False"
    statements = [Statement(Type.READY, ready, verdict.reason, verdict.message)]
    if verdict.reconciling:
        reason = Progress.PROGRESSING if isinstance(verdict.reason, Progress) else verdict.reason
        statements.append(Statement(Type.RECONCILING, "True", reason, verdict.message))
    if verdict.stalled:
        statements.append(Statement(Type.STALLED, "True", verdict.reason, verdict.message))
    return statements


def _judge(case: Case, counts: Counts) -> _Verdict:
    refused = stalled.refused(case)
    if refused is not None:
        return _stalled(case, refused)
    if counts.desired == 0:
        return _judge_zero(case)
    if case.plan.waiting_for:
        return _Verdict(reason=Progress.PROGRESSING, message=f"waiting for {case.plan.waiting_for}", reconciling=True)
    return _judge_workers(case, counts)


def _judge_zero(case: Case) -> _Verdict:
    spec = case.seen.pool.spec
    if spec.suspend:
        return _resting(case, Progress.SUSPENDED, "suspended")
    if _is_scaled(case):
        return _Verdict(reason=Progress.SCALED_TO_ZERO, message="no message waits, and no worker is needed", ready=True)
    if spec.autoscaling is not None:
        return _Verdict(reason=Progress.NO_WORKERS, message="replicas is 0, and the autoscaler is not active")
    return _resting(case, Progress.NO_WORKERS, "replicas is 0")


def _judge_workers(case: Case, counts: Counts) -> _Verdict:
    complete = counts.is_current and counts.there == counts.desired
    if complete and counts.ready == counts.desired:
        paused = "; the Deployment is paused" if case.seen.is_paused else ""
        message = f"{_workers(counts.ready)} ready and consuming{paused}"
        return _Verdict(reason=Progress.READY, message=message, ready=True)
    failing = stalled.failing(case) or (None if counts.is_current else stalled.paused(case))
    if failing is not None:
        return _stalled(case, failing)
    silent = _silent(case)
    if silent and complete:
        name = silent[0].name
        message = (
            f"pod {name} runs but does not consume; usually the broker cannot be reached: see "
            f"kubectl logs -n {case.seen.pool.metadata.namespace} {name}"
        )
        return _Verdict(reason=Progress.NOT_READY, message=message)
    waiting = _without_volumes(case)
    if waiting:
        name, namespace = waiting[0].name, case.seen.pool.metadata.namespace
        message = (
            f"pod {name} waits for its volumes or its network; usually a Secret or ConfigMap that it mounts does not "
            f"exist: see kubectl describe pod -n {namespace} {name}"
        )
        return _Verdict(reason=Progress.PROGRESSING, message=message, reconciling=True)
    message = f"{counts.ready} of {_workers(counts.desired)} ready"
    if not counts.is_current:
        message = f"rolling out a change: {counts.updated} of {_workers(counts.desired)} updated"
    return _Verdict(reason=Progress.PROGRESSING, message=message, reconciling=True)


def _stalled(case: Case, finding: Finding) -> _Verdict:
    newest = {pod.uid for pod in case.seen.newest_pods()}
    older = any(pod.ready and not pod.deleting and pod.uid not in newest for pod in case.seen.pods)
    suffix = "; workers of the previous template keep running" if older else ""
    message = finding.message + suffix
    if finding.cause in stalled.PERMANENT or case.grace_seconds <= 0:
        return _Verdict(reason=finding.cause, message=message, stalled=True)
    since = _failing_since(case)
    is_over = (case.now - since).total_seconds() >= case.grace_seconds
    return _Verdict(
        reason=finding.cause, message=message, stalled=is_over, reconciling=not is_over, failing_since=since
    )


def _failing_since(case: Case) -> datetime:
    """When the pool began to fail. A change of its spec begins the grace period again."""
    status = case.seen.pool.status
    is_known = status.failing_since is not None and status.observed_generation == case.seen.pool.metadata.generation
    return status.failing_since if is_known and status.failing_since else case.now.replace(microsecond=0)


def _is_scaled(case: Case) -> bool:
    """Whether the autoscaler is active, so that it has chosen the number."""
    statement = scaling.active(case)
    return statement is not None and statement.reason is Activity.ACTIVE


def _resting(case: Case, reason: Progress, why: str) -> _Verdict:
    draining = bool(case.seen.pods)
    message = f"{why}: workers are draining" if draining else f"{why}: no worker runs"
    # A pool at zero on purpose is ready, as a Deployment with 0 replicas is: GitOps tools then stop waiting.
    return _Verdict(reason=reason, message=message, reconciling=draining, ready=not draining)


def _workers(count: int) -> str:
    return f"{count} worker is" if count == 1 else f"{count} workers are"


def _count(seen: Observed) -> Counts:
    there = seen.deployment or {}
    status = there.get("status") or {}
    desired = deployment.replicas(seen.pool)
    taken_up = status.get("observedGeneration", 0) >= there.get("metadata", {}).get("generation", 1)
    return Counts(
        desired=desired,
        there=status.get("replicas", 0),
        ready=status.get("readyReplicas", 0),
        updated=status.get("updatedReplicas", 0),
        is_current=taken_up
        and there.get("spec", {}).get("replicas") == desired
        and status.get("updatedReplicas", 0) == status.get("replicas", 0),
    )


def _silent(case: Case) -> list[Pod]:
    """Workers that started NOT_CONSUMING_SECONDS ago or earlier and are not ready, sorted by name."""
    pods = [pod for pod in case.seen.newest_pods() if _silent_seconds(case, pod) >= NOT_CONSUMING_SECONDS]
    return sorted(pods, key=lambda pod: pod.name)


def _without_volumes(case: Case) -> list[Pod]:
    """Workers that the kubelet has been setting up for SET_UP_SECONDS or longer, sorted by name."""
    pods = [pod for pod in case.seen.newest_pods() if _set_up_seconds(case, pod) >= SET_UP_SECONDS]
    return sorted(pods, key=lambda pod: pod.name)


def _set_up_seconds(case: Case, pod: Pod) -> float:
    """Seconds that the kubelet has been setting up the pod; -1: it is not doing so."""
    return -1 if pod.set_up_since is None else (case.now - pod.set_up_since).total_seconds()


def _silent_seconds(case: Case, pod: Pod) -> float:
    """Seconds that the worker has been started and not ready; -1: it is not in that state."""
    worker = next((container for container in pod.containers if container.name == names.WORKER_CONTAINER), None)
    if worker is None or worker.ready or not worker.started or worker.running_since is None:
        return -1
    since = max(worker.running_since, pod.not_ready_since or worker.running_since)
    return (case.now - since).total_seconds()


def _recheck(case: Case, verdict: _Verdict) -> float | None:
    pods = case.seen.newest_pods()
    silent = (NOT_CONSUMING_SECONDS - age for pod in pods if (age := _silent_seconds(case, pod)) >= 0)
    setting_up = (SET_UP_SECONDS - age for pod in pods if (age := _set_up_seconds(case, pod)) >= 0)
    waits = [*silent, *setting_up]
    waits += [wait for rule in (stalled, working) if (wait := rule.recheck_seconds(case)) is not None]
    if verdict.failing_since is not None and not verdict.stalled:
        waits.append(case.grace_seconds - (case.now - verdict.failing_since).total_seconds())
    return min((wait for wait in waits if wait > 0), default=None)


def _conditions(statements: Iterable[Statement], old: Status, generation: int, now: datetime) -> tuple[Condition, ...]:
    """Build conditions. lastTransitionTime changes with the condition's status, not with its reason or message."""
    before = {condition.type: condition for condition in old.conditions}
    conditions = []
    for statement in statements:
        was = before.get(statement.type)
        same = was is not None and was.status == statement.status
        conditions.append(
            Condition(
                type=statement.type.value,
                status=statement.status,
                reason=statement.reason.value,
                message=printable(statement.message, limit=MESSAGE_CHARACTERS),
                observed_generation=generation,
                last_transition_time=was.last_transition_time if was and same else now.replace(microsecond=0),
            )
        )
    return tuple(conditions)
