"""How is the operator itself configured? By environment variables, which the chart sets.

They hold namespaces, ports and intervals. What concerns a single pool is in that pool's resource.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

LogFormat = Literal["Text", "JSON"]
Upgrade = Literal["OnNextChange", "Immediately"]
PullPolicy = Literal["Always", "IfNotPresent", "Never"]

Word = TypeVar("Word", bound=str)

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class SettingsError(ValueError):
    """A variable is missing or its value is not valid; the message names the variable and the value."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The operator's configuration. Built once, at start."""

    worker_image: str
    """Image that the worker library is injected from. No default: its version must be the operator's own."""

    worker_image_pull_policy: PullPolicy = "IfNotPresent"
    """Pull policy of that image. The image of a release never changes under its tag."""

    workers_upgrade: Upgrade = "OnNextChange"
    """When running pools get a newer library. OnNextChange: at the pool's next change, so that an upgrade of the
    operator restarts no worker. Immediately: at once."""

    watch_namespaces: tuple[str, ...] = ()
    """Namespaces to watch; empty: the whole cluster."""

    health_port: int = 8080
    """TCP port of /healthz, for the operator's own probes."""

    metrics_port: int = 9090
    """TCP port of /metrics; 0: no metrics are served."""

    lease_namespace: str = ""
    """Namespace of the Lease for leader election; empty: there is a single replica and no election."""

    lease_name: str = "celeriac-operator"
    """Name of that Lease. Each release in a namespace needs its own."""

    pod_name: str = ""
    """Identity of this replica in the Lease. A container that is restarted in the same pod leads again at once, because
    its predecessor has ended. Empty: the host name and a random suffix."""

    log_level: str = "INFO"
    """The least severe level that is logged."""

    log_format: LogFormat = "Text"
    """One line of text or one JSON object for each record."""

    sentry_dsn_file: str = ""
    """File with the Sentry DSN for pools that have a sentry section without a DSN; empty: there is no such DSN. The
    file may be missing, and may change at any time."""

    broker_hosts: tuple[str, ...] = ()
    """Hosts that broker URLs may name: names, `*.` and a domain, or networks for addresses; empty: any."""

    broker_tls_files: frozenset[str] = frozenset()
    """Files that broker URLs may name. By default none: who writes a pool must not have the operator open a file."""

    reconcile_workers: int = 8
    """Pools that are reconciled at the same time. A pass mostly waits for the API server; more passes would only load
    it."""

    stalled_after_seconds: int = 90
    """Seconds for which a pool must have been failing before it is Stalled, unless the cause cannot go away by itself.
    Until then it is Reconciling: a Secret may be created later, a registry may be away, a node may be added."""

    read_queues: bool = True
    """Whether the queues of pools without autoscaling are read too, every 10 seconds, for their backlog in the status
    and the metrics."""

    resync_seconds: int = 300
    """Seconds between two comparisons of the caches with the cluster; every pool is reconciled again after each. A lost
    watch event is made up for within this time."""


def read(environment: Mapping[str, str]) -> Settings:
    """Settings from environment variables.

    Raises:
        SettingsError: names the variable, its value and what would be right.
    """
    image = environment.get("CELERIAC_WORKER_IMAGE", "")
    if not image:
        raise SettingsError("CELERIAC_WORKER_IMAGE is not set: name the celeriac-worker image of this release")
    default = Settings(worker_image=image)
    namespaces = environment.get("CELERIAC_WATCH_NAMESPACES", "")
    return Settings(
        worker_image=image,
        worker_image_pull_policy=_choice(
            environment, "CELERIAC_WORKER_IMAGE_PULL_POLICY", get_args(PullPolicy), default.worker_image_pull_policy
        ),
        workers_upgrade=_choice(environment, "CELERIAC_WORKERS_UPGRADE", get_args(Upgrade), default.workers_upgrade),
        watch_namespaces=_list(namespaces),
        broker_hosts=_list(environment.get("CELERIAC_BROKER_HOSTS", "")),
        broker_tls_files=frozenset(_list(environment.get("CELERIAC_BROKER_TLS_FILES", ""))),
        health_port=_integer(environment, "CELERIAC_HEALTH_PORT", default.health_port, 1, 65535),
        metrics_port=_integer(environment, "CELERIAC_METRICS_PORT", default.metrics_port, 0, 65535),
        lease_namespace=environment.get("CELERIAC_LEASE_NAMESPACE", ""),
        lease_name=environment.get("CELERIAC_LEASE_NAME", "") or default.lease_name,
        pod_name=environment.get("CELERIAC_POD_NAME", ""),
        log_level=_choice(environment, "CELERIAC_LOG_LEVEL", _LEVELS, default.log_level),
        log_format=_choice(environment, "CELERIAC_LOG_FORMAT", get_args(LogFormat), default.log_format),
        sentry_dsn_file=environment.get("CELERIAC_SENTRY_DSN_FILE", ""),
        reconcile_workers=_integer(environment, "CELERIAC_RECONCILE_WORKERS", default.reconcile_workers, 1, 256),
        stalled_after_seconds=_integer(
            environment, "CELERIAC_STALLED_AFTER_SECONDS", default.stalled_after_seconds, 0, 86400
        ),
        read_queues=_choice(environment, "CELERIAC_READ_QUEUES", ("All", "Autoscaling"), "All") == "All",
        resync_seconds=_integer(environment, "CELERIAC_RESYNC_SECONDS", default.resync_seconds, 1, 86400),
    )


def _list(text: str) -> tuple[str, ...]:
    """The parts between commas, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _choice(environment: Mapping[str, str], name: str, allowed: tuple[Word, ...], default: Word) -> Word:
    text = environment.get(name, "")
    for word in allowed:
        if text == word:
            return word
    if text:
        raise SettingsError(f"{name} is {text!r}: it can be {', '.join(allowed[:-1])} or {allowed[-1]}")
    return default


def _integer(environment: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdecimal() or not least <= int(text) <= most:
        raise SettingsError(f"{name} is {text!r}: it must be a number from {least} to {most}")
    return int(text)
