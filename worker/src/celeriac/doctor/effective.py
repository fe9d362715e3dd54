"""(pure) Which settings are in effect, and where does each value come from?

The nearest source takes precedence: the task, the pool, the application, Celeriac's default, and then Celery's default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from celeriac.config import settings, standalone
from celeriac.config.contract import Config
from celeriac.config.settings import Own, Setting, Source
from celeriac.exits import scrub

CELERYS: Final = (
    "broker_url",
    "broker_connection_retry",
    "broker_connection_max_retries",
    "result_backend",
    "result_expires",
    "task_acks_late",
    "task_reject_on_worker_lost",
    "task_soft_time_limit",
    "task_time_limit",
    "worker_concurrency",
    "worker_disable_prefetch",
    "worker_max_tasks_per_child",
    "worker_max_memory_per_child",
    "worker_hijack_root_logger",
)
"""The Celery settings on which this library's promises depend."""
URLS: Final = frozenset({"broker_url", "result_backend"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """One setting that is in effect."""

    name: str
    value: Any
    source: Source
    task: str | None = None
    """The only task that the setting is for; `None`: all tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivering:
    """How the transport delivers messages."""

    has_leases: bool
    default_lease_seconds: int
    default_max_deliveries: int
    held_at_most: int
    """Maximum number of messages that are delivered and not acknowledged."""


def compute(
    config: Config, own: Own, laid: Sequence[Setting], values: Mapping[str, Any], delivering: Delivering
) -> list[Effective]:
    """All settings of the worker, Celery's first; passwords are left out of URLs.

    Args:
        config: the pool's document.
        own: the settings of the application.
        laid: the settings that have replaced them.
        values: Celery's settings that are in effect.
        delivering: how the transport delivers messages.
    """
    by_name = {setting.name: setting.source for setting in laid}
    found = [
        Effective(name=name, value=_shown(name, values.get(name)), source=_source(name, by_name, own))
        for name in CELERYS
    ]
    found.append(_first("worker_pool", (config.worker.pool, Source.POOL), (own.get("worker_pool"), Source.APP)))
    if found[-1].value is None:
        found[-1] = Effective(name="worker_pool", value="prefork", source=Source.CELERY)
    return [*found, *_celeriacs(config, own, delivering)]


def compute_queues(own: Own, consumed: Sequence[str], destinations: Mapping[str, Sequence[str]]) -> list[Effective]:
    """A row for each queue to which calls without options go: number of tasks, and whether it is consumed here."""
    source = Source.APP if own.get("task_routes") or own.get("task_default_queue") else Source.CELERY
    return [
        Effective(
            name=f"tasks sent to {queue}",
            value=f"{len(tasks)} ({'consumed here' if queue in consumed else 'not consumed here'})",
            source=source,
        )
        for queue, tasks in destinations.items()
    ]


def _celeriacs(config: Config, own: Own, delivering: Delivering) -> list[Effective]:
    """Settings that Celery does not have, under their names in the pool."""
    logging, delivery = config.logging, config.delivery
    backoff = settings.retries(config, own)
    backoff_source = Source.POOL if config.broker.retry_backoff_seconds else Source.DEFAULT
    held_source = Source.POOL if config.worker.prefetch is not None else Source.DEFAULT
    if held_source is Source.DEFAULT and own.get("worker_prefetch_multiplier") is not None:
        held_source = Source.APP
    rows = [
        _pools("app", config.app),
        _first("queues", (_listed(config.queues), Source.POOL), (None, Source.APP)),
        Effective(name="messages held at most", value=delivering.held_at_most, source=held_source),
        _resolved("drain.timeoutSeconds", config.drain.timeout_seconds, standalone.DEFAULT_DRAIN_SECONDS),
        _resolved("liveness.stalledSeconds", config.liveness.stalled_seconds, standalone.DEFAULT_STALLED_SECONDS),
        _resolved("liveness.port", config.liveness.port, standalone.DEFAULT_PORT),
        Effective(
            name="broker.retryBackoffSeconds",
            value=f"{backoff.initial_seconds:g} to {backoff.max_seconds:g}",
            source=backoff_source,
        ),
        _first("logging.level", (logging.level, Source.POOL), (settings.DEFAULT_LOG_LEVEL, Source.DEFAULT)),
        _first("logging.format", (logging.format, Source.POOL), ("Text", Source.DEFAULT)),
        _format("logging.workerFormat", logging.worker_format, own.get("worker_log_format"), settings.WORKER_FORMAT),
        _format("logging.taskFormat", logging.task_format, own.get("worker_task_log_format"), settings.TASK_FORMAT),
    ]
    if delivering.has_leases:
        lease, most = delivering.default_lease_seconds, delivering.default_max_deliveries
        rows += [
            _first("delivery.leaseSeconds", (delivery.lease_seconds, Source.POOL), (lease, Source.DEFAULT)),
            _first("delivery.maxDeliveries", (delivery.max_deliveries, Source.POOL), (most, Source.DEFAULT)),
        ]
    if config.sentry is not None:
        rows.append(_pools("sentry.dsnFile", config.sentry.dsn_file))
    return rows


def _resolved(name: str, value: Any, default: Any) -> Effective:
    """A setting that the document always contains. If the value is the default, it counts as not set."""
    return Effective(name=name, value=value, source=Source.DEFAULT if value == default else Source.POOL)


def _pools(name: str, value: Any) -> Effective:
    return Effective(name=name, value=value, source=Source.POOL)


def _first(name: str, *words: tuple[Any, Source]) -> Effective:
    value, source = next(((value, source) for value, source in words if value is not None), (None, words[-1][1]))
    return Effective(name=name, value=value, source=source)


def _format(name: str, pools: str | None, apps: Any, default: str) -> Effective:
    return _first(name, (pools, Source.POOL), (apps, Source.APP), (default, Source.DEFAULT))


def _source(name: str, laid: Mapping[str, Source], own: Own) -> Source:
    return laid.get(name) or (Source.APP if own.get(name) is not None else Source.CELERY)


def _shown(name: str, value: Any) -> Any:
    if name in URLS and value is not None:
        return scrub(str(value))
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _listed(values: Sequence[str] | None) -> str | None:
    return None if values is None else ", ".join(values)
