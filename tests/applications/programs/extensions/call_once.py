"""Call tasks that run once several times at once, and once more when they have ended."""

import json
import time

from celery_once import AlreadyQueued
from onced import app, once, once_fails, single, single_fails


def runs(name):
    return app.backend.client.llen(name)


outcomes = {}
for name, task in (("celery-singleton", single), ("celery-once", once)):
    results = [task.delay(1) for _ in range(5)]
    next(it for it in results if it is not None).get(timeout=30)
    outcomes[f"five calls of {name}"] = f"{runs(task.__name__ + '-1')} run"
    until = time.monotonic() + 30
    while runs(f"{task.__name__}-1") < 2 and time.monotonic() < until:  # the lock is opened after the result is stored
        task.delay(1)
        time.sleep(0.2)
    outcomes[f"a call of {name} after that"] = f"{runs(task.__name__ + '-1')} runs"


def failure(task):
    """How one run of a task failed, with its id; nothing while an earlier call has the lock."""
    try:
        result = task.delay()
        result.get(timeout=30)
    except AlreadyQueued:  # the lock is opened after the result is stored
        time.sleep(0.2)
    except ValueError as error:
        return result.id, f"ValueError: {error}"
    return None


for name, task in (("celery-singleton", single_fails), ("celery-once", once_fails)):
    seen = set()
    until = time.monotonic() + 30
    while len(seen) < 2 and time.monotonic() < until:
        seen |= {failure(task)} - {None}
    outcomes[f"a task of {name} that fails"] = f"{', '.join({how for _, how in seen})}, {len(seen)} times"
print(json.dumps(outcomes))
