"""Whatever a task raises, on whatever pool: it fails once, its message is settled, and its slot is free."""

from __future__ import annotations

import ast
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from celery.result import AsyncResult
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import APPS, RedisServer
from tests.receivers.sentry_receiver import Receiver

POOLS = ("prefork", "threads", "solo", "gevent", "eventlet")


def ways_out() -> list[str]:
    """The names that the application gives to the ways out of a task, in its order."""
    for node in ast.walk(ast.parse((APPS / "leaving.py").read_text())):
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict):
            return [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
    raise AssertionError("the application names no ways out")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A Sentry that keeps what it is sent."""
    server = Receiver("127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("pool", POOLS)
def test_whatever_a_task_lets_out_it_fails_once_and_the_next_task_runs(
    pool: str,
    start_worker: StartWorker,
    producer: Celery,
    redis_server: RedisServer,
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    dsn_file = tmp_path / "dsn"
    dsn_file.write_text(f"http://public@127.0.0.1:{receiver.server_port}/1")
    worker = start_worker(
        "leaving:app", worker={"pool": pool, "concurrency": 1, "prefetch": 1}, sentry={"dsnFile": str(dsn_file)}
    ).until_ready()
    sent: dict[str, AsyncResult[object]] = {}
    followed: dict[str, AsyncResult[object]] = {}
    for how in ways_out():
        sent[how] = producer.send_task("leaving.leave", (how,))
        followed[how] = producer.send_task("leaving.add", (1, 1))

    def states() -> dict[str, tuple[str, str]]:
        return {how: (sent[how].state, followed[how].state) for how in sent}

    worker.until(
        lambda: {how: states for how, states in states().items() if states != ("FAILURE", "SUCCESS")},
        lambda others: not others,
        what="each has failed and each that followed has run",
    )
    runs = Path(worker.directory / "runs").read_text().splitlines()
    assert sorted(runs) == sorted(sent), "each has run once"
    worker.until(worker.status, lambda it: (it["busy"], it["prefetched"]) == (0, 0), what="the slot is free")
    held = redis_server.client.keys("celeriac:held:*")
    worker.until(lambda: sum(redis_server.client.hlen(key) for key in held), lambda count: not count, what="settled")
    assert redis_server.client.keys("celeriac:dead:*") == []
    assert worker.get("/livez").status == 200  # type: ignore[union-attr]
    worker.terminate()  # flushes what is to be sent
    assert worker.wait() == 0
    reported = Counter(event["tags"]["task_id"] for event in receiver.received.all("event"))
    assert {how: reported[result.id] for how, result in sent.items()} == dict.fromkeys(sent, 1), "each is reported once"
