"""(pure) Which labels and annotations does the operator read or write? The reference page is generated from the
texts."""

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
RESTART = "celeriac.dev/restart"
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
    NAME: f"`{WORKER_NAME}` on all objects of a pool's workers",
    INSTANCE: "the pool's name",
    MANAGED_BY: f"`{MANAGER}`; the operator watches only objects with this label",
    COMPONENT: "`worker`",
    POOL: f"the pool's name; with `{NAME}` it selects the pool's pods",
}
"""Labels on owned objects and worker pods."""

ANNOTATIONS: Mapping[str, str] = {
    TEMPLATE_HASH: "on worker pods: a hash of the pod template as the operator built it; it tells pods of the newest "
    "template from older ones",
    SECRETS_DIGEST: "on worker pods: a digest of the broker and result backend URLs in their Secrets. When a URL "
    "changes, the digest changes, and the workers are replaced, because the environment of a running container is "
    "fixed. The digest is salted with the Secret's uid, so the URL cannot be guessed from it",
    LIBRARY_IMAGE: "on the Deployment: the image that the worker library is injected from; an upgrade of the operator "
    "keeps it until the pool's own template changes",
    UPGRADE_LIBRARY: "on the pool, set by you: `now` moves the workers to the library of the running operator at once, "
    "and at each later upgrade while the annotation is set",
    RESTART: "on the pool, set by you: a new value, such as the current time, replaces all workers by a rolling "
    "update; the value is copied to the worker pods",
    PAUSE_SCALING: "on a pool with `autoscaling`, set by you: `in` prevents scaling in, `out` prevents scaling out, "
    "`both` prevents both; the pause also overrides the minimum and the maximum",
    DELETION_COST: "on worker pods: set before a scale-down, so that Kubernetes removes idle workers first, and the "
    "newest of several idle ones; a value that another manager has set is kept",
}
"""Annotations, on the objects that the text names."""


def selector(pool: CeleryWorkerPool) -> dict[str, str]:
    """Labels that select the pool's pods. A Deployment's selector can never be changed."""
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
    """The direction in which the pool's annotation pauses scaling; None: it has no such annotation.

    An unknown value pauses both directions: its author wanted a pause, and the condition lists the valid values.
    """
    value = pool.metadata.annotations.get(PAUSE_SCALING)
    if value is None:
        return None
    return Pause(value) if value in set(Pause) else Pause.BOTH


def as_selector(labels: Mapping[str, str]) -> str:
    """Labels in the form that the API and the scale subresource take."""
    return ",".join(f"{key}={value}" for key, value in labels.items())


WATCHED = as_selector({MANAGED_BY: MANAGER})
"""The label selector of the operator's watches on owned objects."""
