"""Throttle and Exclusive with real workers, and from processes that only call tasks."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import celery.exceptions
import pytest
import redis
from celery import chain, chord, group
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.polling import BACKEND
from tests.integration.worker.processes import APPS, RedisServer, WorkerProcess
from tests.waiting import eventually


@pytest.fixture
def policed(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The application as a process has it that only calls tasks."""
    monkeypatch.syspath_prepend(str(APPS))
    module = importlib.import_module("policed")
    module.app.conf.update(broker_url=redis_server.url, result_backend="disabled://")
    yield module
    module.app.close()
    del sys.modules["policed"]


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server.url) as it:
        yield it


@pytest.fixture
def with_results(policed: ModuleType, redis_server: RedisServer) -> None:
    policed.app.conf.result_backend = f"{BACKEND}+{redis_server.url}"


Backlog = Callable[[], int]


@pytest.fixture
def backlog(client: Any) -> Backlog:
    return lambda: int(client.llen("celery"))


def lines(worker: WorkerProcess, name: str) -> list[str]:
    file = Path(worker.directory) / name
    return file.read_text().splitlines() if file.exists() else []


def spans(worker: WorkerProcess, name: str) -> list[tuple[float, float]]:
    began = [float(line.split()[0]) for line in lines(worker, f"{name}-began")]
    ended = [float(line.split()[0]) for line in lines(worker, f"{name}-ended")]
    return list(zip(began, ended, strict=True))


def overlap(runs: list[tuple[float, float]]) -> bool:
    ordered = sorted(runs)
    return any(first[1] > second[0] for first, second in itertools.pairwise(ordered))


# --- Throttle, seen from the caller


def test_the_first_call_is_published_and_the_others_get_its_handle(policed: ModuleType, backlog: Backlog) -> None:
    results = [policed.notify.delay("ann", text=str(n)) for n in range(5)]
    assert backlog() == 1
    assert {result.id for result in results} == {results[0].id}


def test_different_keys_do_not_meet(policed: ModuleType, backlog: Backlog) -> None:
    for user in ("ann", "bob", "ann", "bob"):
        policed.notify.delay(user=user)
    assert backlog() == 2


def test_a_call_after_the_window_is_published_again(policed: ModuleType, backlog: Backlog, client: Any) -> None:
    first = policed.notify.delay("ann")
    eventually(lambda: client.keys("celeriac:throttle:*") == [], timeout=4)
    assert policed.notify.delay("ann").id != first.id
    assert backlog() == 2


def test_of_many_calls_at_once_one_is_published(
    policed: ModuleType, backlog: Backlog, caplog: pytest.LogCaptureFixture
) -> None:
    with ThreadPoolExecutor(16) as threads:
        ids = {result.id for result in threads.map(lambda _: policed.notify.delay("ann"), range(64))}
    assert len(ids) == 1, caplog.text
    assert backlog() == 1


def test_a_call_that_is_sent_again_with_its_own_id_is_published_once(policed: ModuleType, backlog: Backlog) -> None:
    for _ in range(2):
        assert policed.notify.apply_async(("ann",), task_id="mine").id == "mine"
    assert backlog() == 1


def test_a_queue_priority_and_eta_are_kept(policed: ModuleType, client: Any) -> None:
    policed.notify.apply_async(("ann",), queue="mail", priority=6, countdown=100)
    assert client.llen("mail\x06\x166") == 1


@pytest.mark.usefixtures("with_results")
@pytest.mark.parametrize(
    "call",
    [
        lambda task: group(task.s("ann"), task.s("ann")).apply_async(),
        lambda task: [task.apply_async(("ann",), link=task.si("bob")) for _ in range(2)],
        lambda task: [chain(task.si("ann"), task.si("bob")).apply_async() for _ in range(2)],
        lambda task: chord([task.s("ann"), task.s("ann")], task.si("bob")).apply_async(),
    ],
    ids=["a group", "calls with callbacks", "chains", "a chord's header"],
)
def test_calls_that_carry_more_than_themselves_are_all_published(
    policed: ModuleType, backlog: Backlog, call: Callable[[Any], object]
) -> None:
    call(policed.notify)
    assert backlog() == 2


def test_an_unreachable_redis_fails_the_call_as_it_does_without_a_policy(
    policed: ModuleType, redis_server: RedisServer
) -> None:
    policed.app.conf.task_publish_retry = False
    redis_server.kill()
    with pytest.raises(celery.exceptions.OperationalError):
        policed.notify.delay("ann")


def test_a_policy_that_cannot_be_decided_publishes(
    policed: ModuleType, backlog: Backlog, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client.hset("celeriac:throttle:{policed.notify/ann}", "not", "a string")
    policed.notify.delay("ann")
    policed.notify.delay("ann")
    assert backlog() == 2
    assert "cannot be decided, it is published" in caplog.text


def test_a_broker_other_than_redis_decides_in_the_result_backend(
    policed: ModuleType, redis_server: RedisServer
) -> None:
    policed.app.conf.update(broker_url="memory://", result_backend=redis_server.url)
    # Handles unsubscribe when they are collected, perhaps after their server has gone.
    policed.app.backend.remove_pending_result = lambda result: result
    first, second = policed.notify.delay("ann"), policed.notify.delay("ann")
    assert first.id == second.id


def test_a_global_prefix_separates_applications(policed: ModuleType, client: Any) -> None:
    policed.app.conf.broker_transport_options = {"global_keyprefix": "shop-"}
    policed.notify.delay("ann")
    policed.notify.delay("ann")
    assert client.llen("shop-celery") == 1
    assert client.keys("celeriac:*") == []


def test_eager_mode_runs_every_call(policed: ModuleType, tmp_path: Path) -> None:
    policed.app.conf.task_always_eager = True
    policed.DIRECTORY = tmp_path
    assert [policed.notify.delay("ann").get() for _ in range(2)] == ["ann", "ann"]


# --- with workers


@pytest.mark.usefixtures("with_results")
def test_a_throttled_task_that_retries_comes_to_its_end(policed: ModuleType, start_worker: StartWorker) -> None:
    start_worker("policed:app", worker={"pool": "threads"})
    assert policed.flaky.delay("ann").get(timeout=15) == 2


def test_a_shared_task_is_throttled_and_has_a_logger(
    redis_server: RedisServer, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(APPS))
    shared = importlib.import_module("shared")
    shared.app.conf.update(broker_url=redis_server.url, result_backend=f"{BACKEND}+{redis_server.url}")
    greet = shared.app.tasks["shared.greet"]
    worker = start_worker("shared:app")
    first, second = greet.delay("ann"), greet.delay("ann")
    assert first.id == second.id
    assert first.get(timeout=15) == "ann"
    worker.until_logged(r"Task shared.greet\[.*\]: greeted")


@pytest.mark.usefixtures("with_results")
@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize("task", ["crawl", "queue_up"], ids=["put back", "waiting in the slot"])
def test_runs_of_one_key_do_not_overlap(policed: ModuleType, start_worker: StartWorker, pool: str, task: str) -> None:
    worker = start_worker("policed:app", worker={"pool": pool, "concurrency": 4})
    results = [getattr(policed, task).delay("a") for _ in range(4)]
    fences = [result.get(timeout=30) for result in results]
    runs = spans(worker, task)
    assert len(runs) == 4
    assert not overlap(runs)
    assert len(set(fences)) == 4


@pytest.mark.usefixtures("with_results")
def test_runs_of_different_keys_do_overlap(policed: ModuleType, start_worker: StartWorker) -> None:
    worker = start_worker("policed:app", worker={"pool": "threads", "concurrency": 4}).until_ready()
    results = [policed.crawl.delay(site, seconds=1) for site in "abcd"]
    for result in results:
        result.get(timeout=30)
    assert overlap(spans(worker, "crawl"))


@pytest.mark.usefixtures("with_results")
def test_a_skipped_call_is_revoked(policed: ModuleType, start_worker: StartWorker) -> None:
    worker = start_worker("policed:app", worker={"pool": "threads", "concurrency": 4})
    running = policed.refresh.delay("a", seconds=2)
    worker.until(lambda: lines(worker, "refresh-began"))
    skipped = policed.refresh.delay("a")
    with pytest.raises(celery.exceptions.TaskRevokedError, match="was under way"):
        skipped.get(timeout=15)
    assert running.get(timeout=15)
    assert len(lines(worker, "refresh-began")) == 1


@pytest.mark.usefixtures("with_results")
def test_the_lock_of_a_killed_worker_does_not_stop_its_task_from_running_again(
    policed: ModuleType, start_worker: StartWorker
) -> None:
    delivery = {"leaseSeconds": 5}
    first = start_worker("policed:app", delivery=delivery)
    result = policed.crawl.delay("a", seconds=3)
    first.until(lambda: lines(first, "crawl-began"))
    second = start_worker("policed:app", delivery=delivery)
    first.clean_up()
    second.until(lambda: lines(second, "crawl-ended"), timeout=25)
    assert result.get(timeout=10)
