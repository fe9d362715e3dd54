"""Log lines of real workers, as `kubectl logs` shows them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import WorkerProcess

POOLS = ("prefork", "threads", "solo")
TIME = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"


def speak(worker: WorkerProcess, producer: Celery, task: str = "talking.speak") -> str:
    """Let the task speak; its id."""
    result = producer.send_task(task)
    result.get(timeout=10)
    worker.until_logged(rf"Task {task}\[{result.id}\] succeeded")
    return str(result.id)


@pytest.mark.parametrize("pool", POOLS)
def test_every_line_has_the_format_of_the_brief(pool: str, start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker("talking:app", worker={"pool": pool}).until_ready()
    task_id = speak(worker, producer)
    log = worker.logs()
    task = rf"Task talking\.speak\[{task_id}\]"
    for line in (
        rf"^{TIME}:INFO\] {task}: by self\.logger$",
        rf"^{TIME}:INFO\] {task}: by the task logger$",
        rf"^{TIME}:WARNING\] \[talking\.speak\] by a library$",
        rf"^{TIME}:WARNING\] \[talking\.speak\] by print$",
        rf"^{TIME}:WARNING\] \[talking\.speak\] first line\nsecond line$",
        rf"^{TIME}:WARNING\] \[theirs\] with fields of its own$",
        rf"^{TIME}:WARNING\] \[-\] from a thread$",
        rf"^{TIME}:ERROR\] {task}: it failed\nTraceback",
        rf"^{TIME}:INFO\] \[talking\.speak\] {task} received$",
        rf"^{TIME}:INFO\] \[-\] plain@pod-1 ready\.$",
    ):
        assert re.search(line, log, re.MULTILINE), f"{line}\n{log}"
    assert log.count("by self.logger") == 1
    assert log.count("by a library") == 1
    assert "Logging error" not in log
    assert "KeyError: 'task" not in log


def test_the_pools_own_formats_are_used(start_worker: StartWorker, producer: Celery) -> None:
    formats = {"workerFormat": "W %(levelname)s %(message)s", "taskFormat": "T %(task_id)s %(message)s"}
    worker = start_worker("talking:app", worker={"pool": "threads"}, logging=formats).until_ready()
    task_id = speak(worker, producer)
    assert f"\nT {task_id} by self.logger\n" in worker.logs()
    assert "\nW WARNING by a library\n" in worker.logs()


def test_the_level_is_the_pools(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker("talking:app", worker={"pool": "threads"}, logging={"level": "WARNING"}).until_ready()
    producer.send_task("talking.speak").get(timeout=10)
    worker.until_logged("it failed")
    assert "by self.logger" not in worker.logs()
    assert "by a library" in worker.logs()


@pytest.mark.parametrize("pool", POOLS)
def test_json_is_one_object_a_line_and_nothing_else(pool: str, start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker("talking:app", worker={"pool": pool}, logging={"format": "JSON"}).until_ready()
    task_id = speak(worker, producer)
    lines: list[dict[str, Any]] = [json.loads(line) for line in worker.logs().splitlines()]
    by_message = {line["message"]: line for line in lines}
    mine = by_message["by self.logger"]
    assert (mine["task_name"], mine["task_id"], mine["pool"], mine["pod"]) == (
        "talking.speak",
        task_id,
        "plain",
        "pod-1",
    )
    assert mine["extra"] == {"customer": 7}
    assert by_message["by print"]["task_id"] == task_id
    assert by_message["first line\nsecond line"]["level"] == "WARNING"
    assert by_message["it failed"]["exception"]["type"] == "KeyError"
    assert "KeyError: 'lost'" in by_message["it failed"]["exception"]["traceback"]
    assert by_message[f"Task talking.speak[{task_id}] received"]["task_id"] == task_id
    assert {"time", "level", "logger", "message", "task_name", "task_id"} <= set.intersection(*map(set, lines))


def test_an_application_that_sets_up_its_own_logging_keeps_it_and_may_use_the_task_fields(
    start_worker: StartWorker, producer: Celery
) -> None:
    worker = start_worker("configured:app", worker={"pool": "prefork"}).until_ready()
    task_id = speak(worker, producer, "configured.speak")
    assert f"OWN configured.speak {task_id} by self.logger\n" in worker.logs()
    assert f"OWN configured.speak {task_id} by a library\n" in worker.logs()
    assert "OWN - - plain@pod-1 ready." in worker.logs()


def test_a_pool_that_names_a_format_gets_it_from_an_application_with_its_own_logging(
    start_worker: StartWorker, producer: Celery
) -> None:
    worker = start_worker("configured:app", worker={"pool": "prefork"}, logging={"format": "Text"}).until_ready()
    task_id = speak(worker, producer, "configured.speak")
    assert f"INFO] Task configured.speak[{task_id}]: by self.logger\n" in worker.logs()
    assert "WARNING] [configured.speak] by a library\n" in worker.logs()
    assert "OWN" not in worker.logs()


def test_with_app_as_format_celerys_own_formats_stay(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker("talking:app", worker={"pool": "threads"}, logging={"format": "App"}).until_ready()
    task_id = speak(worker, producer)
    assert re.search(rf"{TIME}: INFO/.*\] talking\.speak\[{task_id}\]: by self\.logger", worker.logs())
