"""(pure) Every label and annotation that the operator writes or reads, each with its meaning for the reference page."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from celeriac_operator.resource import CeleryWorkerPool

NAME = "app.kubernetes.io/name"
INSTANCE = "app.kubernetes.io/instance"
MANAGED_BY = "app.kubernetes.io/managed-by"
COMPONENT = "app.kubernetes.io/component"
POOL = "celeriac.dev/pool"

TEMPLATE_HASH = "celeriac.dev/template-hash"
SECRETS_DIGEST = "celeriac.dev/secrets-digest"
LIBRARY_IMAGE = "celeriac.dev/library-image"
UPGRADE_LIBRARY = "celeriac.dev/upgrade-library"
PAUSE_SCALING = "celeriac.dev/pause-scaling"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"

WORKER_NAME = "celeriac-worker"
MANAGER = "celeriac"


class Pause(enum.StrEnum):
    """Values of the annotation `celeriac.dev/pause-scaling`: the direction in which the number does not move."""

    IN = "in"
    OUT = "out"
    BOTH = "both"


LABELS: Mapping[str, str] = {
    NAME: f"`{WORKER_NAME}` on everything that belongs to a pool's workers",
    INSTANCE: "the pool's name",
    MANAGED_BY: f"`{MANAGER}`; the operator watches only objects with this label",
    COMPONENT: "`worker`",
    POOL: f"the pool's name; with `{NAME}` it selects the pool's pods",
}
"""Labels on owned objects and worker pods."""

ANNOTATIONS: Mapping[str, str] = {
    TEMPLATE_HASH: "on worker pods: a hash of the pod template as the operator made it; tells pods of the newest "
    "template from older ones",
    SECRETS_DIGEST: "on worker pods: changes when the broker's or result backend's URL in its Secret changes, and so "
    "replaces the workers, whose environment is fixed; a digest with the Secret's own identity, which says nothing "
    "about the URL",
    LIBRARY_IMAGE: "on the Deployment: the image that the worker library is injected from; an operator upgrade leaves "
    "it alone until the pool's own template changes",
    UPGRADE_LIBRARY: "on the pool, written by you: `now` moves the workers to the running operator's library at once, "
    "and keeps them there for as long as the annotation stays",
    PAUSE_SCALING: "on a pool with `autoscaling`, written by you: `in` keeps workers from becoming fewer, `out` from "
    "becoming more, `both` holds the number; minimum and maximum do not move it either",
    DELETION_COST: "on worker pods: written before a pool shrinks, so that Kubernetes takes idle workers first, and "
    "the newest among equals; one that somebody else has set stays",
}
"""Annotations, on the object that the text names."""


def selector(pool: CeleryWorkerPool) -> dict[str, str]:
    """What tells the pool's pods from all others. A Deployment's selector can never be changed."""
    return {NAME: WORKER_NAME, POOL: pool.metadata.name}


def owned(pool: CeleryWorkerPool) -> dict[str, str]:
    """Labels of every owned object and worker pod."""
    return {
        NAME: WORKER_NAME,
        INSTANCE: pool.metadata.name,
        MANAGED_BY: MANAGER,
        COMPONENT: "worker",
        POOL: pool.metadata.name,
    }


def pause(pool: CeleryWorkerPool) -> Pause | None:
    """The direction in which the pool's annotation holds the number. A word that means nothing holds both: whoever
    wrote it wanted something held, and the condition says which words there are."""
    word = pool.metadata.annotations.get(PAUSE_SCALING)
    if word is None:
        return None
    return Pause(word) if word in set(Pause) else Pause.BOTH


def as_selector(labels: Mapping[str, str]) -> str:
    """Labels in the form that the API and the scale subresource take."""
    return ",".join(f"{key}={value}" for key, value in labels.items())


WATCHED = as_selector({MANAGED_BY: MANAGER})
"""The label selector of the operator's watches on owned objects."""
