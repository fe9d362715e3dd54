"""What the operator reads while real workers, of the library as it is, take messages from a real Redis."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.worker.processes import RedisServer, WorkerProcess, document, free_port
from tests.waiting import eventually_async

from celeriac_operator.autoscaling import connect
from celeriac_operator.autoscaling.connect import Reading, Watched

WORKER_PYTHON = Path(__file__).parents[4] / ".venv" / "worker" / "bin" / "python"
"""The worker library's own environment: celery cannot live in the operator's."""
LEASE_SECONDS = 5  # the least that there is
PRODUCER = """
import json, sys
from celery import Celery
url, prefix, has_library, calls = json.loads(sys.argv[1])
if has_library:
    from celeriac.policies import published
    published.install()
app = Celery(broker=url, set_as_current=False)
app.conf.broker_transport_options = {"global_keyprefix": prefix}
for name, args, options in calls:
    app.send_task(name, args=args, ignore_result=True, **options)
"""

Start = Callable[..., WorkerProcess]


@pytest.fixture
def start_worker(tmp_path: Path, server: RedisServer) -> Iterator[Start]:
    """Start workers of the pool that the minimal document names; keyword arguments are sections of it."""
    started: list[WorkerProcess] = []

    def start(
        *, environment: dict[str, str] | None = None, delivery: dict[str, Any] | None = None, **sections: Any
    ) -> WorkerProcess:
        directory = tmp_path / f"worker-{len(started)}"
        directory.mkdir()
        delivery = {"leaseSeconds": LEASE_SECONDS, **(delivery or {})}
        config = document("deadly:app", port=free_port(), delivery=delivery, **sections)
        urls = {"CELERIAC_BROKER_URL": server.url, **(environment or {})}
        worker = WorkerProcess(directory, config, urls, [str(WORKER_PYTHON), "-m", "celeriac", "worker"])
        started.append(worker)
        return worker.start()

    yield start
    for worker in started:
        worker.clean_up()


def watched() -> Watched:
    pool = document("deadly:app", port=1)["pool"]
    return Watched(f"{pool['namespace']}/{pool['name']}", ("celery",))


def send(
    server: RedisServer, *calls: tuple[str, float, dict[str, Any]], prefix: str = "", library: bool = False
) -> None:
    """Publish notes: line, seconds, options."""
    named = [("deadly.note", (line, seconds), options) for line, seconds, options in calls]
    argument = json.dumps([server.url, prefix, library, named])
    subprocess.run([WORKER_PYTHON, "-c", PRODUCER, argument], check=True, timeout=60)


async def until(
    worker: WorkerProcess, reader: connect.Broker, is_right: Callable[[Reading], object], *, seconds: float = 30
) -> Reading:
    async def read() -> Reading:
        return (await reader.read([watched()], now=time.monotonic()))[watched().pool]

    with worker.shows_log():
        return await eventually_async(read, is_right, timeout=seconds)


def notes(worker: WorkerProcess) -> list[str]:
    file = worker.directory / "notes"
    return file.read_text().split() if file.exists() else []


@pytest.mark.timeout(120)
async def test_what_a_worker_runs_and_holds_is_counted_until_it_is_gone(
    server: RedisServer, start_worker: Start
) -> None:
    # A key prefix, which only the worker can tell.
    environment = {"TEST_PREFIX": "shop-"}
    worker = start_worker(worker={"pool": "threads", "concurrency": 2, "prefetch": 1}, environment=environment)
    worker.until_ready()
    reader = connect.connect(server.url)
    try:
        send(server, *((f"short-{n}", 0.2, {}) for n in range(4)), prefix="shop-")
        measured = await until(worker, reader, lambda it: it.figures.service_seconds is not None)
        assert measured.figures.service_seconds == pytest.approx(0.2, abs=0.15)
        await until(worker, reader, lambda it: it.figures.held == 0)

        send(server, *((f"long-{n}", 120, {"priority": n}) for n in range(5)), prefix="shop-")
        read = await until(worker, reader, lambda it: it.figures.in_flight == 3 and it.figures.backlog == 2)
        assert read.figures.busy_slots == 2, "each of its slots"
        assert read.figures.oldest_age_seconds is None, "the producer is a plain one"
        send(server, ("noted", 0, {"priority": 9}), prefix="shop-", library=True)
        read = await until(worker, reader, lambda it: it.figures.backlog == 3)
        assert read.figures.oldest_age_seconds == pytest.approx(0, abs=10)

        worker.kill()
        killed = time.monotonic()
        read = await until(worker, reader, lambda it: it.figures.busy_slots == 0)
        assert time.monotonic() - killed <= 2 * LEASE_SECONDS + 1, "its last word holds for two leases"
        assert server.client.hlen(f"celeriac:workers:{{{watched().pool}}}") == 1, "nobody is there to take it away"
        other = start_worker(worker={"pool": "threads", "concurrency": 2, "prefetch": 0}, environment=environment)
        other.until_ready()
        await until(other, reader, lambda it: it.figures.busy_slots == 2)
        assert server.client.hlen(f"celeriac:workers:{{{watched().pool}}}") == 1, "the next worker took it away"
        other.until(lambda: any("long" in it for it in notes(other)))
    finally:
        await reader.close()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
async def test_a_task_that_is_acknowledged_before_it_runs_is_counted_at_every_moment(
    server: RedisServer, start_worker: Start, pool: str
) -> None:
    settings = {"pool": pool, "concurrency": 2}
    worker = start_worker(worker=settings, delivery={"mode": "AtMostOnce"}).until_ready()
    reader = connect.connect(server.url)
    try:
        for number in range(2):
            await until(worker, reader, lambda it: not it.figures.backlog and not it.figures.held)
            send(server, (str(number), 1.5, {}))
            # From here on: as fast as it goes, so that each step of the message falls between two readings some time.
            await until(worker, reader, lambda it: not it.figures.backlog and not it.figures.held)
            assert len(notes(worker)) == number + 1, "nothing was seen before the task had begun"
            ran = time.time() - (worker.directory / "notes").stat().st_mtime
            assert ran >= 1.5, f"nothing was seen {ran:.2f} s after the task had begun"
    finally:
        await reader.close()


async def test_a_worker_that_leaves_is_forgotten_at_once(server: RedisServer, start_worker: Start) -> None:
    worker = start_worker(worker={"pool": "threads"}).until_ready()
    key = f"celeriac:workers:{{{watched().pool}}}"
    worker.until(lambda: server.client.hlen(key) == 1)
    worker.terminate()
    assert worker.wait() == 0
    assert server.client.hlen(key) == 0
