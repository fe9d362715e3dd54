"""What are the facts about an application and the machine that it runs on?"""

from __future__ import annotations

import logging
import os
from typing import Any, Final

from celeriac import brokers
from celeriac.config import application, installed, settings, together
from celeriac.config.application import Start
from celeriac.config.contract import POOLS, Config
from celeriac.config.settings import Own, Source
from celeriac.delivery import install
from celeriac.doctor import ancestry, effective, routing, rules
from celeriac.doctor.effective import Delivering, Effective
from celeriac.doctor.facts import Ancestor, Facts, TaskFacts
from celeriac.policies import misplaced

logger = logging.getLogger(__name__)

ATTRIBUTES: Final = {
    "acks_late": "task_acks_late",
    "reject_on_worker_lost": "task_reject_on_worker_lost",
    "time_limit": "task_time_limit",
    "soft_time_limit": "task_soft_time_limit",
    "rate_limit": "task_default_rate_limit",
    "ignore_result": "task_ignore_result",
}
"""Attributes that a task may declare, and the setting that applies to the other tasks."""


def read_facts(start: Start, ancestors: tuple[Ancestor, ...] = ()) -> Facts:
    """All facts that the rules use."""
    app, config, own = start.app, start.config, start.own
    broker = brokers.of_settings(app.conf)
    options = app.conf.broker_transport_options or {}
    timeout = options.get("visibility_timeout", broker.default_visibility_seconds)
    pool = _pool(config, own)
    return Facts(
        pool=pool,
        slots=settings.slots(config, own),
        broker=broker.transport,
        has_leases=broker.has_leases,
        notices_lost_consumers=broker.notices_lost_consumers,
        visibility_timeout_seconds=None if timeout is None else float(timeout),
        own_visibility_timeout_seconds=options.get("visibility_timeout"),
        lease_seconds=config.delivery.lease_seconds or install.DEFAULT_LEASE_SECONDS,
        promises_at_least_once=config.delivery.mode == "AtLeastOnce",
        window=_window(start) or None,
        held_beyond_running=_held_beyond_running(start),
        drain_seconds=config.drain.timeout_seconds,
        tasks=tuple(_task(app, task) for task in _own_tasks(app)),
        wrong_policies=tuple(misplaced.problems(_own_tasks(app))),
        ancestors=ancestors,
        consumed=routing.read_consumed(app, config),
        destinations=routing.read_destinations(app, _own_tasks(app)),
        routes_problem=routing.read_problem(app),
        versions=installed.releases(rules.OLDEST),
        refused_by_kombu=together.refused_by_kombu() if broker.has_leases else "",
    )


def read_settings(start: Start) -> list[Effective]:
    """All settings that are in effect, those of single tasks last."""
    app, config, own = start.app, start.config, start.own
    delivering = Delivering(
        has_leases=brokers.of_settings(app.conf).has_leases,
        default_lease_seconds=install.DEFAULT_LEASE_SECONDS,
        default_max_deliveries=install.DEFAULT_MAX_DELIVERIES,
        held_at_most=_window(start),
    )
    values = {name: app.conf.get(name) for name in effective.CELERYS}
    found = effective.compute(config, own, start.laid, values, delivering)
    consumed, destinations = routing.read_consumed(app, config), routing.read_destinations(app, _own_tasks(app))
    return [*found, *effective.compute_queues(own, consumed, destinations), *_declared(app)]


def warn(start: Start) -> list[rules.Finding]:
    """Log each finding once when a worker starts, and return the findings."""
    # Outside a pod many harmless processes are ancestors of a worker: a shell, a test, a service manager.
    ancestors = ancestry.above(os.getpid()) if start.environment.pod_uid else ()
    found = rules.findings(read_facts(start, ancestors))
    for finding in found:
        if finding.code == "leases-off" and start.app.conf.broker_transport:
            continue  # the delivery has already logged this
        logger.warning("doctor: %s (%s)", finding.message, finding.code)
    return found


def _own_tasks(app: Any) -> list[Any]:
    """The application's tasks, without those that every Celery application has."""
    return [task for name, task in sorted(app.tasks.items()) if not name.startswith("celery.")]


def _task(app: Any, task: Any) -> TaskFacts:
    # A task may not have these attributes until it is used. Until then the settings apply.
    def of(attribute: str) -> Any:
        value = getattr(task, attribute, None)
        return app.conf.get(ATTRIBUTES[attribute]) if value is None else value

    return TaskFacts(
        name=task.name,
        acks_late=bool(of("acks_late")),
        reject_on_worker_lost=bool(of("reject_on_worker_lost")),
        hard_limit_seconds=of("time_limit"),
        soft_limit_seconds=of("soft_time_limit"),
        longest_retry_delay_seconds=_longest_retry_delay(task),
        batch=application.batch_of(task),
    )


def _longest_retry_delay(task: Any) -> float:
    if task.max_retries == 0:
        return 0
    return float(task.default_retry_delay or 0)


def _declared(app: Any) -> list[Effective]:
    return [
        Effective(name=setting, value=getattr(task, attribute), source=Source.TASK, task=task.name)
        for task in _own_tasks(app)
        for attribute, setting in ATTRIBUTES.items()
        if application.declares(type(task), attribute)
    ]


def _window(start: Start) -> int:
    """Maximum number of messages that the worker holds; 0 means no limit, as in Celery."""
    return settings.window(
        start.config,
        start.own,
        slots=settings.slots(start.config, start.own),
        acks_late=bool(start.app.conf.task_acks_late),
        is_inline=_pool(start.config, start.own) == "solo",
        largest_batch=application.largest_batch(start.app),
    )


def _held_beyond_running(start: Start) -> int | None:
    window, slots = _window(start), settings.slots(start.config, start.own)
    if not window:
        return None
    # A task that is acknowledged early does not count against the window while it runs.
    return max(0, window - slots) if start.app.conf.task_acks_late or start.config.worker.prefetch == 0 else window


def _pool(config: Config, own: Own) -> str:
    said = str(config.worker.pool or own.get("worker_pool") or "prefork")
    return next((name for name in POOLS if name in said), said)  # an application may name the class
