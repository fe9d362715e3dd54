"""(pure) All that is known of one pool at one moment, and how to read it out of what the API server hands out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from celeriac_operator import labels
from celeriac_operator.decide import secrets
from celeriac_operator.manifest import Manifest
from celeriac_operator.reasons import Activity
from celeriac_operator.resource import CeleryWorkerPool, ScalingDecision


@dataclass(frozen=True, kw_only=True)
class Termination:
    """How a container ended."""

    exit_code: int
    reason: str
    message: str
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container of a worker pod."""

    name: str
    ready: bool
    started: bool
    """Its startup probe has succeeded."""
    restarts: int
    running_since: datetime | None
    """None while it does not run."""
    waiting: str
    """The kubelet's reason for which it does not run, and its message."""
    waiting_message: str
    last: Termination | None
    """How it ended the last time, if it ever did."""


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A worker pod."""

    name: str
    uid: str
    template_hash: str
    """Of the template it was made from."""
    deleting: bool
    ready: bool
    not_ready_since: datetime | None
    """None while it is ready."""
    set_up_since: datetime | None
    """Since when the kubelet has tried to give it its volumes and its network; None: it has them."""
    unschedulable: str
    """The scheduler's message, empty when there is none; since when."""
    unschedulable_since: datetime | None
    containers: tuple[Container, ...]


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What the API server made of the last apply of an object: the manifest's digest, the object's generation."""

    digest: str
    generation: int


@dataclass(frozen=True, kw_only=True)
class ScalingState:
    """What the autoscaler knows of a pool."""

    activity: Activity
    """Whether it sets the number."""
    message: str
    """Why it set the last number, or why it sets none."""
    backlog: Mapping[str, int] | None = None
    """Messages that wait, by queue; None: they were never read."""
    decisions: tuple[ScalingDecision, ...] = ()
    """Its last changes, newest first."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """One pool at one moment."""

    pool: CeleryWorkerPool
    deployment: Manifest | None
    """The Deployment of the pool's name as it was last seen; None: there is none."""
    pods: tuple[Pod, ...]
    """The pool's pods, those that are leaving included."""
    secrets: Mapping[str, secrets.Facts]
    """What is known of the Secrets that the pool names or owns, by name."""
    budget: Manifest | None = None
    """The same for the PodDisruptionBudget."""
    applied: Mapping[str, Applied] = field(default_factory=dict)
    """To the last applies of this process, by kind."""
    default_dsn: str = field(default="", repr=False)
    """The operator's Sentry DSN for pools that name none; empty: it has none."""
    scaling: ScalingState | None = None
    """The autoscaler's word; None: it has not looked at the pool."""

    def newest_pods(self) -> tuple[Pod, ...]:
        """Pods of the Deployment's present template that are not leaving."""
        newest = template_hash(self.deployment)
        return tuple(pod for pod in self.pods if pod.template_hash == newest and not pod.deleting)


def template_hash(deployment: Manifest | None) -> str:
    """The hash that the Deployment's pod template carries; empty if none."""
    return template_annotation(deployment, labels.TEMPLATE_HASH)


def template_annotation(deployment: Manifest | None, key: str) -> str:
    """An annotation of the Deployment's pod template; empty if it has none."""
    metadata = deployment["spec"]["template"].get("metadata", {}) if deployment else {}
    return str((metadata.get("annotations") or {}).get(key, ""))


def annotation(manifest: Manifest | None, key: str) -> str:
    """An annotation of the object itself; empty if it has none."""
    return str((manifest["metadata"].get("annotations") or {}).get(key, "")) if manifest else ""


def controller(manifest: Manifest) -> Manifest | None:
    """The owner reference of the object's controller."""
    for owner in manifest["metadata"].get("ownerReferences") or []:
        if owner.get("controller"):
            found: Manifest = owner
            return found
    return None


def read_pod(manifest: Manifest) -> Pod:
    """Keep of a pod what rules are made of."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    conditions = {entry["type"]: entry for entry in status.get("conditions") or []}
    scheduled, readiness = conditions.get("PodScheduled", {}), conditions.get("Ready", {})
    unschedulable = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    statuses = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        template_hash=str((metadata.get("annotations") or {}).get(labels.TEMPLATE_HASH, "")),
        deleting="deletionTimestamp" in metadata,
        ready=readiness.get("status") == "True",
        not_ready_since=_time(readiness.get("lastTransitionTime")) if readiness.get("status") == "False" else None,
        set_up_since=_set_up_since(status, conditions.get("PodReadyToStartContainers", {})),
        unschedulable=scheduled.get("message", "") if unschedulable else "",
        unschedulable_since=_time(scheduled.get("lastTransitionTime")) if unschedulable else None,
        containers=tuple(_container(entry) for entry in statuses),
    )


def _set_up_since(status: Manifest, start: Manifest) -> datetime | None:
    # False again once everything in the pod has ended.
    is_waiting = status.get("phase") == "Pending" and start.get("status") == "False"
    return _time(start.get("lastTransitionTime")) if is_waiting else None


def _container(status: Manifest) -> Container:
    state = status.get("state") or {}
    waiting, terminated = state.get("waiting") or {}, state.get("terminated")
    last = terminated or (status.get("lastState") or {}).get("terminated")
    return Container(
        name=status["name"],
        ready=bool(status.get("ready")),
        started=bool(status.get("started")),
        restarts=int(status.get("restartCount", 0)),
        running_since=_time((state.get("running") or {}).get("startedAt")),
        waiting=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        last=_termination(last) if last else None,
    )


def _termination(terminated: Manifest) -> Termination:
    return Termination(
        exit_code=int(terminated.get("exitCode", 0)),
        reason=terminated.get("reason", ""),
        message=terminated.get("message", ""),
        started_at=_time(terminated.get("startedAt")),
        finished_at=_time(terminated.get("finishedAt")),
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
