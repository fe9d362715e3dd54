"""What is the resource as a whole? Its names, its printer columns, and the object that the API server returns."""

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

# A pod is named <pool>-<ReplicaSet's hash, 10>-<suffix, 5>, and a host name has at most 63 characters.
MAX_NAME_LENGTH = 63 - len("-0123456789-01234")

# Name, JSON path, type, priority (1: only with -o wide), description.
COLUMNS: tuple[tuple[str, str, str, int, str], ...] = (
    ("Ready", ".status.ready", "string", 0, "Ready and desired workers"),
    ("Draining", ".status.draining", "integer", 0, "Workers that finish their tasks before they are removed"),
    ("Backlog", ".status.backlog", "integer", 0, "Waiting messages in the pool's queues"),
    ("Oldest", ".status.oldestMessageTime", "date", 0, "How long the oldest waiting message has waited"),
    ("Status", '.status.conditions[?(@.type=="Ready")].reason', "string", 0, "Reason of the condition Ready"),
    ("Age", ".metadata.creationTimestamp", "date", 0, "Time since the pool was created"),
    ("Queues", ".spec.queues", "string", 1, "Queues that the pool names"),
    ("Image", ".status.imageName", "string", 1, "The application's image, without its registry"),
    (
        "Scaling",
        '.status.conditions[?(@.type=="ScalingActive")].reason',
        "string",
        1,
        "Reason of the condition ScalingActive",
    ),
    ("Library", ".status.libraryVersion", "string", 1, "Version of the worker library"),
    ("Message", '.status.conditions[?(@.type=="Ready")].message', "string", 1, "Message of the condition Ready"),
)


class Metadata(Model):
    """The part of an object's metadata that the operator reads. Not in the CRD, because the API server defines it."""

    name: str
    namespace: str
    uid: str
    generation: int = 1
    resource_version: str = ""
    annotations: Annotated[dict[str, str], Field(default_factory=dict)]
    deletion_timestamp: str | None = None


class CeleryWorkerPool(Model):
    """A pool of Celery workers: a Deployment whose pods run celery worker. Hung workers are restarted; workers that are
    removed drain first."""

    model_config = rules(
        Rule(
            cel=f"self.metadata.name.size() <= {MAX_NAME_LENGTH}",
            message=f"the name of a pool can have at most {MAX_NAME_LENGTH} characters: its pods' names start with it",
        )
    )

    metadata: Annotated[Metadata, Field(exclude=True)]
    spec: Spec
    """The desired state."""
    status: Annotated[Status, Field(default_factory=Status)]
    """The observed state. Written by the operator only."""

    @classmethod
    def parse(cls, manifest: dict[str, Any]) -> CeleryWorkerPool:
        """Read an object as the API server returns it.

        Raises:
            pydantic.ValidationError: the object does not fit the models; the CRD of this version would refuse it.
        """
        return cls.model_validate(manifest)
