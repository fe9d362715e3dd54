"""Tasks that run for many messages at once, by a strategy that hands a plain function to the pool (celery-batches)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from celery import Celery, Task
from celery.utils.imports import symbol_by_name
from celery.worker.request import create_request_cls

app = Celery("batching", broker=os.environ.get("TEST_BROKER"), backend=os.environ.get("TEST_BROKER"))


def run_batch(name: str, ids: list[str]) -> None:
    """What the pool is given: arguments of the strategy's own, and no request."""
    app.tasks[name](ids)


class Batched(Task):  # type: ignore[type-arg]  # generic in the stubs alone
    """Collects messages and runs once for each ten, or for those that there are after an interval."""

    flush_every = 10
    flush_interval = 120

    def Strategy(self, task: Any, app: Any, consumer: Any) -> Callable[..., None]:  # noqa: N802 - Celery's name
        kind = create_request_cls(
            symbol_by_name(task.Request), task, consumer.pool, consumer.hostname, consumer.event_dispatcher, app=app
        )
        waiting: list[Any] = []

        def flush() -> None:
            batch = waiting[:]
            del waiting[:]

            def done(_result: Any) -> None:
                for request in batch:
                    request.acknowledge()

            arguments = (task.name, [request.id for request in batch])
            consumer.pool.apply_async(run_batch, arguments, accept_callback=lambda *_: None, callback=done)

        def receive(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **_: Any) -> None:
            waiting.append(kind(message, on_ack=ack, on_reject=reject, app=app, task=task, body=message.body))
            if len(waiting) >= self.flush_every:
                flush()

        return receive


@app.task(name="batching.count", base=Batched)
def count(ids: list[str]) -> None:
    """Stores for each message how many ran with it."""
    for task_id in ids:
        app.backend.mark_as_done(task_id, len(ids))


@app.task(name="batching.plain")
def plain(value: int) -> int:
    """A task like any other, on the same worker."""
    return value
