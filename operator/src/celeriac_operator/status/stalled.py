"""(pure) Why will a pool not become ready without a person? Rules in order; the first one that finds a cause wins.

A rule needs evidence from the cluster: a refusal by the API server, the kubelet's waiting reason, a container's last
words. States of ordinary rollouts and restarts are not causes: a container that is being created, one restart after a
failed probe, a pod that the scheduler has not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from celeriac_operator import names
from celeriac_operator.decide import last_words, plan
from celeriac_operator.decide.observed import Container, Pod, Termination
from celeriac_operator.reasons import Cause
from celeriac_operator.status.case import Case, Finding

UNSCHEDULABLE_SECONDS = 5
"""Time that a pod must have been unschedulable. A pod that waits for another one to leave, in a rollout, is scheduled
sooner."""

CRASH_WITHIN = timedelta(minutes=10)
"""A container that ran longer did not fail at start; the kubelet resets its back-off after the same time."""

SHORTEST_BACK_OFF = timedelta(seconds=8)
"""The kubelet's first back-off is 10 s; its times are rounded to seconds."""

ENDED_BY_PROBE = (0, 137, 143)
"""Exit codes of a container that the kubelet stopped: not a crash, however often it happens."""

BROKER_EXIT, CONFIGURATION_EXIT = 69, 78
"""Exit codes of the worker library: EX_UNAVAILABLE and EX_CONFIG of sysexits.h."""

_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*"(: ErrImagePull: )?')
_IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
_CONFIG_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")


PERMANENT = (
    Cause.NAME_CONFLICT,
    Cause.INVALID_SPEC,
    Cause.INVALID_TEMPLATE,
    Cause.MISCONFIGURED,
    Cause.ROLLOUT_PAUSED,
    Cause.CONTESTED,
)
"""Causes that do not go away until somebody changes the pool, the image or another object."""

Rule = Callable[[Case], Finding | None]


def refused(case: Case) -> Finding | None:
    """Why the objects cannot be created or updated; running workers, if any, have an older template."""
    for rule in (_conflict, _template, _held, _refusal, _contested):
        found = rule(case)
        if found is not None:
            return found
    return None


def failing(case: Case) -> Finding | None:
    """Why the newest pods do not become ready though the Deployment is up to date."""
    for rule in FAILING:
        found = rule(case)
        if found is not None:
            return found
    return None


def recheck_seconds(case: Case) -> float | None:
    """Seconds until a waiting rule finds a cause if nothing changes; None: no rule waits."""
    waits = [
        UNSCHEDULABLE_SECONDS - _age(case, pod.unschedulable_since)
        for pod in case.seen.newest_pods()
        if pod.unschedulable_since is not None
    ]
    return min((wait for wait in waits if wait > 0), default=None)


def _conflict(case: Case) -> Finding | None:
    for conflict in case.plan.conflicts:
        # A conflict about a Secret concerns Sentry only, and shows in its condition.
        if conflict.kind != "Secret":
            kind = conflict.kind
            owner = f"belongs to {conflict.owner}" if conflict.owner else "does not belong to Celeriac"
            message = f"a {kind} named {conflict.name} exists and {owner}: rename the pool or remove the {kind}"
            return Finding(cause=Cause.NAME_CONFLICT, message=message)
    return None


def _template(case: Case) -> Finding | None:
    error = case.plan.template_error
    return Finding(cause=Cause.INVALID_TEMPLATE, message=error) if error else None


def _held(case: Case) -> Finding | None:
    held = case.plan.held
    return Finding(cause=Cause.SECRET_NOT_FOUND, message=held) if held else None


def _refusal(case: Case) -> Finding | None:
    refusal = case.refusal
    return Finding(cause=refusal.cause, message=last_words.excerpt(refusal.message)) if refusal else None


def _contested(case: Case) -> Finding | None:
    for kind, dispute in sorted(case.seen.disputes.items()):
        message = f"somebody keeps changing the {kind} ({last_words.excerpt(dispute.reason)}): exclude it there"
        return Finding(cause=Cause.CONTESTED, message=message)
    return None


def _pods_refused(case: Case) -> Finding | None:
    status = (case.seen.deployment or {}).get("status") or {}
    for condition in status.get("conditions") or []:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            message = last_words.excerpt(condition.get("message", ""))
            quota = "exceeded quota" in message
            return Finding(cause=Cause.QUOTA_EXCEEDED if quota else Cause.ADMISSION_REFUSED, message=message)
    return None


def _secret_missing(case: Case) -> Finding | None:
    missing = plan.missing_secret(case.seen)
    return Finding(cause=Cause.SECRET_NOT_FOUND, message=missing) if missing else None


def _image(case: Case) -> Finding | None:
    for pod, container in _containers(case):
        if container.waiting in _IMAGE_REASONS:
            cause = _BACK_OFF.sub("", container.waiting_message) or container.waiting
            message = f"pod {pod.name}, container {container.name}: {last_words.excerpt(cause)}"
            return Finding(cause=Cause.IMAGE_PULL_FAILED, message=message)
    return None


def _container_config(case: Case) -> Finding | None:
    for pod, container in _containers(case):
        if container.waiting in _CONFIG_REASONS:
            text = last_words.excerpt(container.waiting_message or container.waiting)
            secret = re.search(r'secret "[^"]*" not found|in Secret ', text)
            root = "; give template.spec.securityContext a runAsUser" if "runAsNonRoot" in text else ""
            return Finding(
                cause=Cause.SECRET_NOT_FOUND if secret else Cause.CONTAINER_CONFIG_ERROR,
                message=f"pod {pod.name}, container {container.name}: {text}{root}",
            )
    return None


def _crash(case: Case) -> Finding | None:
    for pod, container in _containers(case):
        last = container.last
        if last is None or container.ready or not _loops(container, last, is_known=_has_failed(case)):
            continue
        words = last_words.excerpt(last.message) or "it left no message; see kubectl logs --previous"
        message = f"pod {pod.name}, container {container.name}, exit code {last.exit_code}: {words}"
        return Finding(cause=_crash_cause(container, last), message=message)
    return None


def _crash_cause(container: Container, last: Termination) -> Cause:
    if container.name == names.INJECT_CONTAINER:
        return Cause.INJECTION_FAILED
    if last.reason == "OOMKilled":
        return Cause.OUT_OF_MEMORY
    if container.name == names.WORKER_CONTAINER and last.exit_code == CONFIGURATION_EXIT:
        return Cause.MISCONFIGURED
    if container.name == names.WORKER_CONTAINER and last.exit_code == BROKER_EXIT:
        return Cause.BROKER_UNREACHABLE
    return Cause.CRASH_LOOP


def _has_failed(case: Case) -> bool:
    """Whether the pool has been failing, and has not been ready since."""
    status = case.seen.pool.status
    return status.failing_since is not None or status.stalled is not None


def _loops(container: Container, last: Termination, *, is_known: bool) -> bool:
    """Whether it is in the kubelet's back-off, or was started again after one and has not run longer since."""
    if container.waiting == "CrashLoopBackOff":
        return True
    if last.started_at is None or last.finished_at is None or last.finished_at - last.started_at > CRASH_WITHIN:
        return False
    crashed = last.exit_code not in ENDED_BY_PROBE or last.reason == "OOMKilled"
    if not crashed:
        # A process that ends itself with code 0 looks as if the kubelet had stopped it; the back-off tells.
        crashed = is_known and (container.running_since is None or _was_held_back(container.running_since, last))
    return container.restarts >= 2 and crashed and container.waiting not in ("PodInitializing", "ContainerCreating")


def _was_held_back(started_again: datetime, last: Termination) -> bool:
    """Whether the kubelet waited before it started the container again, as it does after repeated ends."""
    return last.finished_at is not None and started_again - last.finished_at >= SHORTEST_BACK_OFF


def _unschedulable(case: Case) -> Finding | None:
    for pod in _pods(case):
        since = pod.unschedulable_since
        if pod.unschedulable and since is not None and _age(case, since) >= UNSCHEDULABLE_SECONDS:
            return Finding(
                cause=Cause.UNSCHEDULABLE, message=f"pod {pod.name}: {last_words.excerpt(pod.unschedulable)}"
            )
    return None


def paused(case: Case) -> Finding | None:
    """A change waits because the Deployment is paused."""
    if not case.seen.is_paused:
        return None
    namespace, name = case.seen.pool.metadata.namespace, case.seen.pool.metadata.name
    message = f"the Deployment is paused, so a change waits: kubectl rollout resume -n {namespace} deployment/{name}"
    return Finding(cause=Cause.ROLLOUT_PAUSED, message=message)


FAILING: tuple[Rule, ...] = (_pods_refused, _secret_missing, _image, _container_config, _crash, _unschedulable)


def _pods(case: Case) -> list[Pod]:
    # Sorted by name, so that every pass reports the same pod and the message stays the same.
    return sorted(case.seen.newest_pods(), key=lambda pod: pod.name)


def _containers(case: Case) -> Iterator[tuple[Pod, Container]]:
    for pod in _pods(case):
        for container in pod.containers:
            yield pod, container


def _age(case: Case, since: datetime) -> float:
    return (case.now - since).total_seconds()
