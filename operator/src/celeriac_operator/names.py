"""(pure) The name of every object and container that the operator makes. No name is built anywhere else."""

from __future__ import annotations

from celeriac_operator.resource import CeleryWorkerPool

FIELD_MANAGER = "celeriac"
"""Under this name the operator owns fields in server-side apply; changing it would orphan every field it owns."""

SCALER = "celeriac-scaler"
"""Under this name the autoscaler writes a pool's replicas. Audit logs show it; the pool itself does not, for
Kubernetes notes no manager for what comes through the scale subresource of a custom resource (seen in 1.35)."""

WORKER_CONTAINER = "worker"
"""The container that a pool's `template` patches by this name: part of the API."""

INJECT_CONTAINER = "celeriac-inject"
LIBRARY_VOLUME = "celeriac"
SENTRY_VOLUME = "celeriac-sentry"
SLACK_VOLUME = "celeriac-slack"
HEALTH_PORT = "celeriac"

LIBRARY_PATH = "/celeriac"
SENTRY_PATH = "/run/celeriac/sentry"
SENTRY_KEY = "dsn"
DSN_FILE = f"{SENTRY_PATH}/{SENTRY_KEY}"
SLACK_PATH = "/run/celeriac/slack"
SLACK_KEY = "webhook"
WEBHOOK_FILE = f"{SLACK_PATH}/{SLACK_KEY}"


def deployment(pool: CeleryWorkerPool) -> str:
    """The pool's Deployment has the pool's name: what people look for first."""
    return pool.metadata.name


def disruption_budget(pool: CeleryWorkerPool) -> str:
    """The pool's PodDisruptionBudget has the pool's name, too."""
    return pool.metadata.name


def sentry_secret(pool: CeleryWorkerPool) -> str:
    """The Secret that holds an inline DSN."""
    return f"{pool.metadata.name}-sentry"
