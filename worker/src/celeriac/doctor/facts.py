"""(pure) What is known of a worker before it is judged?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFacts:
    """What holds for one task of the application, the settings included. Seconds, `None`: no limit."""

    name: str
    acks_late: bool
    reject_on_worker_lost: bool
    hard_limit_seconds: float | None = None
    soft_limit_seconds: float | None = None
    longest_retry_delay_seconds: float = 0
    batch: int = 0
    """Messages that one run takes (celery-batches); 0: one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestor:
    """A process between the container's first one and the worker, that one included."""

    pid: int
    name: str
    """The program's name without its path."""
    arguments: tuple[str, ...] = ()
    catches_sigterm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that the rules look at."""

    pool: str
    """prefork, threads, gevent, eventlet or solo."""
    slots: int
    broker: str
    """kombu's name of the transport: redis, amqp, sqs, ..."""
    has_leases: bool
    """Messages are fetched atomically and held under leases."""
    notices_lost_consumers: bool = False
    """The broker itself delivers again what a lost connection has not acknowledged."""
    visibility_timeout_seconds: float | None = None
    """After which the broker delivers a message again; `None` where it does not."""
    own_visibility_timeout_seconds: float | None = None
    """What the application sets; a lease takes its place where there is one."""
    lease_seconds: float = 60
    promises_at_least_once: bool = False
    """The pool says so, in as many words."""
    window: int | None = None
    """Messages a worker holds at most; `None`: without limit."""
    held_beyond_running: int | None = 1
    """Messages a worker holds for later; `None`: without limit."""
    drain_seconds: float = 300
    tasks: tuple[TaskFacts, ...] = ()
    wrong_policies: tuple[str, ...] = ()
    """A sentence for each task whose policy is wrong or has no effect."""
    ancestors: tuple[Ancestor, ...] = ()
    """From the worker's parent up to process 1; empty where the worker is process 1, or in no pod."""
    consumed: tuple[str, ...] = ()
    """The queues of this worker."""
    destinations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The tasks that a call without options sends to each queue, where that does not depend on arguments."""
    routes_problem: str | None = None
    """Why the application's `task_routes` cannot be used."""
    versions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Of the distributions that the library adapts itself to."""
