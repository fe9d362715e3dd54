"""(pure) The three probes of a worker, all over HTTP and answered by the worker itself: none of them costs a process.

Liveness fails only for what a restart cures, readiness means consuming, startup covers slow imports.
"""

from __future__ import annotations

from typing import Any

from celeriac_operator import names
from celeriac_operator.resource import Liveness

STARTUP_PERIOD_SECONDS = 2
STARTUP_SECONDS = 600
"""How long an application may take to import; a worker that fails at it exits by itself, at once."""

READINESS_PERIOD_SECONDS = 5
READINESS_FAILURES = 2

TIMEOUT_SECONDS = 5
"""A worker whose cores are all taken by tasks answers late; that is no reason to restart it."""

HUNG_GRACE_SECONDS = 10
"""A hung worker cannot drain: without this the kubelet would wait for the pod's whole grace period, minutes."""


def build(liveness: Liveness) -> dict[str, Any]:
    """The probes' entries of the worker's container."""
    live = {"httpGet": _get("/livez"), "timeoutSeconds": TIMEOUT_SECONDS}
    return {
        "startupProbe": {
            **live,
            "periodSeconds": STARTUP_PERIOD_SECONDS,
            "failureThreshold": STARTUP_SECONDS // STARTUP_PERIOD_SECONDS,
            "terminationGracePeriodSeconds": HUNG_GRACE_SECONDS,
        },
        "livenessProbe": {
            **live,
            "periodSeconds": liveness.period_seconds,
            "failureThreshold": liveness.failure_threshold,
            "terminationGracePeriodSeconds": HUNG_GRACE_SECONDS,
        },
        "readinessProbe": {
            "httpGet": _get("/readyz"),
            "timeoutSeconds": TIMEOUT_SECONDS,
            "periodSeconds": READINESS_PERIOD_SECONDS,
            "failureThreshold": READINESS_FAILURES,
        },
    }


def _get(path: str) -> dict[str, Any]:
    # By name: a template that moves the port moves the probes with it.
    return {"path": path, "port": names.HEALTH_PORT, "scheme": "HTTP"}
