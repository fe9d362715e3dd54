"""(pure) Which Celery setting gets which value, and where does the value come from?

In this order: what a task declares on itself (Celery sees to that), then the pool's document, then the
application's own Celery configuration, then Celeriac's default. `compute` turns a document into a list of settings
to lay over the application's; what it leaves out stays as the application has it.
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
"""Messages held beyond the running ones: enough to hide a round trip, few enough to leave work to others."""
DEFAULT_LOG_LEVEL = "INFO"
WORKER_FORMAT = "[%(asctime)s:%(levelname)s] [%(task_name)s] %(message)s"
TASK_FORMAT = "[%(asctime)s:%(levelname)s] Task %(task_name)s[%(task_id)s]: %(message)s"
LONGEST_SOCKET_TIMEOUT_SECONDS = 5.0
SHORTEST_SOCKET_TIMEOUT_SECONDS = 2.0
"""A broker that takes connections and answers nothing counts as lost after a time between these two: a part of the time
in which the consumer loop has to come round, since it is that loop which waits."""


class Source(enum.Enum):
    """Where a value comes from."""

    TASK = "task"
    """A task's own attribute."""
    POOL = "pool"
    """The CeleryWorkerPool."""
    APP = "app"
    """The application's Celery configuration."""
    DEFAULT = "celeriac"
    """Nobody sets it: Celeriac's default."""
    CELERY = "celery"
    """Nobody sets it: Celery's default."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One Celery setting to lay over the application's configuration."""

    name: str
    value: Any
    source: Source


Own = Mapping[str, Any]
"""What the application itself says, read before anything is laid over it: Celery's settings, only those it sets."""


def compute(config: Config, environment: Environment, own: Own) -> list[Setting]:
    """All settings to lay over the application's configuration, each once."""
    asked: dict[str, Any] = {
        "broker_url": environment.broker_url,
        "result_backend": environment.result_backend_url,
        "result_expires": config.result_backend.expires_seconds,
        "task_soft_time_limit": config.time_limits.soft_seconds,
        "task_time_limit": config.time_limits.hard_seconds,
        "worker_pool": config.worker.pool,  # Celery prefers the application's to a command line that says prefork
        "worker_concurrency": None if config.worker.concurrency_is_default else config.worker.concurrency,
        "worker_max_tasks_per_child": config.worker.max_tasks_per_child,
        "worker_max_memory_per_child": config.worker.max_memory_per_child_kib,
        "worker_disable_prefetch": None if config.worker.prefetch is None else config.worker.prefetch == 0,
        "broker_connection_max_retries": config.broker.max_retries,
        **_delivery_asked(config.delivery.mode),
    }
    defaults: dict[str, Any] = {
        # Retrying is what a pool is for; how often and how long is decided by the consumer.
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
    """At-least-once where neither the pool nor the application has decided; `App` is a decision too."""
    if mode == "App":
        return {}
    acks_late = asked.get("task_acks_late", own.get("task_acks_late"))
    # Giving a lost worker's message back is only possible while it is not acknowledged.
    return {"task_acks_late": True, "task_reject_on_worker_lost": True if acks_late is not False else None}


def _transport_options(config: Config, environment: Environment, own: Own) -> list[Setting]:
    """Time-outs of the broker's Redis client, under the options that the application sets itself."""
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
    """Store results as patiently as the broker is waited for.

    A result that cannot be stored makes Celery call a finished task failed, so storing one must outlast an outage that
    the worker itself outlasts. By default Celery tries again only at one of the several steps of it.
    """
    return {
        "result_backend_always_retry": True,
        "result_backend_max_retries": retry.max_retries,
        "result_backend_base_sleep_between_retries_ms": int(retry.initial_seconds * 1000),
        "result_backend_max_sleep_between_retries_ms": int(retry.max_seconds * 1000),
    }


def _publish_retries(retry: Retry, pod_name: str) -> dict[str, Any]:
    """Publish as patiently as the broker is waited for.

    A task that passes work on would fail within a second of an outage that the worker itself outlasts. Celery's pauses
    grow by steps without jitter, so each pod has a pace of its own: a pool whose broker comes back does not
    connect all at once.
    """
    pace = 1 - zlib.crc32(pod_name.encode()) / 2**33
    return {
        "max_retries": retry.max_retries,
        "interval_start": retry.initial_seconds * pace,
        "interval_step": retry.initial_seconds * pace,
        "interval_max": retry.max_seconds * pace,
    }


def retries(config: Config, own: Own) -> Retry:
    """How the broker is retried: as the pool says, else the application's limit, else the defaults."""
    limit: int | None = config.broker.max_retries
    if limit is None:
        said = own.get("broker_connection_max_retries")
        limit = DEFAULT_MAX_RETRIES if said is None else (said or None)  # Celery reads 0 as "for ever"
    backoff = config.broker.retry_backoff_seconds
    return Retry(
        max_retries=limit,
        initial_seconds=backoff.initial if backoff else DEFAULT_INITIAL_SECONDS,
        max_seconds=backoff.max if backoff else DEFAULT_MAX_SECONDS,
    )


def slots(config: Config, own: Own) -> int:
    """How many tasks run at the same time: the pool's number, else the application's, else the default."""
    own_slots = own.get("worker_concurrency")
    if config.worker.concurrency_is_default and isinstance(own_slots, int) and own_slots > 0:
        return own_slots
    return config.worker.concurrency


def window(
    config: Config, own: Own, *, slots: int, acks_late: bool, is_inline: bool = False, largest_batch: int = 0
) -> int:
    """How many delivered and unacknowledged messages a worker of this application may hold at most.

    Args:
        config: the pool's document.
        own: what the application sets.
        slots: tasks that run at the same time.
        acks_late: whether a message is acknowledged when its task ends.
        is_inline: tasks run in the thread that takes messages (solo). It holds one message: while a task runs nobody
            could give back what waits behind it. Batches are the exception, which need their messages to begin.
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
    """How many delivered and unacknowledged messages this worker may hold at most.

    A task that is acknowledged late counts while it runs, one that is acknowledged early does not. The window of a
    worker without prefetch is its slots: Celery then takes a message only when one of them is free.
    """
    prefetch = config.worker.prefetch
    if prefetch is None and app_disables:
        return slots
    if prefetch is None and app_multiplier is not None:
        return slots * app_multiplier
    if prefetch is None and largest_batch:
        return max(slots + DEFAULT_PREFETCH, slots * largest_batch)  # a batch for each slot: fewer would wait in vain
    beyond = DEFAULT_PREFETCH if prefetch is None else prefetch
    return slots + beyond if acks_late or beyond == 0 else beyond


BEFORE_COMMAND = frozenset({"-C", "--no-color", "-q", "--quiet"})
"""Flags of `celery`, which takes them before the name of a command."""


def celery_arguments(config: Config, environment: Environment, own: Own) -> list[str]:
    """The command line of Celery's worker; what has a setting is laid over the configuration instead."""
    arguments = [
        # Celery's banner is art of several lines: it has no place where each line is a JSON object.
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
    """`<pool>@<pod>`: what Flower, `celery inspect` and the events show."""
    return f"{config.pool.name}@{environment.pod_name}"
