"""(pure) Which facts about a worker do the rules use?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFacts:
    """The effective values for one task of the application. Times are in seconds; `None` means no limit."""

    name: str
    acks_late: bool
    reject_on_worker_lost: bool
    hard_limit_seconds: float | None = None
    soft_limit_seconds: float | None = None
    longest_retry_delay_seconds: float = 0
    batch: int = 0
    """Number of messages that one run takes (celery-batches); 0 for a task that takes one message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestor:
    """A process above the worker, up to and including PID 1 of the container."""

    pid: int
    name: str
    """The program's name without its path."""
    arguments: tuple[str, ...] = ()
    catches_sigterm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All facts that the rules use."""

    pool: str
    """prefork, threads, gevent, eventlet or solo."""
    slots: int
    broker: str
    """kombu's name of the transport: redis, amqp, sqs, ..."""
    has_leases: bool
    """Whether messages are fetched atomically and held under leases."""
    notices_lost_consumers: bool = False
    """Whether the broker redelivers the messages that a lost connection has not acknowledged."""
    visibility_timeout_seconds: float | None = None
    """Time after which the broker redelivers a message; `None` if it does not."""
    own_visibility_timeout_seconds: float | None = None
    """The application's setting. If there are leases, they replace it."""
    lease_seconds: float = 60
    promises_at_least_once: bool = False
    """Whether the pool's `delivery.mode` is `AtLeastOnce`."""
    window: int | None = None
    """Maximum number of messages that a worker holds; `None` means no limit."""
    held_beyond_running: int | None = 1
    """Number of messages that a worker holds for later; `None` means no limit."""
    drain_seconds: float = 300
    tasks: tuple[TaskFacts, ...] = ()
    wrong_policies: tuple[str, ...] = ()
    """A sentence for each task whose policy is wrong or has no effect."""
    ancestors: tuple[Ancestor, ...] = ()
    """From the worker's parent up to PID 1; empty if the worker is PID 1 or does not run in a pod."""
    consumed: tuple[str, ...] = ()
    """The queues that this worker consumes."""
    destinations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """For each queue, the tasks whose calls without options go there, if that does not depend on arguments."""
    routes_problem: str | None = None
    """Why the application's `task_routes` cannot be used."""
    versions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Installed versions of the distributions that the library adapts to."""
    refused_by_kombu: str = ""
    """What kombu says against the installed redis-py, if it does not run with it."""
