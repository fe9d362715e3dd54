"""A pool that the application brings along runs its tasks as with stock Celery."""

from __future__ import annotations

import sys

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer
from tests.waiting import eventually

from celeriac.store import keys

POOL = "coroutines:CoroutinePool"


@pytest.mark.parametrize("named_by", ["stock", "the variable", "the application"])
def test_a_pool_that_replaces_celerys_tracer_runs_coroutines(
    named_by: str, start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    environment = {"TEST_BROKER": redis_server.url}
    if named_by == "stock":
        command = [sys.executable, "-m", "celery", "-A", "coroutines:app", "worker", "-l", "INFO"]
        worker = start_worker(command=command, environment={**environment, "TEST_POOL": POOL})
        worker.until_logged(r"ready\.$")
    elif named_by == "the variable":
        custom = {"CELERY_CUSTOM_WORKER_POOL": POOL}
        worker = start_worker("coroutines:app", worker={"pool": "custom"}, environment={**environment, **custom})
        worker.until_ready()
    else:
        worker = start_worker(
            without=["CELERIAC_CONFIG"],  # the document of the tests names a pool
            environment={**environment, "TEST_POOL": POOL},
            arguments=["--app", "coroutines:app", "--health-port", "{port}"],
        ).until_ready()
    assert producer.send_task("coroutines.add", (1, 2)).get(timeout=60) == 3
    assert producer.send_task("coroutines.plain", (7,)).get(timeout=60) == 7
    with pytest.raises(ValueError, match="broken"):
        producer.send_task("coroutines.fail").get(timeout=60)
    left = ("celery", "unacked", keys.held("celery"))
    eventually(lambda: not redis_server.client.exists(*left), timeout=30, what="that all messages are settled")
    worker.terminate()
    assert worker.wait() == 0
