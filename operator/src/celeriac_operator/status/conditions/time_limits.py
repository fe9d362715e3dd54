"""(pure) What enforces the time limits of tasks?

Celery enforces both limits on prefork, and the hard limit on gevent as far as a task yields. On other pools the
liveness probe enforces the hard limit: the worker reports a task that has exceeded it, and its container is restarted.
SoftTimeLimitExceeded can be raised in a task on prefork only.
"""

from __future__ import annotations

from celeriac_operator.reasons import LimitReason, Type
from celeriac_operator.status.case import Case
from celeriac_operator.status.conditions.statement import Statement

BY_CELERY = ("prefork", "gevent")
"""Pools on which Celery itself enforces the hard limit."""

SOFT_TOO = "prefork"


def enforced(case: Case) -> Statement | None:
    """The condition TimeLimitsEnforced; None: the pool sets no limit."""
    limits, pool = case.seen.pool.spec.time_limits, case.seen.pool.spec.worker.pool
    if limits is None or (limits.soft_seconds is None and limits.hard_seconds is None):
        return None
    has_soft, has_hard = limits.soft_seconds is not None, limits.hard_seconds is not None
    if pool is None:
        return _as_the_application_says(has_soft=has_soft)
    hard = LimitReason.BY_CELERY if pool in BY_CELERY else LimitReason.BY_PROBE
    if has_soft and pool != SOFT_TOO:
        rest = f"; hardSeconds is enforced {_by(hard)}" if has_hard else ""
        message = f"softSeconds has no effect on pool {pool}, only on prefork{rest}"
        return Statement(Type.TIME_LIMITS_ENFORCED, "False", LimitReason.POOL_UNSUPPORTED, message)
    return Statement(Type.TIME_LIMITS_ENFORCED, "True", hard, _by(hard))


def _as_the_application_says(*, has_soft: bool) -> Statement:
    if has_soft:
        message = (
            "worker.pool is not set: softSeconds has an effect if the application uses prefork, Celery's default, and "
            "none if its worker_pool is another pool"
        )
        return Statement(Type.TIME_LIMITS_ENFORCED, "Unknown", LimitReason.APPLICATIONS_POOL, message)
    message = (
        f"{_by(LimitReason.BY_CELERY)}, or where the application's worker_pool cannot, {_by(LimitReason.BY_PROBE)}"
    )
    return Statement(Type.TIME_LIMITS_ENFORCED, "True", LimitReason.APPLICATIONS_POOL, message)


def _by(reason: LimitReason) -> str:
    if reason is LimitReason.BY_CELERY:
        return "by Celery"
    return "by the liveness probe, which restarts the container of a task that exceeds the limit"
