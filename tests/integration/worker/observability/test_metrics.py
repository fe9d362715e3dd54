"""A real worker produces every metric of docs/reference/worker-metrics.md."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from celery import Celery
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer, WorkerProcess

from celeriac import counts
from celeriac.metrics.exposition import COUNTERS, GAUGES

F = TypeVar("F", bound=Callable[..., Any])
SHOWN: set[str] = set()
POOLS = ("prefork", "threads", "solo")
LONG = 90.0
"""Seconds for whatever comes about by itself, also on a busy machine."""


def shows(*names: str) -> Callable[[F], F]:
    """Name the metrics that a test produces."""
    SHOWN.update(names)
    return lambda test: test


class Page:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def __repr__(self) -> str:
        shown = {
            (it.name, *it.labels.values()): it.value for it in self.samples if it.value and "_bucket" not in it.name
        }
        return str(shown)

    def value(self, name: str, /, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        return sum(it.value for it in self.samples if it.name == name and labels.items() <= it.labels.items())

    def by(self, label: str, name: str, /, **labels: str) -> dict[str, float]:
        """The values of one metric by one of its labels."""
        found = [it for it in self.samples if it.name == name and labels.items() <= it.labels.items()]
        return {it.labels[label]: it.value for it in found}


def scrape(worker: WorkerProcess) -> Page:
    answer = worker.get("/metrics", timeout=10)
    assert answer is not None, "nothing answers on /metrics"
    assert answer.status == 200
    return Page(answer.body)


def until(worker: WorkerProcess, is_right: Callable[[Page], object], what: str) -> Page:
    return worker.until(lambda: scrape(worker), is_right, timeout=LONG, what=what)


def states(page: Page, name: str) -> dict[str, float]:
    return page.by("state", "celeriac_worker_tasks_total", name=name)


def test_every_metric_is_brought_about_here() -> None:
    names = {it.name for it in GAUGES} | {f"{it.name}_total" for it in COUNTERS}
    names |= {f"{it.name}_total" if isinstance(it, counts.Count) else it.name for it in counts.definitions()}
    assert names == SHOWN


@shows("celeriac_worker_tasks_total", "celeriac_worker_task_runtime_seconds")
@pytest.mark.parametrize("pool", POOLS)
def test_tasks_are_counted_by_name_and_state(pool: str, start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker("counted:app", worker={"pool": pool, "concurrency": 2}).until_ready(timeout=LONG)
    for name in ("fine", "fine", "fails", "retries", "ignores", "rejects"):
        producer.send_task(name)
    expected = {
        "fine": {"received": 2, "started": 2, "succeeded": 2},
        "fails": {"received": 1, "started": 1, "failed": 1},
        "retries": {"received": 2, "started": 2, "retried": 1, "succeeded": 1},
        "ignores": {"received": 1, "started": 1, "ignored": 1},
        "rejects": {"received": 1, "started": 1, "rejected": 1},
    }
    page = until(worker, lambda it: {name: states(it, name) for name in expected} == expected, f"states: {expected}")
    assert page.value("celeriac_worker_task_runtime_seconds_count", name="fine") == 2
    assert page.value("celeriac_worker_task_runtime_seconds_sum", name="fine") < 5
    assert {(it.labels["namespace"], it.labels["pool"]) for it in page.samples} == {("default", "plain")}
    assert not any("pod" in it.labels for it in page.samples)


@shows("celeriac_worker_redeliveries_total", "celeriac_worker_dead_letters_total")
def test_tasks_that_are_ended_from_outside_are_counted_too(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(
        "counted:app", worker={"pool": "prefork", "concurrency": 2}, delivery={"maxDeliveries": 2}
    ).until_ready(timeout=LONG)
    producer.send_task("hangs")
    producer.send_task("dies")
    page = until(worker, lambda it: it.value("celeriac_worker_dead_letters_total"), "the deadly message is given up")
    assert page.by("queue", "celeriac_worker_dead_letters_total") == {"celery": 1}
    page = until(worker, lambda it: states(it, "hangs").get("timed_out"), "the hard limit")
    assert states(page, "hangs") == {"received": 1, "started": 1, "timed_out": 1}
    assert states(page, "dies") == {"received": 2, "started": 2, "lost": 2}
    assert page.value("celeriac_worker_redeliveries_total") == 1
    assert page.value("celeriac_worker_task_runtime_seconds_sum", name="hangs") >= 1


def test_tasks_that_are_revoked_or_expire_are_counted(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker("counted:app", worker={"pool": "prefork"}).until_ready(timeout=LONG)
    producer.send_task("fine", expires=-1)
    sleeping = producer.send_task("sleeps", (60,))
    until(worker, lambda it: states(it, "sleeps").get("started"), "the task runs")
    producer.control.revoke(sleeping.id, terminate=True)
    page = until(worker, lambda it: states(it, "sleeps").get("revoked"), "the task is terminated")
    assert states(page, "sleeps") == {"received": 1, "started": 1, "revoked": 1}
    assert states(page, "fine") == {"expired": 1}


@shows("celeriac_worker_task_wait_seconds")
def test_the_wait_is_known_where_the_producer_has_the_library(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker("counted:app", worker={"pool": "prefork", "concurrency": 2}).until_ready(timeout=LONG)
    producer.send_task("sends", (3,))  # by a plain producer: nobody knows how long this one waits
    page = until(worker, lambda it: states(it, "fine").get("succeeded"), "the task that was sent by a task")
    assert page.by("queue", "celeriac_worker_task_wait_seconds_count") == {"celery": 1}
    # The countdown of three seconds does not count as waiting.
    assert page.value("celeriac_worker_task_wait_seconds_bucket", le="2.5") == 1


@shows(
    "celeriac_worker_slots",
    "celeriac_worker_busy_slots",
    "celeriac_worker_prefetched_messages",
    "celeriac_worker_scheduled_messages",
    "celeriac_worker_in_flight_messages",
    "celeriac_worker_oldest_task_seconds",
    "celeriac_worker_consuming",
    "celeriac_worker_draining",
    "celeriac_worker_uptime_seconds",
)
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_what_the_worker_holds_and_does_is_shown(pool: str, start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker("counted:app", worker={"pool": pool, "concurrency": 2, "prefetch": 3}).until_ready(
        timeout=LONG
    )
    producer.send_task("fine", countdown=600)
    until(worker, lambda it: it.value("celeriac_worker_scheduled_messages") == 1, "one waits for its time")
    for _ in range(3):
        producer.send_task("sleeps", (6,))
    expected = {
        "celeriac_worker_slots": 2,
        "celeriac_worker_busy_slots": 2,
        "celeriac_worker_prefetched_messages": 1,
        "celeriac_worker_scheduled_messages": 1,
        "celeriac_worker_in_flight_messages": 4,
        "celeriac_worker_consuming": 1,
        "celeriac_worker_draining": 0,
    }
    page = until(worker, lambda it: {name: it.value(name) for name in expected} == expected, f"{expected}")
    assert 0 < page.value("celeriac_worker_oldest_task_seconds") < page.value("celeriac_worker_uptime_seconds")
    worker.terminate()
    page = until(worker, lambda it: it.value("celeriac_worker_draining") == 1, "the worker drains")
    until(worker, lambda it: it.value("celeriac_worker_in_flight_messages") <= 2, "what does not run is handed back")


@shows("celeriac_worker_leases_renewed_total", "celeriac_worker_leases_lost_total")
def test_leases_are_counted_when_they_are_renewed_and_when_they_are_lost(
    start_worker: StartWorker, producer: Celery
) -> None:
    pool = {"pool": "threads", "concurrency": 1, "prefetch": 0}
    paused = start_worker("counted:app", worker=pool, delivery={"leaseSeconds": 5}).until_ready(timeout=LONG)
    producer.send_task("sleeps", (30,))
    page = until(paused, lambda it: it.value("celeriac_worker_leases_renewed_total"), "a lease is renewed")
    assert page.value("celeriac_worker_leases_lost_total") == 0
    heir = start_worker("counted:app", worker=pool, delivery={"leaseSeconds": 5}).until_ready(timeout=LONG)
    paused.pause()
    until(heir, lambda it: states(it, "sleeps").get("started"), "the lease has ended and the message is taken over")
    paused.resume()
    until(paused, lambda it: it.value("celeriac_worker_leases_lost_total") == 1, "the loss is noticed")
    assert scrape(heir).value("celeriac_worker_redeliveries_total") == 1


@shows("celeriac_worker_cut_short_tasks_total")
def test_tasks_that_a_drain_cuts_short_are_counted(start_worker: StartWorker, producer: Celery, tmp_path: Path) -> None:
    """Reports that nobody takes keep the worker long enough for a look at its last page."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = tmp_path / "dsn"
        dsn.write_text(f"http://public@127.0.0.1:{silent.getsockname()[1]}/1")
        worker = start_worker(
            "counted:app",
            worker={"pool": "threads", "concurrency": 2},
            drain={"timeoutSeconds": 1},
            sentry={"dsnFile": str(dsn)},
        ).until_ready(timeout=LONG)
        producer.send_task("fails")
        producer.send_task("sleeps", (60,))
        until(worker, lambda it: states(it, "fails").get("failed") and states(it, "sleeps").get("started"), "both ran")
        worker.terminate()
        page = until(worker, lambda it: it.value("celeriac_worker_cut_short_tasks_total"), "the time is up")
        assert page.by("outcome", "celeriac_worker_cut_short_tasks_total") == {"handed_back": 1}


@shows("celeriac_broker_losses_total", "celeriac_broker_reconnects_total")
@pytest.mark.parametrize("pool", POOLS)
def test_the_brokers_losses_and_returns_are_counted(
    pool: str, start_worker: StartWorker, redis_server: RedisServer
) -> None:
    worker = start_worker("counted:app", worker={"pool": pool}).until_ready(timeout=LONG)
    page = scrape(worker)
    assert page.value("celeriac_broker_losses_total") == page.value("celeriac_broker_reconnects_total") == 0
    redis_server.stop()
    page = until(worker, lambda it: it.value("celeriac_broker_losses_total") == 1, "the loss is noticed")
    assert page.value("celeriac_worker_consuming") == page.value("celeriac_broker_reconnects_total") == 0
    redis_server.start()
    page = until(worker, lambda it: it.value("celeriac_broker_reconnects_total"), "the worker is back")
    assert page.value("celeriac_broker_losses_total") == 1


@shows("celeriac_worker_policy_outcomes_total", "celeriac_worker_lock_wait_seconds", "celeriac_worker_locks_lost_total")
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_policies_and_locks_are_counted_wherever_in_the_pool_they_are_used(
    pool: str, start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    four = {"pool": pool, "concurrency": 4}  # a slot for each run: one that waits for a slot would not meet the other
    worker = start_worker("counted:app", worker=four).until_ready(timeout=LONG)

    def outcomes(page: Page, policy: str) -> dict[str, float]:
        return page.by("outcome", "celeriac_worker_policy_outcomes_total", policy=policy)

    producer.send_task("calls")
    until(worker, lambda it: outcomes(it, "Throttle") == {"published": 1, "dropped": 1}, "a call is dropped")
    for name, met in (("alone", "skipped"), ("alone_later", "put_back")):
        producer.send_task(name, ("gate",))
        assert redis_server.client.blpop(["running"], timeout=int(LONG)), f"{name} does not run"
        producer.send_task(name, ("",))
        until(worker, lambda it, met=met: outcomes(it, "Exclusive").get(met), "the second one does not")  # type: ignore[misc]
        redis_server.client.lpush("gate", "open")
    page = until(worker, lambda it: outcomes(it, "Exclusive").get("ran") == 3, "the second one runs later")
    assert outcomes(page, "Exclusive")["skipped"] == 1
    assert outcomes(page, "Exclusive")["put_back"] >= 1
    producer.send_task("loses_its_lock")
    page = until(worker, lambda it: it.value("celeriac_worker_locks_lost_total") == 1, "a lock is lost")
    waits = page.by("outcome", "celeriac_worker_lock_wait_seconds_count")
    assert waits["acquired"] == 4
    assert waits["not_acquired"] >= 2


def test_counts_of_children_that_are_killed_stay(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(
        "counted:app", worker={"pool": "prefork", "concurrency": 1, "maxTasksPerChild": 1}
    ).until_ready(timeout=LONG)
    for _ in range(3):
        producer.send_task("calls")
    name = "celeriac_worker_policy_outcomes_total"
    until(worker, lambda it: it.value(name, policy="Throttle", outcome="dropped") == 5, "three children have counted")


def test_a_page_of_many_names_is_bounded(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker("many:app", worker={"pool": "threads", "concurrency": 4}).until_ready(timeout=LONG)
    for number in range(130):
        producer.send_task(f"many.{number}")
    page = until(
        worker, lambda it: it.value("celeriac_worker_tasks_total", state="succeeded") == 130, "all tasks have run"
    )
    by_name = page.by("name", "celeriac_worker_tasks_total", state="succeeded")
    assert len(by_name) == 101
    assert by_name["other"] == 30
