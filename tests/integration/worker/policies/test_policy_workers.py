"""Policies and real processes: a worker that is killed, one that drops messages, a producer that is killed."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.policies.policy_cells import covers
from tests.integration.worker.polling import BACKEND
from tests.integration.worker.processes import APPS, RedisServer, WorkerProcess
from tests.waiting import eventually

import celeriac
from celeriac.store import keys

pytestmark = pytest.mark.timeout(120)

CALLING = ("throttled", "unique", "debounced", "coalesced")


@pytest.fixture
def policed(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The application as a process has it that only calls tasks."""
    monkeypatch.syspath_prepend(str(APPS))
    module = importlib.import_module("policed")
    module.app.conf.update(broker_url=redis_server.url, result_backend=f"{BACKEND}+{redis_server.url}")
    yield module
    module.app.close()
    del sys.modules["policed"]


def not_any(values: list[str]) -> bool:
    return not values


def noted(worker: WorkerProcess, name: str) -> list[str]:
    """The runs that a worker has noted, each as key and value."""
    file = Path(worker.directory) / name
    return file.read_text().splitlines() if file.exists() else []


@covers("the worker dies during the run")
def test_runs_and_wakers_of_a_killed_worker_come_to_their_ends_elsewhere(
    policed: ModuleType, start_worker: StartWorker, redis_server: RedisServer
) -> None:
    options = {"worker": {"pool": "threads", "concurrency": 8}, "delivery": {"leaseSeconds": 5}}
    first = start_worker("policed:app", environment={"HOLD_SECONDS": "600"}, **options)
    running = {name: getattr(policed, name).delay("ann", 1) for name in CALLING}
    crawling = policed.crawl.delay("ann", seconds=2)
    names = (*CALLING, "crawl")
    first.until(lambda: [noted(first, f"{name}-began") for name in names], all, timeout=40)
    waiting = policed.coalesced.delay("ann", 2)
    assert policed.coalesced.delay("ann", 3).id == waiting.id
    burst = policed.debounced_slowly.delay("bob", 1)
    # The waker is held by the worker, which waits for its ETA; the burst's last call comes later.
    first.until(lambda: redis_server.client.llen("celery"), lambda it: it == 0)
    assert policed.debounced_slowly.delay("bob", 2).id == burst.id
    first.clean_up()

    second = start_worker("policed:app", **options)
    assert policed.unique.delay("ann", 2).id == running["unique"].id
    assert policed.throttled.delay("ann", 2).id == running["throttled"].id
    for result in (*running.values(), crawling, waiting, burst):
        result.get(timeout=60)
    for name in ("throttled", "unique", "debounced"):
        assert noted(second, f"{name}-began") == ["ann 1"]
    assert noted(second, "debounced_slowly-began") == ["bob 2"]
    assert noted(second, "coalesced-began") == ["ann 1", "ann 3"]
    assert policed.unique.delay("ann", 3).id != running["unique"].id


def test_messages_that_a_worker_drops_free_their_keys(
    policed: ModuleType, start_worker: StartWorker, redis_server: RedisServer
) -> None:
    client = redis_server.client
    for name in ("unique", "coalesced"):
        getattr(policed, name).apply_async(("expired", 1), expires=0.01)
    worker = start_worker("policed:app", worker={"pool": "threads"}).until_ready()
    policed.app.control.revoke(["revoked-1", "revoked-2", "revoked-3"])
    worker.until_logged("flagged as revoked")
    for number, name in enumerate(("unique", "coalesced", "debounced"), 1):
        getattr(policed, name).apply_async(("revoked", 1), task_id=f"revoked-{number}")
    worker.until(lambda: [it for it in client.keys("celeriac:*") if "/revoked" in it or "/expired" in it], not_any)
    assert noted(worker, "unique-began") + noted(worker, "coalesced-began") == []


def test_a_killed_producers_last_call_runs_with_its_arguments(
    start_worker: StartWorker, redis_server: RedisServer
) -> None:
    """A producer has the library and nothing of a worker; it is gone right after its call."""
    code = (
        "import os, sys, policed\n"
        f"policed.app.conf.broker_url = {redis_server.url!r}\n"
        "for value in range(3): policed.debounced.delay('ann', value)\n"
        "heavy = {'celeriac.bootstrap', 'celeriac.delivery.transport', 'celeriac.hooks.consumer',"
        " 'sentry_sdk', 'prometheus_client'}\n"
        "print(sorted(heavy & set(sys.modules)), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(APPS), os.environ.get("PYTHONPATH", "")])}
    producer = subprocess.run(
        [sys.executable, "-c", code], check=False, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert producer.returncode == -9
    assert producer.stdout == "[]\n"
    worker = start_worker("policed:app", worker={"pool": "threads"})
    worker.until(lambda: noted(worker, "debounced-ended"), lambda it: it == ["ann 2"], timeout=40)


def test_debounce_needs_redis_as_the_broker_and_says_so(redis_server: RedisServer) -> None:
    app = Celery("other", broker="memory://", backend=redis_server.url, set_as_current=False)

    @app.task(base=celeriac.Task, policy=celeriac.Debounce(seconds=1), shared=False)
    def index() -> None:
        """Never runs."""

    with pytest.raises(celeriac.PolicyError, match=r"Debounce of task .*index needs Redis as the broker"):
        index.delay()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_burst_runs_once_with_the_last_arguments(policed: ModuleType, start_worker: StartWorker, pool: str) -> None:
    worker = start_worker("policed:app", worker={"pool": pool, "concurrency": 2}).until_ready()
    results = [policed.debounced.delay("ann", value) for value in range(20)]
    assert len({it.id for it in results}) == 1
    assert results[0].get(timeout=30) == 19
    eventually(lambda: noted(worker, "debounced-ended"), lambda it: it == ["ann 19"])


def test_a_call_after_a_waiting_one_was_revoked_runs(
    policed: ModuleType, start_worker: StartWorker, redis_server: RedisServer
) -> None:
    """All slots are busy, so the revoked messages wait in the queue, or in the worker for their ETA."""
    worker = start_worker(
        "policed:app", worker={"pool": "threads", "concurrency": 1}, environment={"HOLD_SECONDS": "8"}
    )
    policed.coalesced.delay("ann", 0)
    worker.until(lambda: noted(worker, "coalesced-began"))
    revoked = [
        policed.unique.delay("ann", 1),
        policed.unique.apply_async(("bob", 1), countdown=600),
        policed.debounced_slowly.delay("ann", 1),
        policed.coalesced.delay("ann", 1),
    ]
    for result in revoked:
        result.revoke()
    marks = [keys.revoked_prefix() + it.id for it in revoked]
    eventually(lambda: redis_server.client.exists(*marks), lambda it: it == len(marks), what="the worker was told")
    again = [
        policed.unique.delay("ann", 2),
        policed.unique.delay("bob", 2),
        policed.debounced_slowly.delay("ann", 2),
        policed.coalesced.delay("ann", 2),
    ]
    assert not {it.id for it in again} & {it.id for it in revoked}
    assert [it.get(timeout=100) for it in again] == [2, 2, 2, 2]
    assert noted(worker, "unique-began") == ["ann 2", "bob 2"]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_retry_with_another_key_frees_the_first_one(
    policed: ModuleType, start_worker: StartWorker, pool: str
) -> None:
    start_worker("policed:app", worker={"pool": pool, "concurrency": 2})
    assert policed.turning.delay("ann").get(timeout=60) == "bob"
    second = policed.turning.delay("ann")
    assert second.get(timeout=60) == "bob"


WRONG = (
    "policy of task mispoliced.without_base has no effect: the task needs base=celeriac.Task",
    "task mispoliced.misspelt: polcy= is not an option of a task: write policy=",
    "task mispoliced.wrong_key: it has no parameter 'usr'",
)


def test_a_worker_of_an_application_with_wrong_policies_names_each_and_ends_with_78(start_worker: StartWorker) -> None:
    worker = start_worker("mispoliced:app")
    assert worker.wait() == 78
    for sentence in WRONG:
        assert sentence in worker.termination_message()
    assert "right" not in worker.termination_message()
    assert "Traceback" not in worker.logs()


def test_the_doctor_names_each_wrong_policy_in_a_finding() -> None:
    environment = {**os.environ, "PYTHONPATH": str(APPS)}
    command = [sys.executable, "-m", "celeriac", "doctor", "--app", "mispoliced:app"]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    for sentence in WRONG:
        assert sentence in done.stdout
    assert "(wrong-policy)" in done.stdout
    assert "Traceback" not in done.stderr
