"""Dead letters: their callers get a failure, a requeued one is pending again, and whatever is in them can be shown."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery, chain, chord, signature
from celery.exceptions import ChordError
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.delivery import message_shapes
from tests.integration.worker.processes import APPS, RedisServer, WorkerProcess

from celeriac.delivery.values.dead_entry import DeadEntry

DEAD = "celeriac:dead:{celery}"


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server.url) as it:
        yield it


def lines(worker: WorkerProcess, name: str) -> list[str]:
    path = worker.directory / name
    return path.read_text().splitlines() if path.exists() else []


def run(worker: WorkerProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "celeriac", "dead", *arguments]
    return subprocess.run(command, cwd=APPS, env=worker.environment, capture_output=True, text=True, check=False)


def test_the_caller_of_a_dead_lettered_task_gets_a_failure_and_a_requeued_one_is_pending_again(
    start_worker: StartWorker, producer: Celery, client: Any
) -> None:
    worker = start_worker("awaited:app", worker={"concurrency": 2}, delivery={"maxDeliveries": 2})
    die = signature("awaited.die", app=producer)
    single = producer.send_task("awaited.die", ("single",), link_error=signature("awaited.errback", app=producer))
    in_chord = chord([signature("awaited.fine", app=producer), die.clone(("in chord",))], app=producer)(
        signature("awaited.total", app=producer)
    )
    in_chain = chain(die.clone(("in chain",)), signature("awaited.total", app=producer), app=producer).apply_async()
    with pytest.raises(Exception, match="was given up: delivered 2 times without coming to an end") as caught:
        single.get(timeout=90)
    assert type(caught.value).__name__ == "DeadLetterError"
    assert "`python -m celeriac dead requeue " in str(caught.value)
    with pytest.raises(ChordError, match="was given up"):
        producer.AsyncResult(in_chord.id).get(timeout=90)  # without its parents, whose errors Celery raises first
    with pytest.raises(Exception, match="was given up"):
        in_chain.get(timeout=90)
    worker.until(lambda: lines(worker, "errbacks"), lambda it: it == [f"{single.id} DeadLetterError"])
    worker.until(lambda: lines(worker, "failures"), lambda it: f"{single.id} DeadLetterError" in it)
    assert sorted(lines(worker, "died")) == ["in chain"] * 2 + ["in chord"] * 2 + ["single"] * 2
    rows = json.loads(run(worker, "list", "--json").stdout)
    entry = next(row["entry"] for row in rows if row["id"] == single.id)
    assert f"dead requeue {entry}`" in str(caught.value)
    (worker.directory / "mended").touch()
    assert run(worker, "requeue", entry).returncode == 0
    again = producer.AsyncResult(single.id)
    assert again.get(timeout=60) == "mended"


def test_a_task_that_kills_its_process_runs_five_times_unless_the_pool_says_otherwise(
    start_worker: StartWorker, producer: Celery
) -> None:
    worker = start_worker("awaited:app", worker={"concurrency": 1})
    result = producer.send_task("awaited.die")
    with pytest.raises(Exception, match="delivered 5 times"):
        result.get(timeout=120)
    assert len(lines(worker, "died")) == 5


# --- in the terminal


ESCAPES = "shop.send\x1b]0;owned\x07\x1b]52;c;cm0=\x07\x1b[2J\x1b[H1732370000000-0  FORGED ROW"


def test_whatever_is_in_a_dead_letter_it_is_listed_and_shown_on_lines_of_its_own(
    start_worker: StartWorker, client: Any
) -> None:
    """Every record of deliveries and every header that the generator knows, and entries that nobody has written."""
    shapes = [*message_shapes.by_record(), *message_shapes.no_messages()]
    shapes += [
        it for it in message_shapes.by_field() if it.name.startswith(("header", "envelope", "property celeriac"))
    ]
    with client.pipeline() as pipeline:
        for shape in shapes:
            entry = DeadEntry.of(shape.raw, queue="celery", why=ESCAPES, where=ESCAPES, now=1.0)
            pipeline.xadd(DEAD, dict(zip(entry.written()[::2], entry.written()[1::2], strict=True)))
        for odd in (
            {"at": "soon"},
            {"at": "1e300", "task": ESCAPES, "id": "id\x1b[1A\x1b[2Kgone\nsecond line", "why": b"\xff\x1b\n"},
            {"message": b"\xff", "queue": "\u202e", "where": "x" * 100_000},
        ):
            pipeline.xadd(DEAD, odd)
        pipeline.set("celeriac:dead:{of another type}", "x")
        pipeline.execute()
    worker = start_worker("awaited:app", queues=["other"])
    count = len(shapes) + 3
    listed = run(worker, "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert len(listed.stdout.splitlines()) == 1 + count
    assert max(map(len, listed.stdout.splitlines())) < 800
    shown = run(worker, "show", "all")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert len(shown.stdout.split("\nentry ")) == count
    assert max(map(len, shown.stdout.splitlines())) < 1100
    for text in (listed.stdout, shown.stdout):
        assert all(line.isprintable() for line in text.splitlines())
        assert not any(line.startswith("17323") for line in text.splitlines())
    for action in ("list", "show"):
        rows = json.loads(run(worker, action, *(["all"] if action == "show" else []), "--json").stdout)
        assert len(rows) == count
    requeued = run(worker, "requeue", "all")
    assert requeued.returncode == 1, "what cannot be read can only be dropped"
    assert all(line.isprintable() for line in (requeued.stdout + requeued.stderr).splitlines())
    assert run(worker, "drop", "all").returncode == 0
    assert not client.exists(DEAD) or client.xlen(DEAD) == 0
