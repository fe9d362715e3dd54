"""Flower and celery-exporter beside a worker: what they show of it and of its tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator

from celery import Celery
from tests.applications.place import Place, fetch, until
from tests.integration.worker.processes import free_port

ENDS = ("SUCCESS", "FAILURE")


def figure(metrics: str, name: str, label: str) -> float:
    """The sum of a metric over all series with a label."""
    lines = [it for it in metrics.splitlines() if it.startswith(f"{name}{{") and label in it]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def steps(place: Place) -> Iterator[tuple[str, str]]:
    place.copy_programs("monitors")
    place.environment["APPLICATION_BROKER"] = place.redis.url
    flower, exporter = free_port(), free_port()
    place.start(
        "flower", "python", "-m", "celery", "-b", place.redis.url, "flower",
        "--address=127.0.0.1", f"--port={flower}", FLOWER_UNAUTHENTICATED_API="true",
    )  # fmt: skip
    place.start(
        "exporter", "python", "-c", "from src.cli import cli; cli(auto_envvar_prefix='CE')",
        CE_BROKER_URL=place.redis.url, CE_HOST="127.0.0.1", CE_PORT=str(exporter),
    )  # fmt: skip

    def ask(path: str) -> str:
        return fetch(f"http://127.0.0.1:{flower}{path}")

    def metrics() -> str:
        return fetch(f"http://127.0.0.1:{exporter}/metrics")

    until(lambda: ask("/healthcheck"), what="Flower is up")
    until(metrics, what="celery-exporter is up")
    worker = place.worker("watched:app", concurrency=2)
    workers = until(lambda: json.loads(ask("/workers?json=1") or "{}").get("data"), what="its workers")
    yield "Flower's list of workers", f"{len(workers)}, {'online' if workers[0]['status'] else 'offline'}"
    producer = Celery("producer", broker=place.redis.url, backend=place.redis.url, set_as_current=False)

    def runs() -> list[str]:
        sent = [producer.send_task("watched.add", (1, 2)), producer.send_task("watched.fail")]
        for each in sent:
            each.get(timeout=20, propagate=False)
        return [str(json.loads(ask(f"/api/task/info/{it.id}") or "{}").get("state")) for it in sent]

    told = until(runs, lambda it: it[0] in ENDS and it[1] in ENDS, what="what Flower knows")
    yield "Flower: how two tasks ended", ", ".join(told)
    (node,) = json.loads(ask("/api/workers?refresh=1"))
    stats = json.loads(ask("/api/workers"))[node]
    yield "Flower: what it knows of a worker", ", ".join(sorted(stats.keys() - {"timestamp"}))
    grown = fetch(f"http://127.0.0.1:{flower}/api/worker/pool/grow/{node}?n=1", body={})
    yield "Flower: add a process", json.loads(grown or '{"message": "no answer"}')["message"].replace(node, "NODE")
    for name, task in (("celery_task_succeeded_total", "watched.add"), ("celery_task_failed_total", "watched.fail")):
        counted = until(lambda n=name, t=task: figure(metrics(), n, t), what=f"{name} of celery-exporter")  # type: ignore[misc]
        yield f"celery-exporter: {name}", "counts" if counted else "nothing"
    yield (
        "celery-exporter: celery_worker_up",
        f"{until(lambda: figure(metrics(), 'celery_worker_up', 'hostname')):g}",
    )
    yield "SIGTERM", f"exit code {worker.terminate()}"
    gone = until(lambda: figure(metrics(), "celery_worker_up", "hostname"), lambda it: it == 0, what="it is gone")
    yield "celery-exporter: after the worker's end", f"{gone:g} up"
    producer.close()
