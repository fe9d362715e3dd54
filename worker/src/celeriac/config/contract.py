"""(pure) What does the pool request of this worker?

The operator configures a worker's container with one JSON document and a few environment variables
(docs/reference/environment-contract.md). This module turns them into frozen values, once, at the start; nothing else in
the library reads the environment.

A key that is missing from the document is `None` here. Then the application's own Celery setting applies, and if there
is none, the library's default. Unknown keys are collected instead of refused, so that an operator that is one minor
version ahead can still start its workers. A known key with an invalid value is a `ContractError` whose text names the
key, the value and what is valid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from celeriac.config.reading import DOCUMENT, Section
from celeriac.config.reading import ContractError as ContractError  # noqa: PLC0414 - an explicit export, which mypy requires

VERSION: Final = 1
"""The version of the document that this library reads."""

POOLS: Final = ("prefork", "threads", "gevent", "eventlet", "solo", "custom")
DELIVERY_MODES: Final = ("AtLeastOnce", "AtMostOnce", "App")
LOG_FORMATS: Final = ("Text", "JSON", "App")
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

CONFIG_VARIABLE: Final = DOCUMENT
BROKER_URL_VARIABLE: Final = "CELERIAC_BROKER_URL"
RESULT_URL_VARIABLE: Final = "CELERIAC_RESULT_BACKEND_URL"
TERMINATION_LOG: Final = "/dev/termination-log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Which CeleryWorkerPool this worker belongs to."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """How Celery's worker runs."""

    pool: Literal["prefork", "threads", "gevent", "eventlet", "solo", "custom"] | None = None
    """`custom`: the class that the variable CELERY_CUSTOM_WORKER_POOL names."""
    concurrency: int
    """Slots: tasks that run at the same time."""
    concurrency_is_default: bool = False
    """Whether the pool leaves the number open: then the application's `worker_concurrency` takes precedence."""
    prefetch: int | None = None
    """Messages held beyond the running ones; 0 takes a message only when a slot is free."""
    max_tasks_per_child: int | None = None
    max_memory_per_child_kib: int | None = None
    extra_args: tuple[str, ...] = ()
    """Appended to `celery worker` unchanged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBackoff:
    """Seconds between two attempts to connect: doubled after each attempt, from `initial` up to `max`, with jitter."""

    initial: float
    max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """How long a worker tries to reach its broker."""

    max_retries: int | None = None
    """Attempts after the first one; 0: the worker gives up at once."""
    retry_backoff_seconds: RetryBackoff | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultBackend:
    """What happens to results."""

    expires_seconds: int | None = None
    """0: results are kept forever, as in Celery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimits:
    """How long a task may run, in seconds."""

    soft_seconds: int | None = None
    hard_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """When a message counts as done, and how soon a dead worker's messages are delivered again."""

    mode: Literal["AtLeastOnce", "AtMostOnce", "App"] | None = None
    lease_seconds: int | None = None
    max_deliveries: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Liveness:
    """The health server."""

    port: int
    """TCP port of the health server; 0: any free one, for workers outside Kubernetes."""
    stalled_seconds: int
    """If the consumer loop does not turn for this many seconds, it counts as dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainLimit:
    """How a worker shuts down without losing messages."""

    timeout_seconds: int
    """Seconds that running tasks get after SIGTERM. After that, the messages of tasks that still run are given back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logging:
    """What log lines look like."""

    level: str | None = None
    format: Literal["Text", "JSON", "App"] | None = None
    worker_format: str | None = None
    task_format: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentry:
    """Where failures are reported. The DSN is in a file, so that it can be renewed while the worker runs."""

    dsn_file: str
    environment: str | None = None
    release: str | None = None
    traces_sample_rate: float | None = None
    send_default_pii: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slack:
    """The Slack channel that gets failures. The webhook's URL is in a file, so that it can be renewed, too."""

    webhook_file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notifications:
    """Where messages about failures are sent."""

    slack: Slack | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole document. Every section is present; values that the pool leaves open are `None`."""

    pool: Pool
    app: str
    """What `celery -A` takes."""
    queues: tuple[str, ...] | None = None
    worker: Worker
    broker: Broker = Broker()
    result_backend: ResultBackend = ResultBackend()
    time_limits: TimeLimits = TimeLimits()
    delivery: Delivery = Delivery()
    liveness: Liveness
    drain: DrainLimit
    logging: Logging = Logging()
    sentry: Sentry | None = None
    """`None`: the pool has no `sentry` section, and the application's own Sentry configuration is not changed."""
    notifications: Notifications = Notifications()
    unknown_keys: tuple[str, ...] = ()
    """Keys that this version of the library does not know, as dotted paths, with a suggestion if one is similar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The values that the container's environment adds to the document."""

    broker_url: str | None = None
    result_backend_url: str | None = None
    pod_name: str
    pod_namespace: str | None = None
    pod_uid: str | None = None
    node_name: str | None = None
    termination_log: str = TERMINATION_LOG
    """The worker writes one sentence to this file before it gives up; the operator shows it in the pool's condition."""

    def urls(self) -> list[str | None]:
        """Return the URLs, whose passwords must not be shown anywhere."""
        return [self.broker_url, self.result_backend_url]

    def __repr__(self) -> str:
        # Both URLs may hold passwords, and a repr ends up in logs and in Sentry's local variables.
        return f"Environment(pod_name={self.pod_name!r}, pod_namespace={self.pod_namespace!r}, ...)"


def parse_environment(environ: Mapping[str, str], *, hostname: str) -> Environment:
    """Read the environment variables; `hostname` is the worker's name if there is no pod name.

    Raises:
        ContractError: a URL variable is set but empty (a Secret whose key has no value).
    """
    for name in (BROKER_URL_VARIABLE, RESULT_URL_VARIABLE):
        if name in environ and not environ[name].strip():
            raise ContractError(f"{name} is empty: the Secret it comes from has no value under that key")
    return Environment(
        broker_url=environ.get(BROKER_URL_VARIABLE, "").strip() or None,
        result_backend_url=environ.get(RESULT_URL_VARIABLE, "").strip() or None,
        pod_name=environ.get("CELERIAC_POD_NAME") or hostname,
        pod_namespace=environ.get("CELERIAC_POD_NAMESPACE") or None,
        pod_uid=environ.get("CELERIAC_POD_UID") or None,
        node_name=environ.get("CELERIAC_NODE_NAME") or None,
        termination_log=termination_log(environ),
    )


def termination_log(environ: Mapping[str, str]) -> str:
    """Return the path of the file for the last words, which is known even if the rest cannot be used."""
    return environ.get("CELERIAC_TERMINATION_LOG") or TERMINATION_LOG


def parse(document: str) -> Config:
    """Read the document.

    Raises:
        ContractError: it is not a JSON object, a required key is missing, or a value is invalid.
    """
    try:
        value = json.loads(document)
    except ValueError as error:
        raise ContractError(f"{CONFIG_VARIABLE} is not JSON: {error}") from None
    unknown: list[str] = []
    root = Section.of(value, "", unknown)
    version = root.integer("version", minimum=1, required=True)
    if version != VERSION:
        raise ContractError(
            f"version {version} of the document is newer than this worker library, which reads version {VERSION}: "
            "use the library of the operator's release"
        )
    config = Config(
        pool=_pool(root.section("pool", required=True)),
        app=root.text("app", required=True),
        queues=root.texts("queues", non_empty_items=True, unique=True),
        worker=_worker(root.section("worker", required=True)),
        broker=_broker(root.section("broker")),
        result_backend=_result_backend(root.section("resultBackend")),
        time_limits=_time_limits(root.section("timeLimits")),
        delivery=_delivery(root.section("delivery")),
        liveness=_liveness(root.section("liveness", required=True)),
        drain=_drain(root.section("drain", required=True)),
        logging=_logging(root.section("logging")),
        sentry=_sentry(root.section("sentry")) if root.has("sentry") else None,
        notifications=_notifications(root.section("notifications")),
    )
    root.close()
    return _with_unknown_keys(config, unknown)


def _with_unknown_keys(config: Config, unknown: list[str]) -> Config:
    if not unknown:
        return config
    values = {name: getattr(config, name) for name in Config.__dataclass_fields__}
    return Config(**{**values, "unknown_keys": tuple(unknown)})


def _pool(section: Section) -> Pool:
    pool = Pool(namespace=section.text("namespace", required=True), name=section.text("name", required=True))
    section.close()
    return pool


def _worker(section: Section) -> Worker:
    worker = Worker(
        pool=section.choice("pool", POOLS),
        concurrency=section.integer("concurrency", minimum=1, required=True),
        concurrency_is_default=bool(section.flag("concurrencyIsDefault")),
        prefetch=section.integer("prefetch", minimum=0),
        max_tasks_per_child=section.integer("maxTasksPerChild", minimum=1),
        max_memory_per_child_kib=section.integer("maxMemoryPerChildKib", minimum=1),
        extra_args=section.texts("extraArgs") or (),
    )
    section.close()
    return worker


def _broker(section: Section) -> Broker:
    backoff = None
    if section.has("retryBackoffSeconds"):
        inner = section.section("retryBackoffSeconds")
        initial = inner.number("initial", minimum=0, required=True)
        longest = inner.number("max", minimum=0, required=True)
        if longest < initial:
            raise ContractError(f"{inner.path}max is {longest:g}, less than initial, which is {initial:g}")
        backoff = RetryBackoff(initial=initial, max=longest)
        inner.close()
    broker = Broker(max_retries=section.integer("maxRetries", minimum=0), retry_backoff_seconds=backoff)
    section.close()
    return broker


def _result_backend(section: Section) -> ResultBackend:
    backend = ResultBackend(expires_seconds=section.integer("expiresSeconds", minimum=0))
    section.close()
    return backend


def _time_limits(section: Section) -> TimeLimits:
    limits = TimeLimits(
        soft_seconds=section.integer("softSeconds", minimum=1), hard_seconds=section.integer("hardSeconds", minimum=1)
    )
    soft, hard = limits.soft_seconds, limits.hard_seconds
    if soft is not None and hard is not None and soft >= hard:
        raise ContractError(
            f"timeLimits.softSeconds is {soft} and hardSeconds is {hard}: the soft limit must be the shorter one"
        )
    section.close()
    return limits


def _delivery(section: Section) -> Delivery:
    delivery = Delivery(
        mode=section.choice("mode", DELIVERY_MODES),
        lease_seconds=section.integer("leaseSeconds", minimum=5),
        max_deliveries=section.integer("maxDeliveries", minimum=1),
    )
    section.close()
    return delivery


def _liveness(section: Section) -> Liveness:
    liveness = Liveness(
        port=section.integer("port", minimum=0, maximum=65535, required=True),
        stalled_seconds=section.integer("stalledSeconds", minimum=1, required=True),
    )
    section.close()
    return liveness


def _drain(section: Section) -> DrainLimit:
    drain = DrainLimit(timeout_seconds=section.integer("timeoutSeconds", minimum=1, required=True))
    section.close()
    return drain


def _logging(section: Section) -> Logging:
    logging = Logging(
        level=section.choice("level", LOG_LEVELS),
        format=section.choice("format", LOG_FORMATS),
        worker_format=section.text("workerFormat"),
        task_format=section.text("taskFormat"),
    )
    section.close()
    return logging


def _sentry(section: Section) -> Sentry:
    sentry = Sentry(
        dsn_file=section.text("dsnFile", required=True),
        environment=section.text("environment"),
        release=section.text("release"),
        traces_sample_rate=section.number("tracesSampleRate", minimum=0, maximum=1),
        send_default_pii=section.flag("sendDefaultPii"),
    )
    section.close()
    return sentry


def _notifications(section: Section) -> Notifications:
    slack = None
    if section.has("slack"):
        inner = section.section("slack")
        slack = Slack(webhook_file=inner.text("webhookFile", required=True))
        inner.close()
    section.close()
    return Notifications(slack=slack)
