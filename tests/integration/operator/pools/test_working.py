"""A pool that is Ready and gets no work done: a real worker fails its tasks, loses its broker, and is asked."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.operator.machine import Manifest, Operator, Place
from tests.integration.worker.processes import RedisServer, WorkerProcess, document, free_port
from tests.waiting import eventually

WORKER_PYTHON = Path(__file__).parents[4] / ".venv" / "worker" / "bin" / "python"
PRODUCER = """
import json, sys
from celery import Celery
url, name, calls = json.loads(sys.argv[1])
app = Celery(broker=url, set_as_current=False)
for args in calls:
    app.send_task(name, args=args, ignore_result=True)
"""

BROKER_SECONDS = 15
"""From an outage to the condition that says so; on a busy machine the worker itself may notice it late."""


@pytest.fixture
def worker(tmp_path: Path, server: RedisServer) -> Iterator[WorkerProcess]:
    directory = tmp_path / "worker"
    directory.mkdir()
    config = document("basic:app", port=free_port(), worker={"pool": "threads", "concurrency": 2})
    command = [str(WORKER_PYTHON), "-m", "celeriac", "worker"]
    process = WorkerProcess(directory, config, {"CELERIAC_BROKER_URL": server.url}, command).start()
    yield process.until_ready(timeout=90)
    process.clean_up()


@pytest.fixture
def pod(place: Place, worker: WorkerProcess) -> Manifest:
    """The pool's pod, at the address of the worker."""
    place.pool(replicas=1, liveness={"port": worker.port})
    (pod,) = place.await_pods(1)
    place.set_pod(pod, podIP="127.0.0.1", podIPs=[{"ip": "127.0.0.1"}])
    place.make_ready([pod])
    place.await_reason("Ready", "True Ready")
    return pod


def send(server: RedisServer, name: str, *calls: list[Any]) -> None:
    subprocess.run([WORKER_PYTHON, "-c", PRODUCER, json.dumps([server.url, name, calls])], check=True, timeout=60)


def events(place: Place, reason: str) -> list[str]:
    return [each["message"] for each in place.api.list("Event", place.namespace) if each["reason"] == reason]


def work(place: Place) -> Manifest:
    found: Manifest = ((place.get("CeleryWorkerPool") or {}).get("status") or {}).get("work") or {}
    return found


@pytest.mark.timeout(180)
def test_a_ready_pool_whose_tasks_all_fail_says_so_once(
    operator: Operator, place: Place, server: RedisServer, pod: Manifest
) -> None:
    place.await_reason("Working", "True Idle")
    send(server, "basic.fail", *([f"secret-{number}"] for number in range(5)))
    condition = place.await_reason("Working", "False TasksFail")
    assert condition["message"].startswith("5 of 5 tasks failed in the last 15 minutes; the last one is basic.fail[")
    assert condition["message"].endswith("]: ValueError")
    assert (work(place)["failed"], work(place)["slots"]) == (5, 2)
    assert place.reasons()["Ready"] == "True Ready"
    assert "secret" not in json.dumps(place.get("CeleryWorkerPool"))
    send(server, "basic.fail", ["again"])
    eventually(lambda: work(place)["failed"], lambda failed: failed == 6, timeout=90, what="the sixth failure is there")
    assert len(events(place, "TasksFail")) == 1
    metric = f'celeriac_operator_pool_recent_failed_tasks{{pool="emails",pool_namespace="{place.namespace}"}}'
    assert operator.metric(metric) == 6


@pytest.mark.timeout(180)
def test_a_broker_that_is_away_is_said_while_the_workers_still_try(
    operator: Operator, place: Place, server: RedisServer, worker: WorkerProcess, pod: Manifest
) -> None:
    place.await_reason("Working", "True Idle")
    place.await_reason("BrokerReachable", "True Connected")
    server.kill()
    eventually(lambda: worker.status()["broker_error"], what="the worker has tried to connect")
    began = time.monotonic()
    condition = place.await_reason("BrokerReachable", "False ConnectionRefused")
    assert time.monotonic() - began < BROKER_SECONDS
    assert condition["message"].startswith(f"pod {pod['metadata']['name']} cannot reach the broker: ")
    assert "Connection refused" in condition["message"]
    eventually(lambda: events(place, "ConnectionRefused"), lambda found: len(found) == 1, what="the event")
    server.start()
    place.await_reason("BrokerReachable", "True Connected")
    eventually(lambda: events(place, "BrokerReachable"), lambda found: len(found) == 1, what="the event of the return")
    assert len(events(place, "ConnectionRefused")) == 1


@pytest.mark.timeout(120)
def test_a_worker_that_was_killed_for_its_memory_says_memory(operator: Operator, place: Place, pod: Manifest) -> None:
    place.await_reason("Working", "True Idle")
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    killed = {"exitCode": 137, "reason": "OOMKilled", "startedAt": now, "finishedAt": now}
    status = {
        "name": "worker",
        "image": "x",
        "imageID": "x",
        "ready": True,
        "started": True,
        "restartCount": 1,
        "state": {"running": {"startedAt": now}},
        "lastState": {"terminated": killed},
    }
    place.set_pod(pod, containerStatuses=[status])
    condition = place.await_reason("Working", "False OutOfMemory")
    name = pod["metadata"]["name"]
    assert condition["message"].startswith(
        f"pod {name} was killed at its memory limit (exit code 137): raise resources."
    )
    eventually(lambda: events(place, "OutOfMemory"), lambda found: len(found) == 1, what="the event")
    assert place.reasons()["Ready"] == "True Ready"
