"""What reaches Sentry, over the real protocol: each failure once.

`row` names the row of docs/operations/sentry.md that a test covers; a unit test compares the two sets.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.observability.rows import row
from tests.integration.worker.processes import WorkerProcess, worker_command
from tests.receivers.sentry_receiver import Receiver
from tests.waiting import eventually

from celeriac.exits import Exit

POOLS = ("prefork", "threads", "solo", "gevent", "eventlet")


class Sentry:
    """A receiver, and the file with the DSN that points at it."""

    def __init__(self, dsn_file: Path) -> None:
        self.server = Receiver("127.0.0.1", 0)
        self.dsn = f"http://public@127.0.0.1:{self.server.server_port}/1"
        self.dsn_file = dsn_file
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def events(self) -> list[Any]:
        return self.server.received.all("event")

    @property
    def transactions(self) -> list[Any]:
        return self.server.received.all("transaction")

    def settings(self, **more: Any) -> dict[str, Any]:
        return {"dsnFile": str(self.dsn_file), "environment": "test", "release": "shop@1.4", **more}

    def point_here(self) -> None:
        """As the kubelet renews a mounted Secret: another file is moved into its place."""
        fresh = self.dsn_file.with_suffix(".new")
        fresh.write_text(f"{self.dsn}\n")
        fresh.replace(self.dsn_file)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def dsn_file(tmp_path: Path) -> Path:
    return tmp_path / "dsn"


@pytest.fixture
def new_sentry(dsn_file: Path) -> Iterator[Callable[[], Sentry]]:
    made: list[Sentry] = []

    def new() -> Sentry:
        made.append(Sentry(dsn_file))
        return made[-1]

    yield new
    for sentry in made:
        sentry.close()


@pytest.fixture
def sentry(new_sentry: Callable[[], Sentry]) -> Sentry:
    made = new_sentry()
    made.point_here()
    return made


def value(event: Any) -> tuple[str, str]:
    last = event["exception"]["values"][-1]
    return last["type"], last["value"]


def events_in_the_end(worker: WorkerProcess, producer: Celery, sentry: Sentry) -> list[Any]:
    """All events, once a later one has arrived by every road that an earlier one can have taken."""
    producer.send_task("failing.fine").get(timeout=15)
    worker.terminate()  # flushes parent and children
    assert worker.wait() == 0
    return sentry.events


@row("an exception")
@pytest.mark.parametrize("pool", POOLS)
def test_an_exception_is_reported_once_with_everything_that_says_where_it_was(
    pool: str, start_worker: StartWorker, producer: Celery, sentry: Sentry
) -> None:
    worker = start_worker("failing:app", worker={"pool": pool}, sentry=sentry.settings()).until_ready()
    result = producer.send_task("failing.plain", kwargs={"secret": "hunter2"})
    with pytest.raises(ValueError, match="it broke"):
        result.get(timeout=10)
    (event,) = events_in_the_end(worker, producer, sentry)
    assert value(event) == ("ValueError", "it broke")
    assert event["environment"] == "test"
    assert event["release"] == "shop@1.4"
    assert event["transaction"] == "failing.plain"
    expected = {
        "pool": "plain",
        "namespace": "default",
        "pod": "pod-1",
        "queue": "celery",
        "task": "failing.plain",
        "task_id": result.id,
        "celery_task_id": result.id,
    }
    assert expected.items() <= event["tags"].items()
    assert "hunter2" not in str(event["extra"])


@row("retries that are used up")
@row("automatic retries that are used up")
@row("the soft time limit")
@row("the hard time limit")
@row("a process that was killed")
@pytest.mark.parametrize(
    ("task", "error"),
    [
        pytest.param("failing.retries", "ValueError", id="retries that are used up"),
        pytest.param("failing.retries_by_itself", "ValueError", id="automatic retries that are used up"),
        pytest.param("failing.soft", "SoftTimeLimitExceeded", id="the soft time limit"),
        pytest.param("failing.hard", "TimeLimitExceeded", id="the hard time limit"),
        pytest.param("failing.dies", "WorkerLostError", id="a process that was killed"),
    ],
)
def test_a_failure_that_only_some_process_sees_is_reported_once(
    task: str, error: str, start_worker: StartWorker, producer: Celery, sentry: Sentry
) -> None:
    worker = start_worker("failing:app", worker={"pool": "prefork"}, sentry=sentry.settings()).until_ready()
    result = producer.send_task(task)
    with pytest.raises(Exception, match=r"(?s).*"):
        result.get(timeout=15)
    (event,) = events_in_the_end(worker, producer, sentry)
    assert value(event)[0] == error
    assert "received" not in str(event.get("breadcrumbs"))  # other tasks were too
    assert event["tags"]["task"] == task
    assert event["tags"]["task_id"] == result.id
    assert event["tags"]["queue"] == "celery"
    assert event["tags"]["pool"] == "plain"


@pytest.mark.parametrize("task", ["failing.hard", "failing.dies"])
def test_the_arguments_of_a_failure_that_only_the_parent_sees_are_kept_back(
    task: str, start_worker: StartWorker, producer: Celery, sentry: Sentry
) -> None:
    worker = start_worker("failing:app", worker={"pool": "prefork"}, sentry=sentry.settings()).until_ready()
    result = producer.send_task(task, kwargs={"secret": "hunter2"})
    with pytest.raises(Exception, match=r"(?s).*"):
        result.get(timeout=15)
    (event,) = events_in_the_end(worker, producer, sentry)
    assert event["extra"]["celery-job"]["kwargs"] == "[Filtered]"
    assert "hunter2" not in str(event)


@pytest.fixture
def little_memory(tmp_path: Path) -> Iterator[str]:
    """A file that a process writes itself into to live with 192 MiB, as in a container with that limit."""
    root = Path("/sys/fs/cgroup")
    is_newer = (root / "cgroup.controllers").exists()
    group = (root if is_newer else root / "memory") / f"celeriac-{os.getpid()}"
    group.mkdir()
    (group / ("memory.max" if is_newer else "memory.limit_in_bytes")).write_text(str(192 * 2**20))
    yield str(group / "cgroup.procs")
    procs = group / "cgroup.procs"
    eventually(lambda: not procs.read_text(), what="the worker has ended")
    group.rmdir()


@row("a process that the kernel ended for its memory")
def test_a_child_that_the_kernel_ends_for_its_memory_is_reported_once_and_the_worker_goes_on(
    little_memory: str, start_worker: StartWorker, producer: Celery, sentry: Sentry
) -> None:
    worker = start_worker(
        "failing:app",
        worker={"pool": "prefork", "concurrency": 1},
        delivery={"mode": "AtMostOnce"},  # it eats once
        sentry=sentry.settings(),
        command=["sh", "-c", f'echo $$ > {little_memory}; exec "$@"', "sh", *worker_command()],
    ).until_ready()
    result = producer.send_task("failing.eats")
    with pytest.raises(Exception, match="SIGKILL"):
        result.get(timeout=30)
    (event,) = events_in_the_end(worker, producer, sentry)
    assert value(event) == ("WorkerLostError", "Worker exited prematurely: signal 9 (SIGKILL) Job: 0.")
    assert (event["tags"]["task"], event["tags"]["task_id"]) == ("failing.eats", result.id)


@row("a lost process whose message is delivered again")
def test_a_lost_process_whose_message_is_delivered_again_is_reported_once(
    start_worker: StartWorker, producer: Celery, sentry: Sentry
) -> None:
    worker = start_worker("failing:app", worker={"pool": "prefork"}, sentry=sentry.settings()).until_ready()
    assert producer.send_task("failing.dies_once").get(timeout=15) == "done"
    (event,) = events_in_the_end(worker, producer, sentry)
    assert value(event)[0] == "WorkerLostError"
    assert "SIGKILL" in value(event)[1]


@row("a message that cannot be decoded")
def test_a_message_that_cannot_be_decoded_is_reported_once(
    start_worker: StartWorker, producer: Celery, sentry: Sentry
) -> None:
    worker = start_worker("failing:app", worker={"pool": "prefork"}, sentry=sentry.settings()).until_ready()
    with producer.connection_for_write() as connection:
        connection.Producer().publish(
            b"\xff no json",
            routing_key="celery",
            content_type="application/json",
            content_encoding="utf-8",
            headers={"task": "failing.fine", "id": "1-2-3"},
        )
    worker.until_logged("dead-lettered the message")
    (event,) = events_in_the_end(worker, producer, sentry)
    assert value(event)[0] == "DeadLetterError"
    assert "can't decode byte 0xff" in value(event)[1]
    assert event["tags"]["task"] == "failing.fine"
    assert event["tags"]["task_id"] == "1-2-3"


@row("a task that the worker does not know")
@row("a message that goes to the dead-letter queue")
def test_a_task_that_no_worker_knows_is_reported_once_when_its_message_is_given_up(
    start_worker: StartWorker, producer: Celery, sentry: Sentry
) -> None:
    worker = start_worker(
        "failing:app", worker={"pool": "prefork"}, sentry=sentry.settings(), delivery={"maxDeliveries": 2}
    ).until_ready()
    result = producer.send_task("failing.nowhere")
    worker.until_logged("dead-lettered the message", timeout=50)  # after 5 s and another 10 s
    assert worker.logs().count("no task named failing.nowhere on this worker: the message goes back") == 2
    (event,) = events_in_the_end(worker, producer, sentry)
    assert value(event)[0] == "DeadLetterError"
    assert f"failing.nowhere[{result.id}] was given up: delivered 2 times" in value(event)[1]
    assert (event["tags"]["task"], event["tags"]["task_id"]) == ("failing.nowhere", result.id)
    assert event["tags"]["queue"] == "celery"


@row("a result that cannot be stored")
def test_a_result_that_is_given_up_is_reported_once(
    start_worker: StartWorker, producer: Celery, sentry: Sentry
) -> None:
    worker = start_worker(
        "failing:app",
        worker={"pool": "prefork"},
        sentry=sentry.settings(),
        broker={"maxRetries": 1, "retryBackoffSeconds": {"initial": 0.1, "max": 0.1}},
        environment={"CELERIAC_RESULT_BACKEND_URL": "redis://127.0.0.1:9/0"},
    ).until_ready()
    result = producer.send_task("failing.fine")
    (event,) = eventually(lambda: sentry.events, what="an event", timeout=30)
    assert value(event)[0] == "BackendStoreError"
    assert (event["tags"]["task"], event["tags"]["task_id"]) == ("failing.fine", result.id)
    assert worker.wait(30) == Exit.RESULT_BACKEND
    assert len(sentry.events) == 1


@row("`Retry`")
@row("`Ignore`")
@row("`Reject`")
@row("what a task declares in `throws`")
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_what_is_no_failure_is_not_reported(
    pool: str, start_worker: StartWorker, producer: Celery, sentry: Sentry
) -> None:
    worker = start_worker("failing:app", worker={"pool": pool}, sentry=sentry.settings()).until_ready()
    for task in ("retried_once", "ignored", "rejected", "expected", "fine"):
        producer.send_task(f"failing.{task}")
    worker.until_logged("failing.retried_once.* succeeded")
    assert events_in_the_end(worker, producer, sentry) == []


def test_arguments_are_shown_and_traces_taken_when_the_pool_says_so(
    start_worker: StartWorker, producer: Celery, sentry: Sentry
) -> None:
    settings = sentry.settings(sendDefaultPii=True, tracesSampleRate=1.0)
    worker = start_worker("failing:app", worker={"pool": "prefork"}, sentry=settings).until_ready()
    producer.send_task("failing.plain", kwargs={"secret": "shown"})
    producer.send_task("failing.hard", args=("shown too",))
    eventually(lambda: sentry.events, lambda it: len(it) == 2, what="two events")
    events = events_in_the_end(worker, producer, sentry)
    shown = [event["extra"]["celery-job"] for event in sorted(events, key=lambda it: str(it["transaction"]))]
    assert len(shown) == 2
    assert [it["args"] for it in shown if it["task_name"] == "failing.hard"] == [["shown too"]]
    assert [it["kwargs"] for it in shown if it["task_name"] == "failing.plain"] == [{"secret": "shown"}]
    assert {"failing.plain", "failing.fine"} <= {it["transaction"] for it in sentry.transactions}


@row("a Redis that goes and comes")
def test_a_redis_that_goes_and_comes_is_no_flood_of_events(
    start_worker: StartWorker, producer: Celery, sentry: Sentry, redis_server: Any
) -> None:
    worker = start_worker(
        "failing:app",
        worker={"pool": "prefork"},
        sentry=sentry.settings(),
        broker={"maxRetries": 100, "retryBackoffSeconds": {"initial": 0.1, "max": 0.1}},
    ).until_ready()
    redis_server.stop()
    worker.until_logged(r"broker: cannot connect .*\(5/100\)")
    redis_server.start()
    worker.until_ready()
    assert events_in_the_end(worker, producer, sentry) == []


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize("before", ["", "no dsn at all", "http://public@127.0.0.1:9/1"])
def test_a_dsn_that_comes_or_changes_is_used_without_a_restart(
    before: str,
    pool: str,
    start_worker: StartWorker,
    producer: Celery,
    new_sentry: Callable[[], Sentry],
    dsn_file: Path,
) -> None:
    if before:
        dsn_file.write_text(before)
    sentry = new_sentry()
    worker = start_worker("failing:app", worker={"pool": pool}, sentry=sentry.settings()).until_ready()
    if not before.startswith("http"):
        assert worker.logs().count("failures are not reported until") == 1
    sentry.point_here()
    worker.until_logged("the DSN has changed, reporting to the new one")

    def fail() -> list[Any]:
        producer.send_task("failing.plain")
        return sentry.events

    eventually(fail, what="an event at the new place", every=0.5)
    assert worker.is_alive()


@pytest.mark.parametrize(
    ("pool", "signal"),
    [
        *(("prefork", signal) for signal in ("", "celeryd_init", "worker_init", "worker_process_init")),
        ("threads", "celeryd_init"),
        ("solo", "worker_process_init"),
    ],
)
def test_what_the_application_gave_to_sentry_itself_stays_under_what_the_pool_says(
    pool: str, signal: str, start_worker: StartWorker, producer: Celery, sentry: Sentry
) -> None:
    settings = {"dsnFile": str(sentry.dsn_file), "environment": "test"}
    environment = {"TEST_INIT_SIGNAL": signal}
    worker = start_worker(
        "with_sentry:app", worker={"pool": pool}, sentry=settings, environment=environment
    ).until_ready()
    producer.send_task("with_sentry.plain")
    (event,) = eventually(lambda: sentry.events, what="the event")
    assert event["tags"]["own"] == "yes"
    assert event["environment"] == "test"
    assert event["release"] == "own@1"
    worker.terminate()
    assert worker.wait() == 0
    assert len(sentry.events) == 1
