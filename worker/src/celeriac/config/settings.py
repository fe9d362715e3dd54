"""(pure) Which Celery setting gets which value, and where does the value come from?

The first of these that has a value decides: the task's own attribute (Celery takes care of that), the pool's document,
the application's Celery configuration, Celeriac's default. `compute` turns a document into a list of settings to apply
to the application. It does not list settings that stay as the application has them.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celeriac import brokers
from celeriac.backoff import DEFAULT_INITIAL_SECONDS, DEFAULT_MAX_RETRIES, DEFAULT_MAX_SECONDS, Retry
from celeriac.config.contract import Config, Environment

DEFAULT_PREFETCH = 1
"""Messages held beyond the running ones: enough to hide one round trip, few enough to leave work for other workers."""
DEFAULT_LOG_LEVEL = "INFO"
WORKER_FORMAT = "[%(asctime)s:%(levelname)s] [%(task_name)s] %(message)s"
TASK_FORMAT = "[%(asctime)s:%(levelname)s] Task %(task_name)s[%(task_id)s]: %(message)s"
LONGEST_SOCKET_TIMEOUT_SECONDS = 5.0
SHORTEST_SOCKET_TIMEOUT_SECONDS = 2.0
"""A broker that accepts connections but does not reply counts as lost after a time between these limits. The time is a
fraction of the liveness limit of the consumer loop, because it is this loop that waits for the reply."""


class Source(enum.Enum):
    """Where a value comes from."""

    TASK = "task"
    """A task's own attribute."""
    POOL = "pool"
    """The CeleryWorkerPool."""
    APP = "app"
    """The application's Celery configuration."""
    DEFAULT = "celeriac"
    """Not set anywhere: Celeriac's default."""
    CELERY = "celery"
    """Not set anywhere: Celery's default."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One Celery setting to apply to the application's configuration."""

    name: str
    value: Any
    source: Source


Own = Mapping[str, Any]
"""The Celery settings that the application itself sets, read before anything is applied to it."""


def compute(config: Config, environment: Environment, own: Own) -> list[Setting]:
    """Return all settings to apply to the application's configuration, each once."""
    asked: dict[str, Any] = {
        "broker_url": environment.broker_url,
        "result_backend": environment.result_backend_url,
        "result_expires": config.result_backend.expires_seconds,
        "task_soft_time_limit": config.time_limits.soft_seconds,
        "task_time_limit": config.time_limits.hard_seconds,
        "worker_pool": config.worker.pool,  # Celery prefers the application's to `--pool prefork`
        "worker_concurrency": None if config.worker.concurrency_is_default else config.worker.concurrency,
        "worker_max_tasks_per_child": config.worker.max_tasks_per_child,
        "worker_max_memory_per_child": config.worker.max_memory_per_child_kib,
        "worker_disable_prefetch": None if config.worker.prefetch is None else config.worker.prefetch == 0,
        "broker_connection_max_retries": config.broker.max_retries,
        **_delivery_asked(config.delivery.mode),
    }
    defaults: dict[str, Any] = {
        # Workers of a pool always retry; the consumer decides how often and how long.
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "worker_concurrency": slots(config, own) if config.worker.concurrency_is_default else None,
        "worker_hijack_root_logger": None if config.logging.format == "App" else False,
        **_delivery_defaults(config.delivery.mode, asked, own),
        **_result_retries(retries(config, own)),
        "task_publish_retry_policy": _publish_retries(retries(config, own), environment.pod_name),
    }
    result = [Setting(name, value, Source.POOL) for name, value in asked.items() if value is not None]
    result += [
        Setting(name, value, Source.DEFAULT)
        for name, value in defaults.items()
        if value is not None and asked.get(name) is None and own.get(name) is None
    ]
    return result + _transport_options(config, environment, own)


def _delivery_asked(mode: str | None) -> dict[str, Any]:
    if mode == "AtLeastOnce":
        return {"task_acks_late": True, "task_reject_on_worker_lost": True}
    if mode == "AtMostOnce":
        return {"task_acks_late": False, "task_reject_on_worker_lost": False}
    return {}


def _delivery_defaults(mode: str | None, asked: Mapping[str, Any], own: Own) -> dict[str, Any]:
    """Return at-least-once delivery unless the pool or the application decides; mode `App` is a decision too."""
    if mode == "App":
        return {}
    acks_late = asked.get("task_acks_late", own.get("task_acks_late"))
    # A lost worker's message can be given back only if it is not yet acknowledged.
    return {"task_acks_late": True, "task_reject_on_worker_lost": True if acks_late is not False else None}


def _transport_options(config: Config, environment: Environment, own: Own) -> list[Setting]:
    """Return the time-outs of the broker's Redis client; options that the application sets itself take precedence."""
    if not brokers.of_url(
        environment.broker_url or own.get("broker_read_url") or own.get("broker_url"), own.get("broker_transport")
    ).is_redis:
        return []
    timeout = min(LONGEST_SOCKET_TIMEOUT_SECONDS, config.liveness.stalled_seconds / 8)
    timeout = max(SHORTEST_SOCKET_TIMEOUT_SECONDS, timeout)
    ours = {"socket_timeout": timeout, "socket_connect_timeout": min(5.0, timeout), "socket_keepalive": True}
    name = "broker_transport_options"
    return [Setting(name, {**ours, **(own.get(name) or {})}, Source.DEFAULT)]


def _result_retries(retry: Retry) -> dict[str, Any]:
    """Retry storing results for as long as the worker waits for its broker.

    If a result cannot be stored, Celery marks a finished task as failed. So storing a result must survive every outage
    that the worker itself survives. By default Celery retries only one of the several steps of storing a result.
    """
    return {
        "result_backend_always_retry": True,
        "result_backend_max_retries": retry.max_retries,
        "result_backend_base_sleep_between_retries_ms": int(retry.initial_seconds * 1000),
        "result_backend_max_sleep_between_retries_ms": int(retry.max_seconds * 1000),
    }


def _publish_retries(retry: Retry, pod_name: str) -> dict[str, Any]:
    """Retry publishing for as long as the worker waits for its broker.

    Without this, a task that calls other tasks would fail within a second of an outage that the worker itself survives.
    Celery's pauses grow in equal steps without jitter. So each pod gets a step of its own, and the pods of a pool do
    not all connect at once when the broker is back.
    """
    pace = 1 - zlib.crc32(pod_name.encode()) / 2**33
    return {
        "max_retries": retry.max_retries,
        "interval_start": retry.initial_seconds * pace,
        "interval_step": retry.initial_seconds * pace,
        "interval_max": retry.max_seconds * pace,
    }


def retries(config: Config, own: Own) -> Retry:
    """Return how the broker is retried: by the pool's values, else the application's limit, else the defaults."""
    limit: int | None = config.broker.max_retries
    if limit is None:
        said = own.get("broker_connection_max_retries")
        limit = DEFAULT_MAX_RETRIES if said is None else (said or None)  # Celery reads 0 as "forever"
    backoff = config.broker.retry_backoff_seconds
    return Retry(
        max_retries=limit,
        initial_seconds=backoff.initial if backoff else DEFAULT_INITIAL_SECONDS,
        max_seconds=backoff.max if backoff else DEFAULT_MAX_SECONDS,
    )


def slots(config: Config, own: Own) -> int:
    """Return how many tasks run at the same time: the pool's number, else the application's, else the default."""
    own_slots = own.get("worker_concurrency")
    if config.worker.concurrency_is_default and isinstance(own_slots, int) and own_slots > 0:
        return own_slots
    return config.worker.concurrency


def window(
    config: Config, own: Own, *, slots: int, acks_late: bool, is_inline: bool = False, largest_batch: int = 0
) -> int:
    """Return how many delivered but unacknowledged messages a worker of this application may hold at most.

    Args:
        config: the pool's document.
        own: what the application sets.
        slots: tasks that run at the same time.
        acks_late: whether a message is acknowledged when its task ends.
        is_inline: whether tasks run in the thread that takes messages (solo). Then the worker holds one message: while
            a task runs, messages behind it could not be given back. Batches hold more, because they need all their
            messages to start.
        largest_batch: messages that the largest batch of the application needs (celery-batches' `flush_every`).
    """
    if is_inline:
        return max(1, largest_batch)
    return prefetch_window(
        config,
        slots=slots,
        acks_late=acks_late,
        app_multiplier=own.get("worker_prefetch_multiplier"),
        app_disables=bool(own.get("worker_disable_prefetch")),
        largest_batch=largest_batch,
    )


def prefetch_window(
    config: Config,
    *,
    slots: int,
    acks_late: bool,
    app_multiplier: int | None,
    app_disables: bool = False,
    largest_batch: int = 0,
) -> int:
    """Return how many delivered but unacknowledged messages this worker may hold at most.

    A task that is acknowledged late counts while it runs; one that is acknowledged early does not. Without prefetch,
    the window is the number of slots, and Celery takes a message only when a slot is free.
    """
    prefetch = config.worker.prefetch
    if prefetch is None and app_disables:
        return slots
    if prefetch is None and app_multiplier is not None:
        return slots * app_multiplier
    if prefetch is None and largest_batch:
        return max(slots + DEFAULT_PREFETCH, slots * largest_batch)  # a batch for each slot: smaller, and none fills
    beyond = DEFAULT_PREFETCH if prefetch is None else prefetch
    return slots + beyond if acks_late or beyond == 0 else beyond


BEFORE_COMMAND = frozenset({"-C", "--no-color", "-q", "--quiet"})
"""Flags that `celery` accepts only before the name of the command."""


def celery_arguments(config: Config, environment: Environment, own: Own) -> list[str]:
    """Return the command line of Celery's worker, without the values that have a Celery setting."""
    arguments = [
        # Celery's banner has several lines, which would break logs in which each line is a JSON object.
        *(["--quiet"] if config.logging.format == "JSON" else []),
        *(it for it in config.worker.extra_args if it in BEFORE_COMMAND),
        "worker",
        f"--hostname={node_name(config, environment)}",
        f"--loglevel={config.logging.level or DEFAULT_LOG_LEVEL}",
        f"--concurrency={slots(config, own)}",
    ]
    if config.worker.pool is not None:
        arguments.append(f"--pool={config.worker.pool}")
    return [*arguments, *(it for it in config.worker.extra_args if it not in BEFORE_COMMAND)]


def node_name(config: Config, environment: Environment) -> str:
    """Return `<pool>@<pod>`, the name that Flower, `celery inspect` and the events show."""
    return f"{config.pool.name}@{environment.pod_name}"
