"""The resource as a whole: its names, its columns, and the object that the API server hands out."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from celeriac_operator.resource.base import Model, Rule, rules
from celeriac_operator.resource.spec import Spec
from celeriac_operator.resource.status import Status

GROUP = "celeriac.dev"
VERSION = "v1alpha1"
KIND = "CeleryWorkerPool"
PLURAL = "celeryworkerpools"
SINGULAR = "celeryworkerpool"
SHORT_NAMES = ("cwp",)
CATEGORIES = ("celery",)

# A pod is called <pool>-<ReplicaSet's hash, 10>-<suffix, 5> and a name that is also a host name ends at 63.
MAX_NAME_LENGTH = 63 - len("-0123456789-01234")

# Name, JSON path, type, priority (1: only with -o wide), description.
COLUMNS: tuple[tuple[str, str, str, int, str], ...] = (
    ("Ready", ".status.ready", "string", 0, "Ready and desired workers"),
    ("Desired", ".status.desiredReplicas", "integer", 0, "Workers that the operator asks for"),
    ("Backlog", ".status.backlog", "integer", 0, "Messages that wait, with autoscaling"),
    ("Status", '.status.conditions[?(@.type=="Ready")].reason', "string", 0, "Reason of the condition Ready"),
    ("Age", ".metadata.creationTimestamp", "date", 0, "Time since the pool was created"),
    ("Queues", ".spec.queues", "string", 1, "Queues that the pool names"),
    ("Image", ".spec.image", "string", 1, "The application's image"),
    (
        "Scaling",
        '.status.conditions[?(@.type=="ScalingActive")].reason',
        "string",
        1,
        "Reason of the condition ScalingActive",
    ),
    ("Library", ".status.library", "string", 1, "Image of the worker library"),
    ("Message", '.status.conditions[?(@.type=="Ready")].message', "string", 1, "Message of the condition Ready"),
)


class Metadata(Model):
    """The part of an object's metadata that the operator reads. Not in the CRD: the API server knows it."""

    name: str
    namespace: str
    uid: str
    generation: int = 1
    resource_version: str = ""
    annotations: Annotated[dict[str, str], Field(default_factory=dict)]
    deletion_timestamp: str | None = None


class CeleryWorkerPool(Model):
    """A pool of Celery workers: one Deployment whose pods run celery worker, restarted when they hang, drained when
    they leave."""

    model_config = rules(
        Rule(
            cel=f"self.metadata.name.size() <= {MAX_NAME_LENGTH}",
            message=f"the name of a pool has at most {MAX_NAME_LENGTH} characters: its pods' names start with it",
        )
    )

    metadata: Annotated[Metadata, Field(exclude=True)]
    spec: Spec
    """What you ask for."""
    status: Annotated[Status, Field(default_factory=Status)]
    """What is. Written by the operator only."""

    @classmethod
    def parse(cls, manifest: dict[str, Any]) -> CeleryWorkerPool:
        """Read an object as the API server hands it out.

        Raises:
            pydantic.ValidationError: the object does not fit the models, which the CRD of this version would refuse.
        """
        return cls.model_validate(manifest)
