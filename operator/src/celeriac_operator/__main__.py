"""How does the operator start and stop? Reads the environment, builds every object, runs them and ends them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib.metadata
import logging
import os
import socket
import sys
import uuid
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import kopf
import prometheus_client

from celeriac_operator import logs
from celeriac_operator import settings as operator_settings
from celeriac_operator.asking.rounds import Workers
from celeriac_operator.autoscaling.brokers.access import Access
from celeriac_operator.autoscaling.connections import connector
from celeriac_operator.autoscaling.scaler import Scaler
from celeriac_operator.cluster import watches
from celeriac_operator.cluster.client import Cluster
from celeriac_operator.cluster.lease import Election
from celeriac_operator.cluster.transport import Transport, connect
from celeriac_operator.exceptions import StartError
from celeriac_operator.memory.caches import Caches, Key
from celeriac_operator.memory.intake import Intake
from celeriac_operator.memory.resync import Resync
from celeriac_operator.metrics import Metrics
from celeriac_operator.passes.controller import Controller
from celeriac_operator.passes.default_dsn import DefaultDsn
from celeriac_operator.passes.reconcile import Reconciler, Sources
from celeriac_operator.passes.shrinking import Shrinking
from celeriac_operator.settings import Settings, SettingsError
from celeriac_operator.workqueue import WorkQueue

logger = logging.getLogger("celeriac_operator")

STUCK_SECONDS = 600
"""A pool that has waited this long for a pass shows that reconciling is stuck: the health check fails, and Kubernetes
restarts the operator."""

END_SECONDS = 1.0
"""Time for the watches to end and for the Lease to be released. Watches only read, and a Lease that is not released
expires by itself."""

YOUNG_OBJECTS = 10_000
"""New objects between two runs of the cyclic garbage collector. Each reply of the API server makes hundreds of objects
without a cycle; with Python's default of 700 the collector would take a tenth of the operator's CPU time."""

ENVIRONMENT = """\
environment variables:
  CELERIAC_WORKER_IMAGE              image that the worker library is injected from (required)
  CELERIAC_WORKER_IMAGE_PULL_POLICY  Always, IfNotPresent or Never (IfNotPresent)
  CELERIAC_WORKERS_UPGRADE           OnNextChange or Immediately: when running pools get a newer library (OnNextChange)
  CELERIAC_WATCH_NAMESPACES          namespaces to watch, separated by commas (all)
  CELERIAC_HEALTH_PORT               port of /healthz (8080)
  CELERIAC_METRICS_PORT              port of /metrics; 0: none (9090)
  CELERIAC_LEASE_NAMESPACE           namespace of the Lease for leader election (none: a single replica)
  CELERIAC_LEASE_NAME                name of that Lease (celeriac-operator)
  CELERIAC_POD_NAME                  this replica's name in the Lease (host name and a random suffix)
  CELERIAC_LOG_LEVEL                 DEBUG, INFO, WARNING or ERROR (INFO)
  CELERIAC_LOG_FORMAT                Text or JSON (Text)
  CELERIAC_SENTRY_DSN_FILE           file with the Sentry DSN for pools with a sentry section that sets no DSN (none)
  CELERIAC_BROKER_HOSTS              hosts that broker URLs may name: names, *.domains, networks; with commas (any)
  CELERIAC_BROKER_TLS_FILES          files that broker URLs may name, separated by commas (none)
  CELERIAC_RECONCILE_WORKERS         pools that are reconciled at the same time (8)
  CELERIAC_STALLED_AFTER_SECONDS     seconds for which a pool must be failing before it is Stalled (90)
  CELERIAC_READ_QUEUES               All or Autoscaling: pools whose queues are read (All)
  CELERIAC_RESYNC_SECONDS            seconds between two comparisons of the caches with the cluster (300)
  KUBECONFIG                         outside a cluster: the kubeconfig file to use
"""


async def run(settings: Settings) -> None:
    """Run the operator until it gets a signal.

    Raises:
        StartError: the operator cannot run here.
    """
    metrics, caches = Metrics(), Caches()
    queue: WorkQueue[Key] = WorkQueue()
    intake = Intake(caches, queue, metrics)
    # Two processes on one host need two identities; in a pod, the pod's name is unique and tells people more.
    identity = settings.pod_name or f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    api = await connect(f"celeriac-operator/{_version()} ({identity})")
    election = _candidate(settings, Transport(api, metrics.count_request), identity)
    transport = Transport(api, metrics.count_request, seconds_left=election.seconds_left if election else None)

    def leads() -> bool:
        return election is None or election.seconds_left() > 0

    def waited() -> float:
        # A replica that does not lead makes no passes, so pools may wait there.
        return queue.oldest_seconds() if leads() else 0.0

    metrics.follow(
        depth=queue.depth,
        oldest=waited,
        pools=lambda: len(caches.pools),
        leads=leads,
        conditions=caches.conditions,
        pool_conditions=lambda: list(caches.pool_conditions()),
    )
    cluster = Cluster(transport, settings.watch_namespaces)
    shrinking = Shrinking(cluster, metrics)
    try:
        resync = Resync(cluster, caches, intake, queue, metrics, period_seconds=settings.resync_seconds)
        await resync.load()
        # The loaded pools live long: excluded from garbage collection, they cost nothing in later runs.
        gc.freeze()
        default_dsn = DefaultDsn(settings.sentry_dsn_file)
        access = Access(hosts=settings.broker_hosts, files=settings.broker_tls_files)
        scaler = Scaler(
            cluster, caches, queue, metrics, _now, reports_all=settings.read_queues, connect=connector(access)
        )
        workers = Workers(caches, queue, metrics, _now)
        reconciler = Reconciler(
            cluster,
            caches,
            settings,
            _now,
            shrinking.prepare,
            Sources(default_dsn=default_dsn.read, scaling=scaler.state, reports=workers.reports),
        )
        controller = Controller(queue, reconciler.reconcile, metrics, workers=settings.reconcile_workers)
        with _serve_metrics(settings, metrics):
            logger.info("%s; %d pools found", _introduction(settings), len(caches.pools))
            await _serve(
                settings, _work(election, (controller, scaler, workers), caches, queue), waited, resync, intake
            )
    finally:
        await shrinking.close()
        await transport.close()


def _candidate(settings: Settings, transport: Transport, identity: str) -> Election | None:
    if not settings.lease_namespace:
        return None
    return Election(transport, namespace=settings.lease_namespace, name=settings.lease_name, identity=identity)


async def _work(
    election: Election | None,
    parts: tuple[Controller, Scaler, Workers],
    caches: Caches,
    queue: WorkQueue[Key],
) -> None:
    """Reconcile, scale and ask workers while this replica leads. On becoming the leader, every known pool is reconciled
    first."""

    async def lead() -> None:
        queue.restart(caches.pools.known())
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part.run())

    await (election.run(lead) if election else lead())


async def _serve(
    settings: Settings,
    work: Coroutine[Any, Any, None],
    waited: Callable[[], float],
    resync: Resync,
    intake: Intake,
) -> None:
    """Run the watches, the passes and the resync until kopf gets a signal or one of them fails."""
    registry = kopf.OperatorRegistry()

    def check_health() -> str:
        stuck = waited()
        return f"a pool has waited {stuck:.0f} s to be reconciled" if stuck > STUCK_SECONDS else resync.deaf()

    watches.register(
        registry, changed=intake.event, gone=intake.deletion, began=resync.watch_began, check_health=check_health
    )
    signalled = asyncio.Event()
    watches.at_end(registry, signalled.set)
    own = [asyncio.create_task(coroutine) for coroutine in (work, resync.run(), signalled.wait())]
    # These tasks start before kopf does: when kopf ends it waits five seconds for every task that was created after
    # itself. For the same reason kopf gets no stop flag: it would wait for the task that waits for the flag.
    await asyncio.sleep(0)
    watching = asyncio.create_task(
        kopf.operator(
            registry=registry,
            settings=watches.settings(),
            standalone=True,
            # kopf declares a type for this string and does not export it. Without the string kopf looks up the
            # user's name, which fails in a container whose user has no name.
            identity=cast("Any", "celeriac-operator"),
            clusterwide=not settings.watch_namespaces,
            namespaces=settings.watch_namespaces,
            liveness_endpoint=f"http://0.0.0.0:{settings.health_port}/healthz",
        )
    )
    try:
        await asyncio.wait([watching, *own], return_when=asyncio.FIRST_COMPLETED)
        # The work ends first: it releases the Lease, and another replica waits for that.
        for task in own:
            task.cancel()
        # kopf 1.45 sometimes leaves a task of its own running when its watches end, and then waits for it.
        await asyncio.wait([watching, *own], timeout=END_SECONDS)
    finally:
        asyncio.get_running_loop().set_exception_handler(_at_the_end)
        for task in (watching, *own):
            task.cancel()
        ended = await asyncio.gather(watching, *own, return_exceptions=True)
    for outcome in ended:
        if isinstance(outcome, Exception):
            raise outcome


def _at_the_end(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handle errors while the loop ends. In kopf 1.45 a watch that is cancelled as it begins cannot close its
    generator; watches only read, so that is logged at DEBUG only."""
    if "asyncgen" in context:
        logger.debug("%s", context["message"])
    else:
        loop.default_exception_handler(context)


@contextlib.contextmanager
def _serve_metrics(settings: Settings, metrics: Metrics) -> Iterator[None]:
    if not settings.metrics_port:
        yield
        return
    try:
        server, thread = prometheus_client.start_http_server(settings.metrics_port, registry=metrics.registry)
    except OSError as error:
        raise StartError(
            f"port {settings.metrics_port} for metrics cannot be opened: {error.strerror}. Set CELERIAC_METRICS_PORT "
            "to another port"
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _now() -> datetime:
    return datetime.now(UTC)


def _version() -> str:
    return importlib.metadata.version("celeriac-operator")


def _introduction(settings: Settings) -> str:
    where = f"namespaces {', '.join(settings.watch_namespaces)}" if settings.watch_namespaces else "the whole cluster"
    return f"Celeriac operator {_version()} watches {where}; worker library image {settings.worker_image}"


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Returns the exit code: 0 after a signal, 1 when the operator cannot run here."""
    parser = argparse.ArgumentParser(
        prog="python -m celeriac_operator",
        description="Runs Celery worker pools on Kubernetes.",
        epilog=ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    parser.parse_args(arguments)
    try:
        settings = operator_settings.read(os.environ)
        logs.configure(settings.log_level, settings.log_format)
        gc.set_threshold(YOUNG_OBJECTS)
        asyncio.run(run(settings))
    except (StartError, SettingsError) as error:
        print(f"celeriac-operator: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
