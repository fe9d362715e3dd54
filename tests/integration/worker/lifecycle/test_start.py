"""A worker that cannot start ends at once, with one sentence that says what to change."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer, WorkerProcess

from celeriac.exits import Exit


def sentence(worker: WorkerProcess, code: Exit) -> str:
    """The worker's last words, which are the same in the log and in the termination message."""
    assert worker.wait() == code, worker.logs()
    said = worker.termination_message()
    assert said
    assert said in worker.logs()
    return said


@pytest.mark.parametrize(
    ("app", "said"),
    [
        pytest.param("nowhere", "ModuleNotFoundError: No module named 'nowhere'", id="a module that is not there"),
        pytest.param("broken:app", "RuntimeError: SHOP_KEY is not set", id="a module that raises"),
        pytest.param("basic:application", "'basic' has no attribute 'application'", id="a name that is not there"),
        pytest.param("basic:add", "not a Celery application", id="something else than an application"),
    ],
)
def test_an_application_that_cannot_be_used_is_named_with_the_reason(
    app: str, said: str, start_worker: StartWorker
) -> None:
    last_words = sentence(start_worker(app), Exit.CONFIGURATION)
    assert said in last_words
    assert repr(app) in last_words


def test_a_document_with_a_bad_value_ends_the_worker(start_worker: StartWorker) -> None:
    worker = start_worker(timeLimits={"softSeconds": 9, "hardSeconds": 3})
    assert "timeLimits.softSeconds is 9 and hardSeconds is 3" in sentence(worker, Exit.CONFIGURATION)


def test_a_log_format_with_a_field_that_does_not_exist_ends_the_worker(start_worker: StartWorker) -> None:
    worker = start_worker(logging={"taskFormat": "%(taskname)s %(message)s"})
    assert "logging.taskFormat uses %(taskname)s, which no log record has" in sentence(worker, Exit.CONFIGURATION)


def test_an_unknown_key_costs_one_warning(start_worker: StartWorker) -> None:
    worker = start_worker(worker={"pool": "solo", "maxTaskPerChild": 3}).until_ready()
    assert worker.logs().count("ignoring worker.maxTaskPerChild (did you mean maxTasksPerChild?)") == 1


def test_arguments_that_celery_does_not_know_are_quoted(start_worker: StartWorker) -> None:
    worker = start_worker(worker={"extraArgs": ["--no-such-flag"]})
    said = sentence(worker, Exit.USAGE)
    # In today's words of click, or in those of 8.1.
    assert "(No such option '--no-such-flag'" in said or "(No such option: --no-such-flag)" in said


def test_a_port_that_is_taken_is_named(start_worker: StartWorker) -> None:
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::", 0))
        taken.listen()
        worker = start_worker(liveness={"port": taken.getsockname()[1]})
        said = sentence(worker, Exit.CONFIGURATION)
        assert "(liveness.port): Address already in use" in said
        assert "--health-port 0" in said


def test_a_queue_that_the_application_does_not_allow_is_named(start_worker: StartWorker) -> None:
    worker = start_worker("closed:app", queues=["emails", "nope"])
    assert "The application has no queue 'nope' (queues)" in sentence(worker, Exit.CONFIGURATION)


@pytest.mark.parametrize(
    ("environment", "code"),
    [
        pytest.param({"CELERIAC_CONFIG": ""}, Exit.CONFIGURATION, id="an empty document"),
        pytest.param({"CELERIAC_BROKER_URL": ""}, Exit.CONFIGURATION, id="an empty broker URL"),
    ],
)
def test_an_empty_variable_is_refused(environment: dict[str, str], code: Exit, start_worker: StartWorker) -> None:
    assert next(iter(environment)) in sentence(start_worker(environment=environment), code)


def test_a_worker_without_document_and_flags_says_what_is_missing(start_worker: StartWorker) -> None:
    worker = start_worker(without=["CELERIAC_CONFIG"])
    assert worker.wait() == Exit.USAGE
    assert "no document in CELERIAC_CONFIG and no --app" in worker.logs()


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_wrong_password_ends_in_a_sentence_without_the_password(
    pool: str, redis_server: RedisServer, start_worker: StartWorker
) -> None:
    redis_server.stop()
    redis_server.options["requirepass"] = "correct-horse"
    redis_server.start()
    url = redis_server.url.replace("correct-horse", "wrong-battery")
    worker = start_worker(
        worker={"pool": pool},
        broker={"maxRetries": 50, "retryBackoffSeconds": {"initial": 0.1, "max": 0.2}},
        environment={"CELERIAC_BROKER_URL": url},
    )
    last_words = sentence(worker, Exit.BROKER)
    assert "refuses the credentials" in last_words
    assert "Secret" in last_words
    assert "wrong-battery" not in worker.logs()
    assert "wrong-battery" not in last_words


def test_a_worker_by_hand_needs_no_document(start_worker: StartWorker, redis_server: RedisServer) -> None:
    worker: Any = start_worker(
        without=["CELERIAC_CONFIG"],
        arguments=["-A", "basic", "-P", "solo", "-n", "laptop", "--health-port", "{port}", "--", "--without-mingle"],
    )
    worker.until_ready()
    assert worker.status()["pool"] == "laptop"


EVERYTHING = (
    *("-E", "-O", "fair", "--without-gossip", "--without-mingle", "--without-heartbeat", "--heartbeat-interval", "3"),
    *("-B", "-s", "{tmp}/beat", "--scheduler", "celery.beat:PersistentScheduler", "-S", "{tmp}/state"),
    *("-X", "other", "-I", "json", "--time-limit", "100", "--soft-time-limit", "50", "--pidfile", "{tmp}/pid"),
    *("--max-tasks-per-child", "100", "--max-memory-per-child", "1000000", "--autoscale", "3,1", "-C", "-q"),
    *("-l", "info", "-n", "w1@laptop", "--health-port", "{port}"),
)
"""The flags of `celery worker`, except those that replace each other."""


def test_a_worker_by_hand_takes_the_flags_of_celery_worker(
    start_worker: StartWorker, redis_server: RedisServer, tmp_path: Path, producer: Celery
) -> None:
    worker = start_worker(
        without=["CELERIAC_CONFIG", "CELERIAC_BROKER_URL", "CELERIAC_RESULT_BACKEND_URL"],
        arguments=["-A", "basic", "-b", redis_server.url, "--result-backend", redis_server.url]
        + [it.replace("{tmp}", str(tmp_path)) for it in EVERYTHING],
    ).until_ready()
    assert worker.status()["node"] == "w1@laptop"
    assert producer.send_task("basic.add", (1, 2)).get(timeout=60) == 3
    worker.until_logged("beat: Starting")
    worker.terminate()
    assert worker.wait() == Exit.OK, worker.logs()


def test_any_free_port_is_named_in_the_log(start_worker: StartWorker) -> None:
    worker = start_worker(worker={"pool": "solo"}, liveness={"port": 0})
    worker.port = int(worker.until_logged(r"health server: http://127\.0\.0\.1:(\d+)/status")[1])
    worker.until_ready()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        pytest.param("http://user:secret@redis:6379", "No such transport: http", id="a web address"),
        pytest.param("redis://redis:port", "cannot be used", id="a port in letters"),
        pytest.param("postgres://redis", "No such transport: postgres", id="a database"),
        pytest.param("mongodb://redis", "No module named 'pymongo'", id="a driver that the image lacks"),
    ],
)
def test_a_broker_url_that_no_transport_takes_is_a_sentence(url: str, said: str, start_worker: StartWorker) -> None:
    last_words = sentence(start_worker(environment={"CELERIAC_BROKER_URL": url}), Exit.CONFIGURATION)
    assert said in last_words
    assert "secret" not in last_words
    assert "Traceback" not in last_words
