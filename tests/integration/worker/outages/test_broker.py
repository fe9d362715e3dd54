"""A broker that goes away: the worker waits, reports it, and resumes when the broker is back, or gives up."""

from __future__ import annotations

import re
import time

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer, free_port
from tests.waiting import eventually

from celeriac.exits import Exit

POOLS = ("prefork", "threads", "solo", "gevent", "eventlet")
QUICK = {"maxRetries": 200, "retryBackoffSeconds": {"initial": 0.1, "max": 0.3}}


@pytest.mark.parametrize("pool", POOLS)
def test_consuming_resumes_by_itself_after_an_outage_and_the_worker_stays_alive_throughout(
    pool: str, start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    worker = start_worker(worker={"pool": pool, "concurrency": 2}, broker=QUICK).until_ready()
    for round_ in range(2):
        redis_server.kill()
        answer = worker.until_not_ready()
        assert "broker has been away" in answer.body
        alive = worker.get("/livez")
        assert alive is not None
        assert (alive.status, alive.body) == (200, "ok\n")
        redis_server.start()
        worker.until_ready()
        assert producer.send_task("basic.add", (round_, 1)).get(timeout=10) == round_ + 1
    assert worker.status()["broker_losses"] == 2


@pytest.mark.parametrize("pool", POOLS)
def test_a_task_that_runs_through_an_outage_publishes_another_finishes_and_its_result_arrives(
    pool: str, start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    worker = start_worker(worker={"pool": pool, "concurrency": 2}, broker=QUICK).until_ready()
    result = producer.send_task("basic.relay", (2,))
    eventually(lambda: worker.status()["busy"], what="the task runs")
    redis_server.kill()
    time.sleep(3)  # the outage itself: the task ends in it
    redis_server.start()
    assert result.get(timeout=20) == 2
    worker.until_ready()
    finished = (worker.directory / "finished").read_text().splitlines()
    assert finished == ["2"]
    eventually((worker.directory / "notes").exists, what="the task that was published in the outage runs")


def test_a_threads_task_that_ends_in_an_outage_counts_as_running_no_more(
    start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    """Its end is booked by the loop, which does not turn while the broker is away."""
    worker = start_worker(worker={"pool": "threads", "concurrency": 2}, broker=QUICK).until_ready()
    producer.send_task("basic.hold", ("released",), ignore_result=True)
    worker.until(worker.status, lambda it: it["busy"] == 1, what="the task runs")
    redis_server.kill()
    assert "broker has been away" in worker.until_not_ready().body
    (worker.directory / "released").touch()
    worker.until(worker.status, lambda it: it["busy"] == 0, what="its end is booked")
    redis_server.start()
    worker.until_ready()
    assert producer.send_task("basic.add", (1, 1)).get(timeout=20) == 2


def test_a_broker_that_is_away_at_the_start_is_waited_for(
    start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    redis_server.stop()
    worker = start_worker(worker={"pool": "prefork"}, broker=QUICK)
    worker.until_logged(r"broker: cannot connect to redis://127.*\(3/200\)")
    assert worker.get("/livez").status == 200  # type: ignore[union-attr]
    assert worker.get("/readyz").status == 503  # type: ignore[union-attr]
    redis_server.start()
    worker.until_ready()
    assert producer.send_task("basic.add", (1, 1)).get(timeout=30) == 2


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("when", ["at the start", "in operation"])
def test_a_broker_that_stays_away_is_given_up_after_the_retries(
    when: str, pool: str, start_worker: StartWorker, redis_server: RedisServer
) -> None:
    if when == "at the start":
        redis_server.stop()
    few = {"maxRetries": 3, "retryBackoffSeconds": {"initial": 0.1, "max": 0.2}}
    worker = start_worker(worker={"pool": pool}, broker=few)
    if when == "in operation":
        worker.until_ready()
        redis_server.stop()
    assert worker.wait() == Exit.BROKER
    said = worker.termination_message()
    assert re.search(r"^The broker redis://127\.0\.0\.1:\d+/0 could not be reached after 3 retries, giving up: ", said)
    assert "refused" in said.lower()  # eventlet: ECONNREFUSED
    assert len(re.findall("broker: cannot connect", worker.logs())) == 3


@pytest.mark.parametrize("pool", POOLS)
def test_a_result_that_cannot_be_stored_ends_the_worker_and_its_task_runs_again(
    pool: str, start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    few = {"maxRetries": 2, "retryBackoffSeconds": {"initial": 0.1, "max": 0.2}}
    away = {"CELERIAC_RESULT_BACKEND_URL": f"redis://:hunter2@127.0.0.1:{free_port()}/0"}
    worker = start_worker(worker={"pool": pool, "concurrency": 2}, broker=few, environment=away).until_ready()
    result = producer.send_task("basic.add", (1, 2))
    assert worker.wait(40) == Exit.RESULT_BACKEND
    said = worker.termination_message()
    assert re.match(
        rf"The result of basic\.add\[{result.id}\] could not be stored in redis://\S+/0 after 2 retries", said
    )
    assert "hunter2" not in said + worker.logs()
    start_worker(worker={"pool": pool}, broker=few).until_ready()
    assert result.get(timeout=20) == 3


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "eventlet"])  # solo runs one task at a time
@pytest.mark.parametrize(
    ("what", "code", "sentence"),
    [("results", Exit.RESULT_BACKEND, "The result of basic.add["), ("the broker", Exit.BROKER, "The broker redis://")],
)
def test_a_worker_that_gives_up_says_so_though_a_task_outlasts_its_drain(
    what: str, code: Exit, sentence: str, pool: str, start_worker: StartWorker, redis_server: RedisServer
) -> None:
    few = {"maxRetries": 2, "retryBackoffSeconds": {"initial": 0.1, "max": 0.2}}
    away = {"CELERIAC_RESULT_BACKEND_URL": f"redis://:hunter2@127.0.0.1:{free_port()}/0"}
    worker = start_worker(
        worker={"pool": pool, "concurrency": 2}, broker=few, drain={"timeoutSeconds": 2}, environment=away
    ).until_ready()
    producer = Celery(broker=redis_server.url)
    producer.send_task("basic.sleep", (60,))
    worker.until(worker.status, lambda it: it["busy"] == 1, what="the long task runs")
    if what == "results":
        producer.send_task("basic.add", (1, 2))
    else:
        redis_server.stop()
    assert worker.wait(40) == code
    words = worker.termination_message()
    cut, said = words.splitlines()
    assert cut.startswith("drain: 1 task cut short after 2 s: basic.sleep[")
    assert said.startswith(sentence)
    assert "hunter2" not in words


def test_sigterm_is_obeyed_while_the_broker_is_away(start_worker: StartWorker, redis_server: RedisServer) -> None:
    worker = start_worker(
        worker={"pool": "prefork"}, broker={"maxRetries": 50, "retryBackoffSeconds": {"initial": 30, "max": 60}}
    ).until_ready()
    redis_server.stop()
    worker.until_logged("next attempt in")
    worker.terminate()
    assert worker.wait() == Exit.OK


@pytest.mark.timeout(150)
@pytest.mark.parametrize("pool", POOLS)
def test_a_broker_that_takes_connections_and_answers_nothing_counts_as_away_and_kills_nobody(
    pool: str, start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    worker = start_worker(worker={"pool": pool}, broker=QUICK, liveness={"stalledSeconds": 8}).until_ready()
    redis_server.pause()
    # A sign of life is due every 5 s, and silence is called an outage 10 s after a question; a heartbeat that is tried
    # first holds the loop up for as long again, since redis-py tries it four times.
    assert "broker has been away" in worker.until_not_ready().body
    # Longer than stalledSeconds from the first silence on.
    worker.until(lambda: worker.status()["broker_away_seconds"], lambda it: it > 4, what="the broker is away for long")
    assert worker.get("/livez").status == 200  # type: ignore[union-attr]
    redis_server.resume()
    worker.until_ready()
    assert producer.send_task("basic.add", (1, 1)).get(timeout=30) == 2


@pytest.mark.timeout(150)
def test_heartbeats_to_a_silent_broker_do_not_keep_the_loop_from_finding_the_silence(
    start_worker: StartWorker, redis_server: RedisServer
) -> None:
    """With a default pool's time-outs: a heartbeat that is tried holds the loop up for 5 s at each of its tries."""
    worker = start_worker(worker={"pool": "threads"}, broker=QUICK, liveness={"stalledSeconds": 60}).until_ready()
    redis_server.pause()
    assert "broker has been away" in worker.until_not_ready().body
