"""What people watch and steer Celery with sees our workers exactly as plain ones: its own commands, Flower, and
celery-exporter, each as it is installed by anybody."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from tests.environments import python_of
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer, WorkerProcess, free_port
from tests.waiting import eventually

ROOT = Path(__file__).parents[4]
LOCK = Path(__file__).with_name("monitors-requirements.lock")
OURS, PEER = "plain@pod-1", "peer@elsewhere"


def ready(worker: WorkerProcess, producer: Celery, node: str) -> WorkerProcess:
    worker.until(lambda: producer.control.inspect([node], timeout=2).ping(), what=f"{node} answers a ping")
    return worker


@pytest.fixture
def both(start_worker: StartWorker, producer: Celery, redis_server: RedisServer) -> WorkerProcess:
    """Ours, beside a plain worker of the same application on another queue."""
    ours = start_worker(worker={"pool": "prefork", "concurrency": 2})
    command = ["worker", "-n", PEER, "-Q", "other", "-c", "2", "--without-mingle", "--without-gossip"]
    peer = start_worker(
        command=[sys.executable, "-m", "celery", "-A", "basic:app", *command],
        environment={"CELERY_BROKER_URL": redis_server.url, "CELERY_RESULT_BACKEND": redis_server.url},
    )
    ready(peer, producer, PEER)
    return ready(ours, producer, OURS)


@pytest.mark.parametrize("pool", ["gevent", "eventlet", "solo"])
def test_a_worker_of_every_pool_answers_inspect(pool: str, start_worker: StartWorker, producer: Celery) -> None:
    ready(start_worker(worker={"pool": pool}), producer, OURS)
    registered = producer.control.inspect([OURS], timeout=10, limit=1).registered()[OURS]
    assert "basic.add" in registered


def test_inspect_shows_what_it_shows_of_a_plain_worker(both: WorkerProcess, producer: Celery) -> None:
    shows = producer.control.inspect(timeout=10, limit=2)
    assert shows.ping() == {OURS: {"ok": "pong"}, PEER: {"ok": "pong"}}
    registered = shows.registered()
    assert registered[OURS] == registered[PEER]
    running = producer.send_task("basic.hold", ("go",))
    eventually(lambda: both.status()["busy"], what="the task runs")
    (active,) = shows.active()[OURS]
    assert (active["id"], active["name"], active["hostname"]) == (running.id, "basic.hold", OURS)
    assert {queue["name"] for queue in shows.active_queues()[OURS]} == {"celery"}
    assert shows.query_task(running.id)[OURS][running.id][0] == "active"
    stats = shows.stats()
    assert stats[OURS].keys() == stats[PEER].keys()
    assert stats[OURS]["pool"].keys() == stats[PEER]["pool"].keys()
    assert (stats[OURS]["pool"]["max-concurrency"], stats[OURS]["pid"]) == (2, both.pid)
    (both.directory / "go").touch()
    assert running.get(timeout=10) == "go"
    assert shows.stats()[OURS]["total"] == {"basic.hold": 1}


def test_control_does_what_it_does_to_a_plain_worker(both: WorkerProcess, producer: Celery) -> None:
    def tell(order: str, **arguments: Any) -> tuple[Any, Any]:
        answers = producer.control.broadcast(
            order, arguments, destination=[OURS, PEER], reply=True, timeout=10, limit=2
        )
        said = {node: answer for each in answers for node, answer in each.items()}
        return said[OURS], said[PEER]

    for order, arguments in (
        ("rate_limit", {"task_name": "basic.note", "rate_limit": "100/s"}),
        ("time_limit", {"task_name": "basic.note", "hard": 60, "soft": 50}),
        ("pool_grow", {"n": 1}),
        ("pool_shrink", {"n": 1}),
        ("enable_events", {}),
        ("add_consumer", {"queue": "more"}),
    ):
        ours, peers = tell(order, **arguments)
        assert "ok" in ours, order
        assert ours == peers, order
    assert producer.send_task("basic.add", (1, 2), queue="more").get(timeout=20) == 3
    ours, peers = tell("cancel_consumer", queue="more")
    assert ours == peers
    hung = producer.send_task("basic.hold", ("never",))
    eventually(lambda: both.status()["busy"], what="the task runs")
    hung.revoke(terminate=True)
    eventually(lambda: not both.status()["busy"], what="the revoked task has ended")
    producer.control.shutdown(destination=[OURS])
    assert both.wait() == 0


# --- programs with an environment of their own


@pytest.fixture(scope="session")
def monitors() -> str:
    """The interpreter of their environment."""
    return python_of("monitors", LOCK)


@pytest.fixture
def run(monitors: str, tmp_path: Path) -> Iterator[Callable[..., Callable[[str], str]]]:
    """Run a program of theirs with an HTTP port; returns what asks it for a path."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, port: int, **environment: str) -> Callable[[str], str]:
            log = stack.enter_context((tmp_path / f"{port}.log").open("wb"))
            process = subprocess.Popen(
                [monitors, *arguments], env={**os.environ, **environment}, cwd=tmp_path, stdout=log, stderr=log
            )
            stack.callback(process.wait, 10)
            stack.callback(process.kill)

            def ask(path: str) -> str:
                assert process.poll() is None, (tmp_path / f"{port}.log").read_text()[-2000:]
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                        return str(answer.read().decode())
                except OSError:  # it is not up, or does not know it yet
                    return ""

            return ask

        yield start


def test_flower_and_celery_exporter_see_workers_tasks_and_how_they_end(
    run: Callable[..., Callable[[str], str]], start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    port = free_port()
    flower = run(
        "-m", "celery", "flower", "--address=127.0.0.1", f"--port={port}", port=port,
        CELERY_BROKER_URL=redis_server.url, FLOWER_UNAUTHENTICATED_API="true",
    )  # fmt: skip
    port = free_port()
    exporter = run(
        "-c", "from src.cli import cli; cli(auto_envvar_prefix='CE')", port=port,
        CE_BROKER_URL=redis_server.url, CE_HOST="127.0.0.1", CE_PORT=str(port),
    )  # fmt: skip
    eventually(lambda: flower("/healthcheck"), what="Flower is up")
    eventually(lambda: exporter("/health"), what="celery-exporter is up")
    worker = start_worker(worker={"pool": "prefork"}).until_ready()
    eventually(lambda: OURS in flower("/workers?json=1"), what="Flower lists the worker")

    def runs() -> bool:
        # Both are notified of tasks by events, which their workers send from the moment somebody asks for them.
        well, badly = producer.send_task("basic.add", (1, 2)), producer.send_task("basic.fail", ("broken",))
        well.get(timeout=20)
        badly.get(timeout=20, propagate=False)
        told = [json.loads(flower(f"/api/task/info/{it.id}") or "{}").get("state") for it in (well, badly)]
        return told == ["SUCCESS", "FAILURE"]

    eventually(runs, every=1, what="Flower knows how both tasks ended")

    def figure(name: str, task: str = "") -> float:
        lines = [it for it in exporter("/metrics").splitlines() if it.startswith(f"{name}{{") and task in it]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    eventually(lambda: figure("celery_task_succeeded_total", "basic.add") >= 1, what="celery-exporter counts successes")
    eventually(lambda: figure("celery_task_failed_total", "basic.fail") >= 1, what="celery-exporter counts failures")
    pod = f'"{OURS.partition("@")[2]}"'  # celery-exporter shows what comes after the pool's name
    eventually(lambda: figure("celery_worker_up", pod) == 1, what="celery-exporter has heard the worker's heart")
    worker.terminate()
    assert worker.wait() == 0
    eventually(lambda: figure("celery_worker_up", pod) == 0, what="celery-exporter sees the worker leave")
