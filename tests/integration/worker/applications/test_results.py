"""A result that cannot be stored is not lost, whatever the result backend; stock Celery beside it loses it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import APPS, RedisServer, WorkerProcess
from tests.waiting import eventually

from celeriac.exits import Exit
from celeriac.store import keys

FEW = {"maxRetries": 1, "retryBackoffSeconds": {"initial": 0.1, "max": 0.2}}


@pytest.fixture(params=["django-db", "sqlalchemy"])
def environment(request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer) -> dict[str, str]:
    (tmp_path / "database").mkdir()
    return {
        "TEST_DATABASE": str(tmp_path / "database"),
        "TEST_RESULTS": request.param,
        "TEST_BROKER": redis_server.url,
    }


@pytest.fixture
def say(environment: dict[str, str]) -> Callable[[str], str]:
    """Run one expression in a process of the application's own."""

    def run(expression: str) -> str:
        command = [sys.executable, "-c", f"import sqlresults; from sqlresults import app; print({expression})"]
        variables = {**os.environ, **environment}
        answer = subprocess.run(
            command, cwd=APPS, env=variables, capture_output=True, text=True, timeout=60, check=False
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout.strip()

    return run


def state_of(say: Callable[[str], str], task_id: str) -> str:
    return say(f"app.AsyncResult({task_id!r}).state")


def return_database(environment: dict[str, str]) -> None:
    Path(environment["TEST_DATABASE"] + ".away").rename(environment["TEST_DATABASE"])


def is_away(environment: dict[str, str]) -> bool:
    return Path(environment["TEST_DATABASE"] + ".away").exists()


def is_settled(server: RedisServer) -> bool:
    return not server.client.exists("celery", "unacked", keys.held("celery"))


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("environment", "pool"), [("django-db", "prefork"), ("sqlalchemy", "threads")], indirect=["environment"]
)
def test_a_result_in_sql_that_cannot_be_stored_ends_the_worker_and_its_task_runs_again(
    pool: str,
    start_worker: StartWorker,
    producer: Celery,
    redis_server: RedisServer,
    environment: dict[str, str],
    say: Callable[[str], str],
) -> None:
    say("sqlresults.migrate()")

    def start() -> WorkerProcess:
        return start_worker(
            "sqlresults:app",
            worker={"pool": pool, "concurrency": 1},
            broker=FEW,
            environment=environment,
            without=["CELERIAC_RESULT_BACKEND_URL"],
        ).until_ready(timeout=90)

    worker = start()
    task_id = producer.send_task("sqlresults.take_away").id
    assert worker.wait(90) == Exit.RESULT_BACKEND, worker.logs()
    assert worker.termination_message().startswith(f"The result of sqlresults.take_away[{task_id}] could not be stored")
    return_database(environment)
    second = start()
    second.until(lambda: is_settled(redis_server), timeout=60)
    assert state_of(say, task_id) == "SUCCESS"


def test_stock_celery_settles_the_message_and_loses_the_result(
    start_worker: StartWorker,
    producer: Celery,
    redis_server: RedisServer,
    environment: dict[str, str],
    say: Callable[[str], str],
) -> None:
    say("sqlresults.migrate()")
    command = [sys.executable, "-m", "celery", "-A", "sqlresults:app", "worker", "-c", "1", "-l", "INFO"]
    worker = start_worker("sqlresults:app", environment=environment, command=command)
    worker.until_logged("ready", timeout=90)
    task_id = producer.send_task("sqlresults.take_away").id
    eventually(lambda: is_away(environment), timeout=60, what="that the task has run")
    worker.until(lambda: is_settled(redis_server), timeout=60)
    return_database(environment)
    assert state_of(say, task_id) == "PENDING"
