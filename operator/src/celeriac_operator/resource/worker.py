"""How a worker runs, how long its tasks may, and how it leaves: the sections that become the worker's own settings."""

from __future__ import annotations

from typing import Annotated, Literal

from celeriac_operator.resource.base import ATOMIC, INT_OR_STRING, Model, Rule, bound, rules

Pool = Literal["prefork", "threads", "gevent", "eventlet", "solo"]

WEEK_SECONDS = 7 * 24 * 3600

Seconds = Annotated[int, bound(ge=1, le=WEEK_SECONDS)]

Format = Annotated[
    str,
    bound(
        Rule(cel="self.size() > 0", message="a log format cannot be empty: remove it to keep the default"),
        max_length=1024,
    ),
]

PART_OF_COMMAND = Rule(cel="self.size() > 0", message="a part of the command cannot be empty")
NAMES_PYTHON = Rule(cel="self.size() > 0", message="name the program that starts Python, for example [python]")

AT_LEAST_1MI = Rule(
    cel="type(self) == int ? self >= 1048576 : isQuantity(self) && quantity(self).compareTo(quantity('1Mi')) >= 0",
    message="must be a memory quantity of at least 1Mi, for example 200Mi",
)


def _refuse(options: str, message: str) -> Rule:
    return Rule(cel=f"self.all(a, !a.matches('^({options})'))", message=message)


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
        "--beat would publish every schedule once for each worker: run celery beat in a Deployment of its own with one "
        "replica",
    ),
    _refuse(
        "--purge(=|$)",
        "--purge would delete the waiting messages each time a worker starts: run celery purge by hand",
    ),
    _refuse(
        "-E*f|--logfile(=|$)",
        "--logfile would take the log out of kubectl logs: remove it; logging says what is logged, and how",
    ),
    _refuse(
        "-E*D|--(detach|uid|gid|pidfile|umask|workdir|executable)(=|$)",
        "the worker stays in the foreground of its container: remove --detach and the options that belong to it",
    ),
)


class Worker(Model):
    """What the celery worker command is told."""

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
    """How to start Python in the image, for example [/app/.venv/bin/python] or [uv, run, python]. It runs in place of
    the image's entry point; name the entry point first where it is needed, for example [/entrypoint.sh, python]."""
    pool: Pool | None = None
    """Celery's execution pool. Without it the application's worker_pool holds, and without that prefork."""
    concurrency: Annotated[int, bound(ge=1, le=10_000)] | None = None
    """How many tasks one worker runs at once. Without it: 1 for solo, else the container's cpu limit rounded up, else
    1."""
    prefetch: Annotated[int, bound(ge=0, le=100_000)] | None = None
    """How many messages a worker holds beyond those it runs; 0 takes a message only when a slot is free. Without it the
    application's worker_prefetch_multiplier holds."""
    max_tasks_per_child: Annotated[int, bound(ge=1, le=100_000_000)] | None = None
    """After how many tasks a child process is replaced, against memory leaks. Prefork only; without it the
    application's worker_max_tasks_per_child holds."""
    max_memory_per_child: Annotated[int | str, bound(AT_LEAST_1MI, schema=INT_OR_STRING)] | None = None
    """Resident memory after which a child process is replaced once its task has ended, for example 200Mi. Prefork only;
    without it the application's worker_max_memory_per_child holds."""
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
    """Seconds after which SoftTimeLimitExceeded is raised inside a running task, so that it can clean up. Prefork only:
    for other pools the condition TimeLimitsEnforced says that it has no effect. A task's own soft_time_limit wins;
    without this field the application's task_soft_time_limit holds."""
    hard_seconds: Seconds | None = None
    """Seconds after which a running task is ended by force: by Celery, or where its pool cannot, by the liveness probe,
    which restarts the container. A task's own time_limit wins; without this field the application's task_time_limit
    holds."""


class Delivery(Model):
    """What happens to a message whose worker dies."""

    mode: Literal["AtLeastOnce", "AtMostOnce", "App"] | None = None
    """AtLeastOnce acknowledges a message after its task has ended, so that a killed worker loses nothing; AtMostOnce
    acknowledges before the task starts, so that nothing runs twice; App leaves acknowledging to the application's
    settings. What a task sets itself wins."""
    lease_seconds: Annotated[int, bound(ge=5, le=3600)] | None = None
    """On Redis: seconds without a sign of life from a worker after which its messages are delivered again."""
    max_deliveries: Annotated[int, bound(ge=1, le=1000)] | None = None
    """How often one message is delivered at most; then it is kept as a dead letter instead."""


class Liveness(Model):
    """When a worker counts as hung."""

    port: Annotated[int, bound(ge=1024, le=65535)] = 8787
    """TCP port of the worker's health and metrics endpoint. Change it only where the application uses the same port."""
    period_seconds: Annotated[int, bound(ge=1, le=3600)] = 10
    """Seconds between two liveness checks."""
    failure_threshold: Annotated[int, bound(ge=1, le=100)] = 3
    """How many liveness checks in a row must fail before the container is restarted."""
    stalled_seconds: Annotated[int, bound(ge=10, le=86400)] = 60
    """Seconds without progress of the worker's consumer loop after which the worker reports itself as hung."""


class Drain(Model):
    """How a worker leaves."""

    timeout_seconds: Annotated[int, bound(ge=1, le=WEEK_SECONDS + 24 * 3600)] | None = None
    """Seconds that a worker which must leave has to finish its running tasks; the rest goes back to the queue. Without
    it: timeLimits.hardSeconds + 30, or 300. The pod's terminationGracePeriodSeconds follows from it."""


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
    """The least severe record that is logged."""
    format: Literal["Text", "JSON", "App"] | None = None
    """Text writes lines in the formats below, JSON one object a line, App leaves logging to the application."""
    worker_format: Format | None = None
    """Format of the worker's own records, in Python's %-style; %(task_name)s and %(task_id)s are always there."""
    task_format: Format | None = None
    """Format of records that a task writes, in Python's %-style."""
