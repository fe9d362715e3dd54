"""A worker whose slots are all busy is as obedient as an idle one, on every pool and with every window.

The table is pools × (empty, full, a window larger than the slots, slots that never become free) × (liveness, readiness,
acknowledgements early and late, leases, SIGTERM).
"""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.processes import RedisServer, WorkerProcess, eventually

POOLS = ("prefork", "threads", "solo", "gevent", "eventlet")
STALLED_SECONDS = 4
"""The loop of the green pools waits for up to two seconds at a time."""
LEASE_SECONDS = 5
SETTINGS: dict[str, Any] = {
    "liveness": {"stalledSeconds": STALLED_SECONDS},
    "delivery": {"leaseSeconds": LEASE_SECONDS},
}


def probes(worker: WorkerProcess) -> tuple[int, int]:
    livez, readyz = worker.get("/livez", timeout=10), worker.get("/readyz", timeout=10)
    assert livez is not None, "/livez does not answer"
    assert readyz is not None, "/readyz does not answer"
    assert livez.status == 200, livez.body
    return livez.status, readyz.status


def stays_well(worker: WorkerProcess, seconds: float) -> None:
    """Wait until the first task has run for `seconds`; no probe may fail meanwhile."""

    def look() -> float:
        assert probes(worker) == (200, 200)
        return max((task["seconds"] for task in worker.status()["running"]), default=0.0)

    worker.until(look, lambda it: it > seconds, what=f"a task has run for {seconds} s")


def ready(redis_server: RedisServer) -> int:
    return int(redis_server.client.llen("celery"))


def held(redis_server: RedisServer) -> int:
    return int(redis_server.client.hlen("celeriac:held:{celery}"))


def begun(worker: WorkerProcess) -> list[str]:
    file = worker.directory / "begun"
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.parametrize("pool", POOLS)
def test_slots_that_never_become_free_do_not_keep_a_worker_from_leaving(
    pool: str, start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    worker = start_worker(
        "filled:app", worker={"pool": pool, "concurrency": 2, "prefetch": 0}, drain={"timeoutSeconds": 2}, **SETTINGS
    ).until_ready()
    slots = 1 if pool == "solo" else 2
    # Empty: what ends is settled.
    assert producer.send_task("filled.add", (1, 1)).get(timeout=20) == 2
    eventually(lambda: held(redis_server), lambda it: it == 0, what="settled")
    assert probes(worker) == (200, 200)
    # Full, with messages that wait in the queue.
    for number in range(slots + 3):
        producer.send_task("filled.hold", (f"never-{number}",))
    worker.until(worker.status, lambda it: it["busy"] == slots, what="all slots are busy")
    stays_well(worker, 1.5 * max(LEASE_SECONDS, STALLED_SECONDS))
    assert (held(redis_server), ready(redis_server)) == (slots, 3)
    # Nothing ends: what runs is cut short and handed back.
    worker.terminate()
    assert worker.until_not_ready().body.startswith(f"draining: {slots} tasks run")
    assert worker.wait(20) == 0
    assert (held(redis_server), ready(redis_server)) == (0, slots + 3)
    assert sorted(begun(worker)) == sorted(set(begun(worker))), "nothing has run twice"
    assert "lost the lease" not in worker.logs()


@pytest.mark.parametrize("pool", POOLS)
def test_a_window_larger_than_the_slots_keeps_nothing_waiting_but_the_tasks(
    pool: str, start_worker: StartWorker, producer: Celery, redis_server: RedisServer
) -> None:
    worker = start_worker(
        "filled:app", worker={"pool": pool, "concurrency": 2, "prefetch": 4}, drain={"timeoutSeconds": 60}, **SETTINGS
    ).until_ready()
    slots, prefetched = (1, 0) if pool == "solo" else (2, 5)  # nobody could give back what waits behind solo's task
    early = producer.send_task("filled.hold_early", ("early",))
    worker.until(lambda: begun(worker), what="the first task runs")
    # Acknowledged early: settled while its task runs, so that one message more may be held.
    eventually(lambda: held(redis_server), lambda it: it == 0, what="settled early")
    late = [producer.send_task("filled.hold", (f"late-{number}",)) for number in range(8)]
    worker.until(worker.status, lambda it: (it["busy"], it["prefetched"]) == (slots, prefetched), what="full")
    assert (held(redis_server), ready(redis_server)) == (slots - 1 + prefetched, 8 - (slots - 1) - prefetched)
    stays_well(worker, 1.5 * max(LEASE_SECONDS, STALLED_SECONDS))
    # One task ends: its message is settled and the next one begins, while the others go on.
    (worker.directory / "early").touch()
    assert early.get(timeout=20) == "early"
    worker.until(lambda: begun(worker), lambda it: len(it) == slots + 1, what="the next one has begun")
    if pool != "solo":
        (worker.directory / begun(worker)[1]).touch()
        worker.until(lambda: begun(worker), lambda it: len(it) == slots + 2, what="the one after it has begun")
        eventually(
            lambda: (held(redis_server), ready(redis_server)),
            lambda it: it == (6, 1),
            what="settled, and the next ones are held",
        )
    ran_before = len(begun(worker))
    # It leaves: what has not begun goes back at once, what runs finishes.
    worker.terminate()
    assert worker.until_not_ready().body.startswith(f"draining: {slots} tasks run")
    eventually(lambda: ready(redis_server), lambda it: it == 9 - ran_before, what="handed back")
    assert probes(worker) == (200, 503)
    for name in begun(worker):
        (worker.directory / name).touch()
    assert worker.wait(30) == 0
    assert held(redis_server) == 0
    assert ready(redis_server) == 9 - ran_before
    assert len(begun(worker)) == ran_before
    assert len(set(begun(worker))) == ran_before, "nothing has run twice"
    done = [result for result in late if result.ready()]
    assert len(done) == ran_before - 1, "what has run has its result"
    assert "lost the lease" not in worker.logs()
