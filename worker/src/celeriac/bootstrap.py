"""How does a Celery application become a Celeriac worker?

`run` performs all steps in order: it reads the contract, imports the application as `celery -A` does, applies the
pool's configuration, adds this library's parts through Celery's extension points, and runs Celery's own worker command
in this process. Values flow in one direction: no part asks another for its configuration, and only this module reads
the environment.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from celeriac.config import application, contract, settings
from celeriac.config.application import Start
from celeriac.config.contract import Config, Environment
from celeriac.config.installed import version
from celeriac.exits import Exit, GivingUpError, scrub, without_secrets, write_termination_message
from celeriac.image import requirements

if TYPE_CHECKING:
    from celeriac.delivery.install import Deliveries
    from celeriac.failures.reporter import Reporters
    from celeriac.failures.sentry.client import SentryReporter
    from celeriac.health.recent import Recent
    from celeriac.health.server import HealthServer
    from celeriac.health.vitals import Vitals
    from celeriac.hooks.drain import Drain

logger = logging.getLogger(__name__)


def run(document: str, environ: Mapping[str, str]) -> int:
    """Run a worker until it ends; return the exit code.

    If the worker gives up, one sentence on stderr and in the termination log says why.
    """
    end_quietly_until_celery_listens()
    keep_sigterm_a_drain()
    environment = Environment(pod_name="-", termination_log=contract.termination_log(environ))
    try:
        environment = contract.parse_environment(environ, hostname=socket.gethostname())
        config = contract.parse(document)
        os.environ[contract.CONFIG_VARIABLE] = document  # for children that are spawned, not forked
        requirements.patch_green_pools(config)
        start = application.prepare(config, environment)
        requirements.require_custom_pool(config)
        requirements.require_releases(start)
        return work(start)
    except contract.ContractError as error:
        sentence = f"The worker's configuration cannot be used: {error}"
        return give_up(GivingUpError(sentence, Exit.CONFIGURATION), environment)
    except GivingUpError as giving_up:
        return give_up(giving_up, environment)


def work(start: Start) -> int:
    """Add the parts to the application, run Celery's worker command, and return its exit code."""
    from celeriac import logs, loop
    from celeriac.delivery import incoming, install
    from celeriac.doctor import examination
    from celeriac.failures.reporter import dead_letters
    from celeriac.health.backlog import BacklogWatch
    from celeriac.health.vitals import Vitals, pool_processes
    from celeriac.hooks import bodies
    from celeriac.hooks.drain import Drain
    from celeriac.hooks.reaper import Reaper
    from celeriac.policies import published

    app, config, environment = start.app, start.config, start.environment
    who = named(config, environment)
    formatter = logs.build_formatter(config.logging, always=who, own=start.own, color=is_colored(config))
    logs.install(formatter, config.logging, app)
    stock_consumer = app.conf.worker_consumer
    warn_once_logging_stands(start)
    reporter = start_reporting(start, who)
    deliveries = install.install(app, config, pod=environment.pod_name)
    delivery = deliveries or install.count_deliveries(app, config, pod=environment.pod_name)
    refusals = delivery.refusals
    incoming.install(app, refusals)
    vitals = Vitals(stalled_seconds=config.liveness.stalled_seconds, drain_timeout_seconds=config.drain.timeout_seconds)
    once_built(lambda worker: setattr(vitals, "worker", worker))
    delivery.on_dead_letter(dead_letters(reporter), vitals.dead_lettered)
    health = build_health_server(start, who, vitals, deliveries)
    drain = Drain(
        vitals, config.drain.timeout_seconds, report=partial(leave_sentences, environment), flush=reporter.flush
    )
    install_consumer(start, vitals, reporter, drain)
    install_events(app)
    published.install()
    once_set_up(
        lambda: logs.install_task_loggers(app),
        lambda: bodies.install(app),
        lambda: install_requests(start, reporter, deliveries, drain, vitals.recent),
        lambda: incoming.check_requests(app, refusals),
        lambda: refuse_wrong_policies(start),
        lambda: examination.warn(start),
        lambda: say_port(config, health),
        # The worker has created its consumer by now. Spawned children get the settings as a pickle, and this class
        # cannot be pickled.
        lambda: app.conf.update(worker_consumer=stock_consumer),
        keep_out_of_garbage_collection,
    )
    application.select_queues(app, config)
    app.fixups = {*app.fixups, "celeriac.spawned:set_up_spawned_child"}
    health.start()
    drain.start()
    Reaper(lambda: pool_processes(getattr(vitals.worker, "pool", None))).start()
    BacklogWatch(app, vitals).start()
    try:
        return drain.exit_code(run_celery(app, settings.celery_arguments(config, environment, start.own)))
    finally:
        delivery.leave()
        reporter.flush()
        health.stop()
        loop.stop_all()  # but not the drain's thread: it limits the time until the process has ended


# --- the steps ---


def end_quietly_until_celery_listens() -> None:
    """End on SIGTERM, and on Ctrl+C without a traceback, while the application is being imported.

    PID 1 has no default signal actions: without a handler the kernel ignores the signal, and a pod that is deleted
    while it starts would run until its grace period ends. The worker has not taken any message yet, so nothing is lost.
    """
    with contextlib.suppress(ValueError):  # not in the main thread
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os._exit(int(Exit.OK)))


def keep_sigterm_a_drain() -> None:
    """Make SIGTERM start a drain, as Kubernetes expects, even in an image that sets `REMAP_SIGTERM=SIGQUIT`.

    Celery and billiard read this variable when they are imported. SIGTERM would then end the running tasks.
    """
    os.environ.pop("REMAP_SIGTERM", None)


def warn_once_logging_stands(start: Start) -> None:
    """Log once, in the worker's own format, the unknown keys and the settings that the pool has changed."""
    from celery import signals

    def warn(**_: Any) -> None:
        for key in start.config.unknown_keys:
            logger.warning("configuration: ignoring %s, which this version of the library does not know", key)
        for setting in start.laid:
            if "url" not in setting.name and setting.name != "result_backend":
                shown = without_secrets({setting.name: setting.value})[setting.name]
                logger.debug("configuration: %s = %r (%s)", setting.name, shown, setting.source.value)

    signals.celeryd_after_setup.connect(warn, weak=False, dispatch_uid="celeriac-warnings")


def named(config: Config, environment: Environment) -> dict[str, str]:
    """The fields that identify this worker in logs and reports."""
    return {"pool": config.pool.name, "namespace": config.pool.namespace, "pod": environment.pod_name}


def start_sentry(config: Config, who: Mapping[str, str]) -> SentryReporter | None:
    """Start the reporter to Sentry, if the pool asks for it."""
    if config.sentry is None:
        return None
    from celeriac.failures.sentry.client import SentryReporter

    sentry = SentryReporter(config.sentry, who)
    sentry.start()
    return sentry


def start_reporting(start: Start, who: Mapping[str, str]) -> Reporters:
    """Start the reporters that the pool asks for: Sentry, a channel in Slack, both or none."""
    from celeriac.failures.reporter import Reporters

    config = start.config
    reporters: list[Any] = []
    apart: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    sentry = start_sentry(config, who)
    if sentry is not None:
        reporters.append(sentry)
        apart = sentry.apart
    if config.notifications.slack is not None:
        from celeriac.failures.notifications.grouping import Origin
        from celeriac.failures.notifications.slack import SlackReporter

        file = config.notifications.slack.webhook_file
        slack = SlackReporter(file, Origin(**who), secrets=start.environment.urls(), apart=apart)
        slack.start()
        reporters.append(slack)
    return Reporters(reporters)


def build_health_server(
    start: Start, who: Mapping[str, str], vitals: Vitals, deliveries: Deliveries | None
) -> HealthServer:
    """Build the server for probes and Prometheus (not started), and the report that autoscaling reads in Redis."""
    from celeriac.health.server import HealthServer
    from celeriac.metrics.exposition import WorkerMetrics
    from celeriac.metrics.worker import count_here

    config = start.config
    counted = count_here()
    metrics = WorkerMetrics(vitals.observe, counted, namespace=config.pool.namespace, pool=config.pool.name)
    if deliveries is not None:
        full_name = f"{config.pool.namespace}/{config.pool.name}"
        deliveries.tell_figures(full_name, worker=lambda: vitals.worker, counted=counted)
    versions = {"version": version(), "celery": version("celery")}
    described = {**who, **versions, "node": settings.node_name(config, start.environment)}
    return HealthServer(config.liveness.port, vitals.observe, vitals.recent_work, described, metrics.render)


def install_consumer(start: Start, vitals: Vitals, reporter: Reporters, drain: Drain) -> None:
    """Add this library's hooks to the consumer class that the application names."""
    from kombu.utils.imports import symbol_by_name

    from celeriac.hooks import consumer, failures
    from celeriac.hooks.drain import hand_back_held

    conf = start.app.conf
    parts = consumer.ConsumerParts(
        vitals=vitals,
        retry=settings.retries(start.config, start.own),
        reporter=reporter,
        prefetch_window=prefetch_window(start),
        on_giving_up=partial(say_last, start.environment, drain, logger),
        begin_drain=drain.begin,
        hand_back=hand_back_held,
    )
    conf.worker_consumer = consumer.consumer_class(symbol_by_name(conf.worker_consumer), parts)
    failures.install_unknown_tasks(reporter)


def install_requests(
    start: Start, reporter: Reporters, deliveries: Deliveries | None, drain: Drain, recent: Recent
) -> None:
    """Notify each part of what happens to tasks. Deliveries come first: they note the end of a run before others."""
    from celeriac.hooks import counting, failures, requests, results, storing

    say = partial(say_last, start.environment, drain, results.logger)
    counted = counting.Counting(recent)
    counted.install()
    storing.install(start.app)
    requests.install(
        start.app,
        [
            *([deliveries] if deliveries is not None else []),
            results.ResultsGivenUp(start.app, say, drain.begin),
            failures.FailedRuns(reporter),
            counted,
        ],
    )


def prefetch_window(start: Start) -> Callable[..., int | None]:
    """A function that returns how many messages a consumer may hold.

    It takes the consumer, and the number of its slots if this has changed.
    """
    from celeriac.health.vitals import is_inline

    laid = {setting.name: setting.value for setting in start.laid}
    acks_late = laid.get("task_acks_late", start.own.get("task_acks_late"))

    def window(celerys_consumer: Any, slots: int | None = None) -> int | None:
        if celerys_consumer.controller.autoscale:
            return None  # the number of slots changes, and Celery changes its window with it
        return settings.window(
            start.config,
            start.own,
            slots=slots or celerys_consumer.controller.concurrency,  # a prefork pool has no processes yet
            acks_late=bool(acks_late),
            is_inline=is_inline(celerys_consumer.pool),
            largest_batch=application.largest_batch(start.app),
        )

    return window


def is_colored(config: Config) -> bool:
    """Whether lines may have colours: on a terminal, unless `--no-color` or the variable `NO_COLOR` is set."""
    return (
        sys.stderr.isatty()
        and not os.environ.get("NO_COLOR")
        and not {"-C", "--no-color"} & {*config.worker.extra_args}
    )


def say_port(config: Config, health: Any) -> None:
    """Log the port of the health server, if the configuration does not fix it."""
    if config.liveness.port == 0:
        logger.info("health server: http://127.0.0.1:%d/status", health.port)


def install_events(app: Any) -> None:
    """Keep monitoring events from blocking the worker. An application's own dispatcher class is not replaced."""
    from celery.app.events import Events

    if app.events.dispatcher_cls == Events.dispatcher_cls:
        app.events.dispatcher_cls = "celeriac.hooks.events:Dispatcher"


def once_built(action: Callable[[Any], None]) -> None:
    """Call `action` with Celery's worker as soon as it exists, before its parts are built."""
    from celery import signals

    signals.worker_init.connect(lambda sender, **_: action(sender), weak=False, dispatch_uid="celeriac-built")


def once_set_up(*actions: Callable[[], object]) -> None:
    """Call `actions` in order when all tasks are registered, before the pool starts."""
    from celery import signals

    def act(**_: Any) -> None:
        for action in actions:
            action()

    signals.celeryd_after_setup.connect(act, weak=False, dispatch_uid="celeriac-set-up")


def refuse_wrong_policies(start: Start) -> None:
    """End the worker if policies of tasks are wrong or have no effect.

    Raises:
        SystemExit: a policy is wrong. Celery suppresses all other exceptions of a signal receiver.
    """
    from celeriac.policies import misplaced

    found = misplaced.problems(start.app.tasks.values())
    if found:
        raise SystemExit(give_up(GivingUpError("; ".join(found), Exit.CONFIGURATION), start.environment))


def keep_out_of_garbage_collection() -> None:
    """Exclude all objects that exist now, such as imported modules, from garbage collection.

    A full collection of them stops every thread for 30 to 50 ms (60,000 objects, Python 3.11), and writes to the memory
    pages that the children of a prefork pool share with their parent.
    """
    gc.collect()
    gc.freeze()


def run_celery(app: Any, arguments: list[str]) -> int:
    """Run Celery's own command line in this process, and return its exit code.

    Raises:
        GivingUpError: Celery does not accept the arguments or its configuration.
    """
    import click
    from celery.bin.celery import celery as command
    from celery.exceptions import ImproperlyConfigured

    try:
        code = command.main(
            args=["--app", app, *arguments], prog_name="celery", standalone_mode=False, auto_envvar_prefix="CELERY"
        )
    except click.ClickException as error:
        shown = " ".join(arguments)
        raise GivingUpError(
            f"Celery does not take the worker's arguments ({error.format_message()}): {shown}", Exit.USAGE
        ) from None
    except ImproperlyConfigured as error:
        raise GivingUpError(f"Celery refuses its configuration: {error}", Exit.CONFIGURATION) from None
    except SystemExit as error:
        code = error.code
    return code if isinstance(code, int) else int(Exit.OK if code is None else Exit.FAILURE)


def give_up(giving_up: GivingUpError, environment: Environment, log: logging.Logger = logger) -> int:
    """Log the reason, write it into the termination message, and return the exit code."""
    (sentence,) = leave_sentences(environment, str(giving_up))
    if logging.getLogger().handlers:
        log.critical("%s", sentence)
    else:
        print(f"celeriac: {sentence}", file=sys.stderr, flush=True)
    return int(giving_up.code)


def say_last(environment: Environment, drain: Drain, log: logging.Logger, giving_up: GivingUpError) -> None:
    """Log why a running worker gives up. Its drain will end with this message and exit code."""
    drain.given_up = giving_up
    give_up(giving_up, environment, log)


def leave_sentences(environment: Environment, *sentences: str) -> list[str]:
    """Write the termination message, and return its sentences without passwords."""
    said = [scrub(it, environment.urls()) for it in sentences]
    write_termination_message(environment.termination_log, *said)
    return said
