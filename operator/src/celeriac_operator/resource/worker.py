"""How does a worker run? The sections that become the worker's own settings."""

from __future__ import annotations

from typing import Annotated, Literal

from celeriac_operator.resource.base import ATOMIC, DIGITS, INT_OR_STRING, Model, Rule, bound, rules

Pool = Literal["prefork", "threads", "gevent", "eventlet", "solo", "custom"]

WEEK_SECONDS = 7 * 24 * 3600

Seconds = Annotated[int, bound(ge=1, le=WEEK_SECONDS)]

RECORD_FIELDS = (
    "asctime|args|created|exc_info|exc_text|filename|funcName|levelname|levelno|lineno|message|module|msecs|msg|"
    "name|pathname|process|processName|relativeCreated|stack_info|taskName|task_id|task_name|thread|threadName"
)
"""What a record of Python's logging has: its documented attributes, and the two that Celeriac adds; a part of a regular
expression."""

_FIELD = f"%[(]({RECORD_FIELDS})[)][-#0 +]*[0-9]*([.][0-9]+)?[hlL]?[diouxXeEfFgGcrsa%]"
NOT_EMPTY = Rule(cel="self.size() > 0", message="a log format cannot be empty: remove it to keep the default")
IS_FORMAT = Rule(
    cel=f"self.matches('^(?s:[^%]|%%|{_FIELD})*$')",
    message="is not a format for log records: write fields in Python's %-style, such as %(asctime)s, %(levelname)s, "
    "%(name)s, %(message)s, %(task_name)s and %(task_id)s or another attribute of logging.LogRecord, and a percent "
    "sign as %%",
)

Format = Annotated[str, bound(NOT_EMPTY, IS_FORMAT, max_length=1024)]

PART_OF_COMMAND = Rule(cel="self.size() > 0", message="a part of the command cannot be empty")
NAMES_PYTHON = Rule(cel="self.size() > 0", message="must name the program that starts Python, for example [python]")

AT_LEAST_1MI = Rule(
    cel=f"type(self) == int ? self >= 1048576 : {DIGITS} && isQuantity(self) && "
    "quantity(self).compareTo(quantity('1Mi')) >= 0",
    message="must be a memory quantity of at least 1Mi, for example 200Mi",
)


def _refuse(options: str, message: str) -> Rule:
    pattern = f"a.matches('^({options})')"
    return Rule(cel=f"self.all(a, !{pattern})", message=message, subject=f"self.filter(a, {pattern})[0]")


# Short options are refused joined with their value (-c4) and behind -E, the one short flag that takes none, as well.
REFUSED_ARGUMENTS = (
    _refuse(
        "-E*[AQcPlnb]|--(app|queues|concurrency|pool|prefetch-multiplier|disable-prefetch|max-tasks-per-child|"
        "max-memory-per-child|soft-time-limit|time-limit|loglevel|hostname|broker|result-backend)(=|$)",
        "repeats what a field of the pool sets: use app, queues, worker, timeLimits, broker, resultBackend or "
        "logging.level; the worker's node name is <pool>@<pod>",
    ),
    _refuse(
        "--autoscale(=|$)",
        "--autoscale changes the slots of a running worker behind worker.concurrency: remove it and scale the pool's "
        "replicas instead",
    ),
    _refuse(
        "-E*B|--beat(=|$)",
        "with --beat each worker would publish every schedule: run celery beat in a Deployment of its own with one "
        "replica",
    ),
    _refuse(
        "--purge(=|$)",
        "--purge would delete the waiting messages each time a worker starts: run celery purge by hand",
    ),
    _refuse(
        "-E*f|--logfile(=|$)",
        "with --logfile kubectl logs would be empty: remove it, and use the field logging",
    ),
    _refuse(
        "-E*D|--(detach|uid|gid|pidfile|umask|workdir|executable)(=|$)",
        "the worker must run in the foreground of its container: remove --detach and its options",
    ),
)


class Worker(Model):
    """Options of the celery worker command."""

    model_config = rules(
        Rule(
            cel="!has(self.pool) || self.pool == 'prefork' || !(has(self.maxTasksPerChild) || "
            "has(self.maxMemoryPerChild))",
            message="maxTasksPerChild and maxMemoryPerChild replace child processes, which only prefork has: remove "
            "them, or set pool to prefork",
            field_path=".pool",
        ),
        Rule(
            cel="!has(self.pool) || self.pool != 'solo' || !has(self.concurrency) || self.concurrency == 1",
            message="pool solo runs one task at a time: remove concurrency, or choose another pool",
            field_path=".concurrency",
        ),
    )

    python: Annotated[
        tuple[Annotated[str, bound(PART_OF_COMMAND, max_length=1024)], ...],
        bound(NAMES_PYTHON, max_length=16, schema=ATOMIC),
    ] = ("python",)
    """Command that starts Python in the image, for example [/app/.venv/bin/python] or [uv, run, python]. It replaces
    the image's entry point; if that is needed, put it first, for example [/entrypoint.sh, python]."""
    pool: Pool | None = None
    """Celery's execution pool; custom is the class that the variable CELERY_CUSTOM_WORKER_POOL names. Default: the
    application's worker_pool, else prefork."""
    concurrency: Annotated[int, bound(ge=1, le=10_000)] | None = None
    """How many tasks one worker runs at a time (its slots). Default: 1 for solo, else the application's
    worker_concurrency, else the container's cpu limit rounded up, else 1."""
    prefetch: Annotated[int, bound(ge=0, le=100_000)] | None = None
    """How many messages a worker holds in addition to those it runs; with 0 it takes a message only when a slot is
    free. Default: the application's worker_prefetch_multiplier."""
    max_tasks_per_child: Annotated[int, bound(ge=1, le=100_000_000)] | None = None
    """Number of tasks after which a child process is replaced, against memory leaks. Prefork only. Default: the
    application's worker_max_tasks_per_child."""
    max_memory_per_child: Annotated[int | str, bound(AT_LEAST_1MI, schema=INT_OR_STRING)] | None = None
    """Resident memory above which a child process is replaced after its task has ended, for example 200Mi. Prefork
    only. Default: the application's worker_max_memory_per_child."""
    extra_args: Annotated[
        tuple[Annotated[str, bound(max_length=1024)], ...],
        bound(*REFUSED_ARGUMENTS, max_length=64, schema=ATOMIC),
    ] = ()
    """Further arguments for celery worker, for example [--without-gossip]. Options that a field of the pool sets are
    refused."""


class TimeLimits(Model):
    """How long one task may run."""

    model_config = rules(
        Rule(
            cel="!has(self.softSeconds) || !has(self.hardSeconds) || self.softSeconds < self.hardSeconds",
            message="softSeconds must be less than hardSeconds: the task needs time to clean up before it is killed",
            field_path=".softSeconds",
        )
    )

    soft_seconds: Seconds | None = None
    """Seconds after which SoftTimeLimitExceeded is raised in a running task, so that it can clean up. Prefork only: on
    other pools it has no effect, and the condition TimeLimitsEnforced is False. A task's own soft_time_limit takes
    precedence. Default: the application's task_soft_time_limit."""
    hard_seconds: Seconds | None = None
    """Seconds after which a running task is killed: by Celery, or on pools where Celery cannot, by the liveness probe,
    which restarts the container. A task's own time_limit takes precedence. Default: the application's
    task_time_limit."""


class Delivery(Model):
    """How messages are acknowledged and redelivered."""

    mode: Literal["AtLeastOnce", "AtMostOnce", "App"] | None = None
    """AtLeastOnce: a message is acknowledged after its task has ended, so a killed worker loses no message. AtMostOnce:
    it is acknowledged before its task starts, so no task runs twice. App: the application's settings apply. A task's
    own settings take precedence."""
    lease_seconds: Annotated[int, bound(ge=5, le=3600)] | None = None
    """Redis only: seconds without a renewal by a worker after which its messages are delivered again."""
    max_deliveries: Annotated[int, bound(ge=1, le=1000)] | None = None
    """Maximum number of deliveries of a message; after that it is dead-lettered."""


class Liveness(Model):
    """When a worker counts as hung, and its health endpoint."""

    port: Annotated[int, bound(ge=1024, le=65535)] = 8787
    """TCP port of the worker's health and metrics endpoint. Change it only if the application uses the same port."""
    period_seconds: Annotated[int, bound(ge=1, le=3600)] = 10
    """Seconds between two liveness checks."""
    failure_threshold: Annotated[int, bound(ge=1, le=100)] = 3
    """How many liveness checks in a row must fail before the container is restarted."""
    stalled_seconds: Annotated[int, bound(ge=10, le=86400)] = 60
    """Seconds without progress of the worker's consumer loop after which the worker reports itself as hung."""


class Drain(Model):
    """How a worker that is removed finishes its work."""

    timeout_seconds: Annotated[int, bound(ge=1, le=WEEK_SECONDS + 24 * 3600)] | None = None
    """Seconds that a worker has to finish its running tasks before it is removed; unfinished messages go back to the
    queue. Default: timeLimits.hardSeconds + 30, else 300. The pod's terminationGracePeriodSeconds is derived from
    it."""


class Logging(Model):
    """What a worker writes to its log."""

    model_config = rules(
        Rule(
            cel="!has(self.format) || self.format == 'Text' || !(has(self.workerFormat) || has(self.taskFormat))",
            message="workerFormat and taskFormat belong to format Text: remove them, or set format to Text",
            field_path=".format",
        )
    )

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] | None = None
    """The least severe level that is logged."""
    format: Literal["Text", "JSON", "App"] | None = None
    """Text: lines in the formats below. JSON: one object per line. App: the application configures logging."""
    worker_format: Format | None = None
    """Format of the worker's own records, in Python's %-style; %(task_name)s and %(task_id)s are always available."""
    task_format: Format | None = None
    """Format of records that a task writes, in Python's %-style."""
