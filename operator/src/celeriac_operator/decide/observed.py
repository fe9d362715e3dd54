"""(pure) What is known of one pool at one moment, and how is it read from the API server's objects?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from celeriac_operator import labels, names
from celeriac_operator.decide import secrets
from celeriac_operator.decide.dispute import Dispute
from celeriac_operator.decide.work import WorkerReport
from celeriac_operator.manifest import Manifest
from celeriac_operator.reasons import Activity
from celeriac_operator.resource import CeleryWorkerPool, ScalingDecision

POD_TEMPLATE_HASH = "pod-template-hash"
"""Label that the Deployment controller gives to a ReplicaSet and its pods; the ReplicaSet's name ends with it."""


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
    """Whether its startup probe has succeeded."""
    restarts: int
    running_since: datetime | None
    """When it started; None: it is not running."""
    waiting: str
    """The kubelet's reason why it is not running; empty: it is not waiting."""
    waiting_message: str
    """The kubelet's message."""
    last: Termination | None
    """Its last termination; None: it has never ended."""


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A worker pod."""

    name: str
    uid: str
    template_hash: str
    """Hash of the template that the pod was created from."""
    deleting: bool
    ready: bool
    not_ready_since: datetime | None
    """Since when it is not ready; None: it is ready."""
    set_up_since: datetime | None
    """Since when the kubelet has been setting up its volumes and network; None: they are set up."""
    unschedulable: str
    """The scheduler's message; empty: the pod is scheduled or not looked at yet."""
    unschedulable_since: datetime | None
    """Since when the scheduler has found no node; None: it is not unschedulable."""
    containers: tuple[Container, ...]

    @property
    def worker(self) -> Container | None:
        """Its worker's container; None: it is not created yet."""
        return next((container for container in self.containers if container.name == names.WORKER_CONTAINER), None)

    @property
    def runs(self) -> bool:
        """Whether its worker's container runs."""
        return self.worker is not None and self.worker.running_since is not None


@dataclass(frozen=True, kw_only=True)
class Applied:
    """The last apply of an object by this process: the manifest's digest and the resulting generation."""

    digest: str
    generation: int


@dataclass(frozen=True, kw_only=True)
class ScalingState:
    """The autoscaler's state for a pool."""

    activity: Activity
    """Reason of the condition ScalingActive."""
    message: str
    """Why it set the last number, or why it sets none."""
    backlog: Mapping[str, int] | None = None
    """Waiting messages by queue; None: the queues were never read."""
    oldest_since: datetime | None = None
    """When the oldest waiting message was sent; None: none waits, or the producer did not record it."""
    is_read: bool = True
    """Whether the pool's queues are read at all."""
    decisions: tuple[ScalingDecision, ...] = ()
    """Its last changes of replicas, newest first."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """One pool at one moment."""

    pool: CeleryWorkerPool
    deployment: Manifest | None
    """The Deployment with the pool's name; None: it does not exist."""
    pods: tuple[Pod, ...]
    """The pool's pods, including those that are being deleted."""
    secrets: Mapping[str, secrets.Facts]
    """Facts about the Secrets that the pool names or owns, by name."""
    budget: Manifest | None = None
    """The PodDisruptionBudget with the pool's name; None: it does not exist."""
    applied: Mapping[str, Applied] = field(default_factory=dict)
    """The last applies of this process, by kind."""
    default_dsn: str = field(default="", repr=False)
    """The operator's Sentry DSN for pools that set none; empty: it has none."""
    disputes: Mapping[str, Dispute] = field(default_factory=dict)
    """Objects that somebody keeps changing, by kind."""
    paused_kinds: frozenset[str] = frozenset()
    """Kinds of such objects that must not be corrected now."""
    scaling: ScalingState | None = None
    """The autoscaler's state; None: it has not evaluated the pool yet."""
    reports: Mapping[str, WorkerReport] | None = None
    """What its workers reply, by the uid of the pod; None: not all of them have been asked yet."""

    @property
    def is_paused(self) -> bool:
        """Whether somebody has paused the Deployment's rollouts."""
        return bool(self.deployment and self.deployment["spec"].get("paused"))

    def newest_pods(self) -> tuple[Pod, ...]:
        """Pods of the Deployment's current template that are not being deleted."""
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


def is_worker_of(pool: str, manifest: Manifest) -> bool:
    """Whether the pod is a worker of the pool: a ReplicaSet of the pool's Deployment controls it.

    Labels alone say nothing, because everybody who may create pods chooses them. A ReplicaSet that does not exist
    cannot be named for long: Kubernetes deletes objects whose owner does not exist.
    """
    owner = controller(manifest)
    template = (manifest["metadata"].get("labels") or {}).get(POD_TEMPLATE_HASH, "")
    if not pool or owner is None or owner.get("kind") != "ReplicaSet" or not template:
        return False
    return str(owner.get("apiVersion", "")).startswith("apps/") and owner.get("name") == f"{pool}-{template}"


def read_pod(manifest: Manifest) -> Pod:
    """Read what the rules need from a pod."""
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
    # The condition is False again once all containers of the pod have ended.
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
