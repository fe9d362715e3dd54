"""(pure) What are the operator's objects, containers, volumes and field managers called? Names are built here only."""

from __future__ import annotations

from celeriac_operator.resource import CeleryWorkerPool

FIELD_MANAGER = "celeriac"
"""Field manager of the operator's server-side applies. With another name it would lose the ownership of its fields."""

SCALER = "celeriac-scaler"
"""Field manager with which the autoscaler writes a pool's replicas. It appears in audit logs only: Kubernetes records
no manager for writes through the scale subresource of a custom resource (seen in 1.35)."""

WORKER_CONTAINER = "worker"
"""Name of the worker's container. Pools patch it by this name in `template`, so it is part of the API."""

INJECT_CONTAINER = "celeriac-inject"
LIBRARY_VOLUME = "celeriac"
SENTRY_VOLUME = "celeriac-sentry"
SLACK_VOLUME = "celeriac-slack"
HEALTH_PORT = "celeriac"

LIBRARY_PATH = "/celeriac"
COMMAND = "celeriac"
COMMAND_FILE = f"/usr/local/bin/{COMMAND}"
SENTRY_PATH = "/run/celeriac/sentry"
SENTRY_KEY = "dsn"
DSN_FILE = f"{SENTRY_PATH}/{SENTRY_KEY}"
SLACK_PATH = "/run/celeriac/slack"
SLACK_KEY = "webhook"
WEBHOOK_FILE = f"{SLACK_PATH}/{SLACK_KEY}"


def deployment(pool: CeleryWorkerPool) -> str:
    """Name of the pool's Deployment: the pool's own, where people look first."""
    return pool.metadata.name


def disruption_budget(pool: CeleryWorkerPool) -> str:
    """Name of the pool's PodDisruptionBudget."""
    return pool.metadata.name


def sentry_secret(pool: CeleryWorkerPool) -> str:
    """Name of the Secret that holds an inline DSN."""
    return f"{pool.metadata.name}-sentry"
