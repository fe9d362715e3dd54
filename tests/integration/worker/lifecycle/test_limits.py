"""Time limits, prefetch and recycling as the pool says."""

from __future__ import annotations

import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer
from tests.waiting import eventually


def test_the_pools_soft_limit_ends_a_task(start_worker: StartWorker, producer: Celery) -> None:
    start_worker(worker={"pool": "prefork"}, timeLimits={"softSeconds": 1, "hardSeconds": 30}).until_ready()
    with pytest.raises(SoftTimeLimitExceeded):
        producer.send_task("basic.sleep", (20,)).get(timeout=10)


def test_the_pools_hard_limit_ends_a_task_and_the_next_one_runs(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker(worker={"pool": "prefork"}, timeLimits={"hardSeconds": 1}).until_ready()
    with pytest.raises(TimeLimitExceeded):
        producer.send_task("basic.sleep", (20,)).get(timeout=10)
    assert producer.send_task("basic.add", (1, 1)).get(timeout=10) == 2
    assert worker.get("/livez").status == 200  # type: ignore[union-attr]


def test_what_a_task_declares_itself_wins_over_the_pool(start_worker: StartWorker, producer: Celery) -> None:
    start_worker("own:app", worker={"pool": "prefork"}, timeLimits={"hardSeconds": 60}).until_ready()
    with pytest.raises(TimeLimitExceeded):
        producer.send_task("own.limited").get(timeout=10)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        pytest.param({}, {"plain": True, "used_at_import": True, "early": False}, id="nobody says: late"),
        pytest.param(
            {"delivery": {"mode": "AtMostOnce"}},
            {"plain": False, "used_at_import": False, "early": False},
            id="the pool says at most once",
        ),
        pytest.param(
            {"delivery": {"mode": "App"}},
            {"plain": False, "used_at_import": False, "early": False},
            id="the pool leaves it to the application, which leaves it to Celery",
        ),
    ],
)
def test_acknowledging_early_or_late(
    document: dict[str, object], expected: dict[str, bool], start_worker: StartWorker, producer: Celery
) -> None:
    start_worker("own:app", worker={"pool": "solo"}, **document).until_ready()
    assert producer.send_task("own.acks_late").get(timeout=10) == {**expected, "late": True}


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize(("prefetch", "held"), [(0, 0), (1, 1), (3, 3)])
def test_the_worker_holds_as_many_messages_beyond_the_running_ones_as_the_pool_says(
    prefetch: int, held: int, pool: str, start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    worker = start_worker(worker={"pool": pool, "concurrency": 2, "prefetch": prefetch}).until_ready()
    for _ in range(8):
        producer.send_task("basic.sleep", (3,))
    worker.until(worker.status, lambda it: (it["busy"], it["prefetched"]) == (2, held), what=f"2 running, {held} held")
    assert redis_server.client.llen("celery") == 8 - 2 - held


def test_children_are_replaced_after_so_many_tasks(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker("own:app", worker={"pool": "prefork", "maxTasksPerChild": 2}).until_ready()
    pids = [producer.send_task("own.pid").get(timeout=10) for _ in range(4)]
    assert len(set(pids)) == 2
    assert worker.pid not in pids


def test_results_expire_as_the_pool_says(
    start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    start_worker(worker={"pool": "solo"}, resultBackend={"expiresSeconds": 77}).until_ready()
    result = producer.send_task("basic.add", (1, 1))
    result.get(timeout=10)
    ttl = eventually(lambda: redis_server.client.ttl(f"celery-task-meta-{result.id}"))
    assert 70 < ttl <= 77


def test_the_pools_queues_are_consumed_whatever_they_are_called(start_worker: StartWorker, producer: Celery) -> None:
    queues = ["a,b", "with space", "ümlaut_1"]
    start_worker(worker={"pool": "solo"}, queues=queues).until_ready()
    for queue in queues:
        assert producer.send_task("basic.add", (1, 1), queue=queue).get(timeout=10) == 2


def test_the_pools_broker_wins_over_the_variables_that_celery_prefers(
    start_worker: StartWorker, producer: Celery
) -> None:
    elsewhere = "redis://127.0.0.1:9/0"
    variables = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND")
    worker = start_worker(worker={"pool": "solo"}, environment=dict.fromkeys(variables, elsewhere)).until_ready()
    assert producer.send_task("basic.add", (1, 1)).get(timeout=10) == 2
    assert "127.0.0.1:9/" not in worker.logs()
