"""Objects as the API server hands them out, with what a test case cares about laid over them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from celeriac_operator import names
from celeriac_operator.decide import observed, secrets
from celeriac_operator.decide.observed import Observed
from celeriac_operator.decide.plan import Plan
from celeriac_operator.desired import build, disruption_budget
from celeriac_operator.desired.build import Choices
from celeriac_operator.resource import CeleryWorkerPool
from celeriac_operator.settings import Settings
from celeriac_operator.status.case import Case, Refusal

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
SETTINGS = Settings(worker_image="celeriac-worker:2")
LIBRARY = "celeriac-worker:1"


def ago(seconds: float) -> str:
    """A time before now, as Kubernetes writes it."""
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def a_pool(
    *,
    annotations: Mapping[str, str] | None = None,
    generation: int = 1,
    status: Mapping[str, Any] | None = None,
    uid: str = "pool-uid",
    **spec: Any,
) -> CeleryWorkerPool:
    """A pool named emails in the namespace shop."""
    return CeleryWorkerPool.parse(
        {
            "metadata": {
                "name": "emails",
                "namespace": "shop",
                "uid": uid,
                "generation": generation,
                "annotations": annotations or {},
            },
            "spec": {"app": "shop.celery:app", "image": "shop:1", **spec},
            "status": status or {},
        }
    )


def wanted(pool: CeleryWorkerPool, kind: str, *, library: str = LIBRARY, digest: str | None = None) -> dict[str, Any]:
    """The one manifest of this kind that the pool asks for."""
    manifests = build.build(pool, Choices(library_image=library, secrets_digest=digest))
    (found,) = (copy.deepcopy(each) for each in manifests if each["kind"] == kind)
    return found


def a_budget(pool: CeleryWorkerPool, **spec: Any) -> dict[str, Any]:
    """The pool's PodDisruptionBudget as it was applied, with what a test case changes."""
    built = wanted(pool, "PodDisruptionBudget")
    built["metadata"].update(uid="budget-uid", generation=1, resourceVersion="10")
    built["spec"].update(spec)
    return built


def a_deployment(
    pool: CeleryWorkerPool,
    *,
    library: str = LIBRARY,
    digest: str | None = None,
    status: Mapping[str, Any] | None = None,
    generation: int = 1,
) -> dict[str, Any]:
    """The pool's Deployment as it was applied, with what the API server adds."""
    built = wanted(pool, "Deployment", library=library, digest=digest)
    built["metadata"].update(uid="deployment-uid", generation=generation, resourceVersion="10")
    built["spec"]["progressDeadlineSeconds"] = 600
    built["status"] = dict(status or {})
    return built


def counts(there: int, ready: int, *, updated: int | None = None, generation: int = 1) -> dict[str, Any]:
    """A Deployment's status."""
    return {
        "observedGeneration": generation,
        "replicas": there,
        "updatedReplicas": there if updated is None else updated,
        "readyReplicas": ready,
    }


def a_container(
    *,
    name: str = names.WORKER_CONTAINER,
    ready: bool = False,
    started: bool = False,
    restarts: int = 0,
    waiting: tuple[str, str] | None = None,
    running_for: float | None = None,
    ended: Mapping[str, Any] | None = None,
    ended_before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A container's status; `ended` is its state, `ended_before` its last one."""
    state: dict[str, Any] = {}
    if waiting:
        state = {"waiting": {"reason": waiting[0], "message": waiting[1]}}
    elif running_for is not None:
        state = {"running": {"startedAt": ago(running_for)}}
    elif ended:
        state = {"terminated": dict(ended)}
    return {
        "name": name,
        "ready": ready,
        "started": started,
        "restartCount": restarts,
        "state": state,
        "lastState": {"terminated": dict(ended_before)} if ended_before else {},
    }


def an_end(code: int, message: str = "", *, ran: float = 3, reason: str = "Error") -> dict[str, Any]:
    """How a container ended a minute ago, after it had run for `seconds`."""
    return {
        "exitCode": code,
        "reason": reason,
        "message": message,
        "startedAt": ago(60 + ran),
        "finishedAt": ago(60),
    }


def a_replica_set(pool: CeleryWorkerPool) -> dict[str, Any]:
    """The reference to the ReplicaSet that controls the pool's pods."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": f"{pool.metadata.name}-5d8f7c",
        "uid": "replica-set-uid",
        "controller": True,
    }


def a_pod(
    pool: CeleryWorkerPool,
    *containers: Mapping[str, Any],
    name: str = "emails-1",
    hash: str | None = None,  # noqa: A002 -- the annotation's own name
    ready: bool = False,
    not_ready_for: float = 60,
    unschedulable: tuple[str, float] | None = None,
    setting_up_for: float | None = None,
    deleting: bool = False,
) -> dict[str, Any]:
    """A pod of the pool's present template unless a hash says otherwise."""
    template = a_deployment(pool)["spec"]["template"]["metadata"]
    conditions: list[dict[str, Any]] = [
        {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": ago(not_ready_for)}
    ]
    if unschedulable:
        message, age = unschedulable
        conditions.append(
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": message,
                "lastTransitionTime": ago(age),
            }
        )
    if setting_up_for is not None:
        since = ago(setting_up_for)
        conditions.append({"type": "PodReadyToStartContainers", "status": "False", "lastTransitionTime": since})
    annotations = dict(template["annotations"])
    if hash is not None:
        annotations["celeriac.dev/template-hash"] = hash
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{name}",
            "resourceVersion": "20",
            "creationTimestamp": ago(3600),
            "labels": {**template["labels"], "pod-template-hash": "5d8f7c"},
            "ownerReferences": [a_replica_set(pool)],
            "annotations": annotations,
            **({"deletionTimestamp": ago(1)} if deleting else {}),
        },
        "status": {
            "phase": "Pending" if setting_up_for is not None else "Running",
            "conditions": conditions,
            "containerStatuses": list(containers),
        },
    }


def some_facts(*, uid: str = "secret-uid", owner_uid: str = "", owner: str = "", **values: str) -> secrets.Facts:
    """What is known of a Secret with these values."""
    return secrets.Facts(
        exists=True,
        uid=uid,
        owner_uid=owner_uid,
        owner=owner,
        values={
            key: secrets.Value(
                digest=secrets.digest(uid, value.encode()),
                dsn=secrets.judge_dsn(value.encode()),
                is_webhook=secrets.is_webhook(value.encode()),
            )
            for key, value in values.items()
        },
    )


def seen(
    pool: CeleryWorkerPool,
    *,
    deployment: Mapping[str, Any] | None = None,
    budget: Mapping[str, Any] | Literal["as it should be"] | None = "as it should be",
    pods: Iterable[Mapping[str, Any]] = (),
    facts: Mapping[str, secrets.Facts] | None = None,
) -> Observed:
    """One pool at one moment."""
    if budget == "as it should be":
        budget = a_budget(pool) if disruption_budget.build(pool) else None
    return Observed(
        pool=pool,
        deployment=deployment,
        budget=budget,
        pods=tuple(observed.read_pod(pod) for pod in pods),
        secrets=facts or {},
    )


def a_case(
    what: Observed, *, plan: Plan | None = None, refusal: Refusal | None = None, later: float = 0, grace: float = 0
) -> Case:
    """What the rules evaluate, `later` seconds after now, with a grace period of `grace` seconds."""
    return Case(
        seen=what, plan=plan or Plan(), refusal=refusal, now=NOW + timedelta(seconds=later), grace_seconds=grace
    )
