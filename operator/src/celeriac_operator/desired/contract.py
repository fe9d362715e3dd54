"""(pure) What does the operator tell a worker pod? The environment contract: one JSON document in CELERIAC_CONFIG.

docs/reference/environment-contract.md states the promise; the schema beside it is generated from these models. A key
that the pool does not set is absent from the document, so the application's own Celery setting applies.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from celeriac_operator import names, quantity
from celeriac_operator.resource import CeleryWorkerPool, Pool, Spec

VERSION: Final = 1
CONFIG_VARIABLE = "CELERIAC_CONFIG"
SCHEMA_ID = "https://celeriac.dev/schemas/contract-v1.json"

DEFAULT_DRAIN_SECONDS = 300
DRAIN_AFTER_HARD_LIMIT_SECONDS = 30
"""A task that reaches its hard limit late in the drain is still ended and reported before the drain ends."""

Kind = TypeVar("Kind", bound="Section")

_POSITIVE = Field(ge=1)
_NOT_NEGATIVE = Field(ge=0)


class Section(BaseModel):
    """One object of the document, with camelCase keys; frozen."""

    model_config = ConfigDict(
        alias_generator=to_camel, frozen=True, populate_by_name=True, use_attribute_docstrings=True
    )


class PoolName(Section):
    """Which pool the worker belongs to."""

    namespace: str
    """The pool's namespace."""
    name: str
    """The pool's name."""


class Worker(Section):
    """How Celery's worker runs."""

    pool: Pool | None = None
    """Celery's execution pool."""
    concurrency: Annotated[int, _POSITIVE]
    """Slots: tasks that run at the same time. The operator resolves the default."""
    concurrency_is_default: bool | None = None
    """True where the pool leaves concurrency out: the application's worker_concurrency comes before the default."""
    prefetch: Annotated[int, _NOT_NEGATIVE] | None = None
    """Messages held beyond the running ones; 0 disables prefetching."""
    max_tasks_per_child: Annotated[int, _POSITIVE] | None = None
    """Tasks after which a child process is replaced."""
    max_memory_per_child_kib: Annotated[int, _POSITIVE] | None = None
    """Resident memory, in KiB, after which a child process is replaced."""
    extra_args: tuple[str, ...] | None = None
    """Appended to celery worker."""


class RetryBackoff(Section):
    """Waits between two attempts to connect."""

    initial: Annotated[int, _POSITIVE]
    """Seconds before the first retry; doubled each time, with jitter."""
    max: Annotated[int, _POSITIVE]
    """The longest wait, in seconds."""


class Broker(Section):
    """What the worker does while the broker is away."""

    max_retries: Annotated[int, _NOT_NEGATIVE] | None = None
    """Connection retries before the worker exits."""
    retry_backoff_seconds: RetryBackoff | None = None
    """Waits between two attempts."""


class ResultBackend(Section):
    """What happens to results."""

    expires_seconds: Annotated[int, _NOT_NEGATIVE] | None = None
    """How long results are kept, in seconds; 0 for ever."""


class TimeLimits(Section):
    """How long a task may run."""

    soft_seconds: Annotated[int, _POSITIVE] | None = None
    """Seconds until SoftTimeLimitExceeded."""
    hard_seconds: Annotated[int, _POSITIVE] | None = None
    """Seconds until the task is ended by force."""


class Delivery(Section):
    """How messages are acknowledged and redelivered."""

    mode: Literal["AtLeastOnce", "AtMostOnce", "App"] | None = None
    """When a message is acknowledged."""
    lease_seconds: Annotated[int, Field(ge=5)] | None = None
    """Redis: seconds without a renewal after which a worker's messages are delivered again."""
    max_deliveries: Annotated[int, _POSITIVE] | None = None
    """Deliveries of one message before it is dead-lettered."""


class Liveness(Section):
    """The health endpoint."""

    port: int
    """TCP port, on all addresses of the pod."""
    stalled_seconds: Annotated[int, _POSITIVE]
    """Seconds without progress after which the worker reports itself as hung."""


class Drain(Section):
    """How the worker drains."""

    timeout_seconds: Annotated[int, _POSITIVE]
    """Seconds for running tasks to finish; the rest goes back to the queue."""


class Logging(Section):
    """What the worker writes to its log."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] | None = None
    """The least severe level that is logged."""
    format: Literal["Text", "JSON", "App"] | None = None
    """The shape of a line; App leaves logging to the application."""
    worker_format: str | None = None
    """Format of the worker's own records, %-style."""
    task_format: str | None = None
    """Format of a task's records, %-style."""


class Sentry(Section):
    """How failures are reported."""

    dsn_file: str
    """Path of the file that holds the DSN. It may be missing, and may change at any time."""
    environment: str | None = None
    """Sentry's environment."""
    release: str | None = None
    """Sentry's release."""
    traces_sample_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of tasks that are traced, from 0 to 1."""
    send_default_pii: bool | None = None
    """Whether personally identifiable data may be sent."""


class Slack(Section):
    """The Slack channel that gets notifications."""

    webhook_file: str
    """Path of the file that holds the webhook's URL. It may be missing, and may change at any time."""


class Notifications(Section):
    """Where notifications of failures are sent."""

    slack: Slack
    """The Slack channel that gets notifications."""


class Document(Section):
    """The document in CELERIAC_CONFIG. A reader ignores unknown keys; for an absent key the application's setting
    applies."""

    version: Literal[1]
    """Changes only if an older reader would do harm."""
    pool: PoolName
    """Which pool the worker belongs to."""
    app: str
    """What celery -A takes."""
    queues: tuple[str, ...] | None = None
    """Queues to consume; absent: those of the application."""
    worker: Worker
    """How Celery's worker runs."""
    broker: Broker | None = None
    """What the worker does while the broker is away."""
    result_backend: ResultBackend | None = None
    """What happens to results."""
    time_limits: TimeLimits | None = None
    """How long a task may run."""
    delivery: Delivery | None = None
    """How messages are acknowledged and redelivered."""
    liveness: Liveness
    """The health endpoint."""
    drain: Drain
    """How the worker drains."""
    logging: Logging | None = None
    """What the worker writes to its log."""
    sentry: Sentry | None = None
    """How failures are reported; absent: the library does not configure Sentry."""
    notifications: Notifications | None = None
    """Where notifications of failures are sent; absent: nowhere."""

    def line(self) -> str:
        """The document as the worker gets it: one line, keys in the order above, absent keys left out."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


def build(pool: CeleryWorkerPool, *, cpu_limit: str | int | None) -> Document:
    """Build the document for a pool whose worker container has this cpu limit."""
    spec = pool.spec
    return Document(
        version=VERSION,
        pool=PoolName(namespace=pool.metadata.namespace, name=pool.metadata.name),
        app=spec.app,
        queues=spec.queues or None,
        worker=_worker(spec, cpu_limit),
        broker=_section(Broker, spec.broker, "max_retries", "retry_backoff_seconds"),
        result_backend=_section(ResultBackend, spec.result_backend, "expires_seconds"),
        time_limits=_section(TimeLimits, spec.time_limits, "soft_seconds", "hard_seconds"),
        delivery=_section(Delivery, spec.delivery, "mode", "lease_seconds", "max_deliveries"),
        liveness=Liveness(port=spec.liveness.port, stalled_seconds=spec.liveness.stalled_seconds),
        drain=Drain(timeout_seconds=drain_seconds(spec)),
        logging=_section(Logging, spec.logging, "level", "format", "worker_format", "task_format"),
        sentry=_sentry(spec),
        notifications=Notifications(slack=Slack(webhook_file=names.WEBHOOK_FILE)) if spec.notifications else None,
    )


def drain_seconds(spec: Spec) -> int:
    """Seconds of a drain: as the pool sets it, else the hard time limit with a margin, else DEFAULT_DRAIN_SECONDS."""
    if spec.drain is not None and spec.drain.timeout_seconds is not None:
        return spec.drain.timeout_seconds
    if spec.time_limits is not None and spec.time_limits.hard_seconds is not None:
        return spec.time_limits.hard_seconds + DRAIN_AFTER_HARD_LIMIT_SECONDS
    return DEFAULT_DRAIN_SECONDS


def slots(spec: Spec, cpu_limit: str | int | None) -> int:
    """Concurrency: as the pool sets it, else 1 for solo, else the cpu limit rounded up, else 1."""
    if spec.worker.concurrency is not None:
        return spec.worker.concurrency
    if spec.worker.pool == "solo" or cpu_limit is None:
        return 1
    return max(1, math.ceil(quantity.parse(cpu_limit)))


def _worker(spec: Spec, cpu_limit: str | int | None) -> Worker:
    worker = spec.worker
    memory = worker.max_memory_per_child
    return Worker(
        pool=worker.pool,
        concurrency=slots(spec, cpu_limit),
        concurrency_is_default=(worker.concurrency is None and worker.pool != "solo") or None,
        prefetch=worker.prefetch,
        max_tasks_per_child=worker.max_tasks_per_child,
        max_memory_per_child_kib=None if memory is None else int(quantity.parse(memory) / Decimal(1024)),
        extra_args=worker.extra_args or None,
    )


def _section(kind: type[Kind], source: BaseModel | None, *fields: str) -> Kind | None:
    """A section with the fields that the pool sets; None: it sets none of them."""
    values = {} if source is None else source.model_dump(include=set(fields), exclude_none=True)
    return kind.model_validate(values) if values else None


def _sentry(spec: Spec) -> Sentry | None:
    if spec.sentry is None:
        return None
    return Sentry(
        dsn_file=names.DSN_FILE,
        environment=spec.sentry.environment,
        release=spec.sentry.release,
        traces_sample_rate=spec.sentry.traces_sample_rate,
        send_default_pii=spec.sentry.send_default_pii,
    )
