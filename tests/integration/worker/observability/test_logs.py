"""Log lines of real workers, as `kubectl logs` shows them.

The three tables are those of docs/guides/logs.md; a unit test compares their rows.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import WorkerProcess

POOLS = ("prefork", "threads", "solo")
TIME = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"
STARTED = 90.0
"""Seconds for a start, also on a busy machine."""

TASK = r"Task talking\.speak\[ID\]"
LINES = {
    "`self.logger`": rf"^{TIME}:INFO\] {TASK}: by self\.logger$",
    "`get_task_logger`": rf"^{TIME}:INFO\] {TASK}: by the task logger$",
    "another logger, in a task": rf"^{TIME}:WARNING\] \[talking\.speak\] by a library$",
    "another logger, outside a task": rf"^{TIME}:WARNING\] \[-\] outside a task$",
    "`print`, in a task": rf"^{TIME}:WARNING\] \[talking\.speak\] by print$",
    "`print`, outside a task": rf"^{TIME}:WARNING\] \[-\] by print outside a task$",
    "a thread that a task has started": rf"^{TIME}:WARNING\] \[-\] from a thread$",
    "a child process, outside a task": rf"^{TIME}:WARNING\] \[-\] from a child process$",
    "Celery, about a task": rf"^{TIME}:INFO\] \[talking\.speak\] {TASK} received$",
    "Celery, about itself": rf"^{TIME}:INFO\] \[-\] plain@pod-1 ready\.$",
    "a message of several lines": rf"^{TIME}:WARNING\] \[talking\.speak\] first line\nsecond line$",
    "an exception that is logged": rf"^{TIME}:ERROR\] {TASK}: it failed\nTraceback(.|\n)+?\nKeyError: 'lost'$",
    "an exception that nobody caught": (
        rf"^{TIME}:ERROR\] \[talking\.fail\] Task talking\.fail\[[\w-]+\] raised unexpected: "
        r"ValueError\('nobody caught it'\)\nTraceback"
    ),
    "a record with `task_name` of its own": rf"^{TIME}:WARNING\] \[theirs\] with fields of its own$",
}
"""Who says something, and the line in the brief's two formats; ID stands for the task's id."""
ONLY_PREFORK = {"a child process, outside a task"}

JSON_KEYS: dict[str, Callable[[dict[str, Any]], object]] = {
    "time": lambda log: re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", log["by self.logger"]["time"]),
    "level": lambda log: log["by a library"]["level"] == "WARNING",
    "logger": lambda log: log["by a library"]["logger"] == "third.party",
    "message": lambda log: "first line\nsecond line" in log,
    "task_name": lambda log: (
        log["by print"]["task_name"] == "talking.speak" and log["outside a task"]["task_name"] == "-"
    ),
    "task_id": lambda log: log["by print"]["task_id"] == log["ID"] and log["outside a task"]["task_id"] == "-",
    "pool": lambda log: log["outside a task"]["pool"] == "plain",
    "namespace": lambda log: log["outside a task"]["namespace"] == "default",
    "pod": lambda log: log["outside a task"]["pod"] == "pod-1",
    "process": lambda log: isinstance(log["by self.logger"]["process"], int),
    "thread": lambda log: log["outside a task"]["thread"] == "MainThread",
    "exception.type": lambda log: log["it failed"]["exception"]["type"] == "KeyError",
    "exception.message": lambda log: log["it failed"]["exception"]["message"] == "'lost'",
    "exception.traceback": lambda log: log["it failed"]["exception"]["traceback"].endswith("KeyError: 'lost'"),
    "stack": lambda log: log["with a stack"]["stack"].startswith("Stack (most recent call last)"),
    "extra": lambda log: log["by self.logger"]["extra"] == {"customer": 7},
}
"""Key, and whether the log has it right: its lines by their messages, and the task's id as ID."""

FIELDS: dict[str, str] = {
    "asctime": r"asctime=\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ",
    "levelname": "levelname=WARNING ",
    "message": "message=by a library$",
    "name": r"name=third\.party ",
    "task_name": r"task_name=talking\.speak ",
    "task_id": r"task_id=ID ",
    "process": r"process=\d+ ",
    "processName": r"processName=\S+ ",
    "threadName": r"threadName=\S+ ",
    "filename": r"filename=talking\.py ",
    "lineno": r"lineno=\d+ ",
}
"""Field of the two formats, and what it gives."""


def speak(worker: WorkerProcess, producer: Celery, task: str = "talking.speak") -> str:
    """Let the task speak; its id."""
    result = producer.send_task(task)
    result.get(timeout=STARTED)
    worker.until_logged(rf"Task {task}\[{result.id}\] succeeded")
    return str(result.id)


@pytest.mark.parametrize("pool", POOLS)
def test_every_line_has_the_format_of_the_brief(pool: str, start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker("talking:app", worker={"pool": pool}).until_ready(timeout=STARTED)
    task_id = speak(worker, producer)
    producer.send_task("talking.fail")
    worker.until_logged("nobody caught it'\\)\nTraceback", timeout=STARTED)
    log = worker.logs()
    expected = LINES if pool == "prefork" else {name: LINES[name] for name in LINES if name not in ONLY_PREFORK}
    wrong = [name for name, line in expected.items() if not re.search(line.replace("ID", task_id), log, re.MULTILINE)]
    assert not wrong, log
    assert re.search(rf"^{TIME}:WARNING\] \[talking\.speak\] several 3 values$", log, re.MULTILINE)
    assert re.search(rf"^{TIME}:WARNING\] \[talking\.speak\] a line without an end$", log, re.MULTILINE)
    assert log.count("by self.logger") == 1
    assert log.count("by a library") == 1
    assert "with %d arguments that do not fit ('no',)\n" in log
    assert "Logging error" not in log


def test_every_field_may_stand_in_a_format(start_worker: StartWorker, producer: Celery) -> None:
    text = " ".join(f"{name}=%({name})s" for name in sorted(FIELDS, key="message".__eq__))
    worker = start_worker("talking:app", worker={"pool": "prefork"}, logging={"workerFormat": text}).until_ready(
        timeout=STARTED
    )
    task_id = speak(worker, producer)
    line = worker.until_logged(r"^.*message=by a library$")[0]
    assert [name for name, shown in FIELDS.items() if not re.search(shown.replace("ID", task_id), line)] == [], line


def test_the_pools_own_formats_are_used(start_worker: StartWorker, producer: Celery) -> None:
    formats = {"workerFormat": "W %(levelname)s %(message)s", "taskFormat": "T %(task_id)s %(message)s"}
    worker = start_worker("talking:app", worker={"pool": "threads"}, logging=formats).until_ready(timeout=STARTED)
    task_id = speak(worker, producer)
    assert f"\nT {task_id} by self.logger\n" in worker.logs()
    assert "\nW WARNING by a library\n" in worker.logs()


def test_the_level_is_the_pools(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker("talking:app", worker={"pool": "threads"}, logging={"level": "WARNING"}).until_ready(
        timeout=STARTED
    )
    producer.send_task("talking.speak").get(timeout=STARTED)
    worker.until_logged("it failed")
    assert "by self.logger" not in worker.logs()
    assert "by a library" in worker.logs()


@pytest.mark.parametrize("pool", POOLS)
def test_json_is_one_object_a_line_and_nothing_else(pool: str, start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker("talking:app", worker={"pool": pool}, logging={"format": "JSON"}).until_ready(timeout=STARTED)
    task_id = speak(worker, producer)
    worker.signal(signal.SIGINT)  # about which Celery says more than about SIGTERM, past its logger
    assert worker.wait() == 0
    lines: list[dict[str, Any]] = [json.loads(line) for line in worker.logs().splitlines()]
    log: dict[str, Any] = {**{line["message"]: line for line in lines}, "ID": task_id}
    assert [key for key, is_right in JSON_KEYS.items() if not is_right(log)] == []
    assert log[f"Task talking.speak[{task_id}] received"]["task_id"] == task_id
    # What does not fit its message is shown, and costs nobody a line.
    assert log["with %d arguments that do not fit ('no',)"]["task_id"] == task_id
    if pool == "prefork":
        assert log["from a child process"]["process"] != log["outside a task"]["process"]
    always = {"time", "level", "logger", "message", "task_name", "task_id", "pool", "namespace", "pod", "process"}
    assert always <= set.intersection(*map(set, lines))


def test_each_line_is_heard_once_whatever_handlers_the_application_has() -> None:
    program = [sys.executable, "-m", "tests.integration.worker.observability.logging_matrix"]
    done = subprocess.run(
        program, capture_output=True, text=True, check=True, timeout=60, cwd=Path(__file__).parents[4]
    )
    lines = ("said by celery", "said by a library", "said by a task", "said by print", "said with a traceback")
    heard = json.loads(done.stdout)
    assert len(heard) == 4 * 2 * 2 * 4
    wrong = {}
    for (console, hijack, redirect, chosen), output in heard:
        counts = {line: output.count(line) for line in (*lines, "ValueError: nobody is told")}
        counts["said by a task"] -= output.count("AUDITED AUDIT|said by a task\n")
        if set(counts.values()) != {1} or "AUDITED AUDIT|said by a task\n" not in output:
            wrong[f"{console}, hijack={hijack}, redirect={redirect}, {chosen}"] = output
    assert not wrong, f"{len(wrong)} of {len(heard)}, the first: {next(iter(wrong.items()))}"


def test_an_application_that_sets_up_its_own_logging_keeps_it_and_may_use_the_task_fields(
    start_worker: StartWorker, producer: Celery
) -> None:
    worker = start_worker("configured:app", worker={"pool": "prefork"}).until_ready(timeout=STARTED)
    task_id = speak(worker, producer, "configured.speak")
    assert f"OWN configured.speak {task_id} by self.logger\n" in worker.logs()
    assert f"OWN configured.speak {task_id} by a library\n" in worker.logs()
    assert "OWN - - plain@pod-1 ready." in worker.logs()


def test_a_pool_that_names_a_format_gets_it_from_an_application_with_its_own_logging(
    start_worker: StartWorker, producer: Celery
) -> None:
    worker = start_worker("configured:app", worker={"pool": "prefork"}, logging={"format": "Text"}).until_ready(
        timeout=STARTED
    )
    task_id = speak(worker, producer, "configured.speak")
    assert f"INFO] Task configured.speak[{task_id}]: by self.logger\n" in worker.logs()
    assert "WARNING] [configured.speak] by a library\n" in worker.logs()
    assert "OWN" not in worker.logs()


def test_with_app_as_format_celerys_own_formats_stay(start_worker: StartWorker, producer: Celery) -> None:
    worker = start_worker("talking:app", worker={"pool": "threads"}, logging={"format": "App"}).until_ready(
        timeout=STARTED
    )
    task_id = speak(worker, producer)
    assert re.search(rf"{TIME}: INFO/.*\] talking\.speak\[{task_id}\]: by self\.logger", worker.logs())
