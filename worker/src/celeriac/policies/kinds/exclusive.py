"""`Exclusive`: one run at a time for each key.

A lock is acquired before a run starts, renewed while it runs, and released when it has ended.

**Promise.** At any time, at most one run of a key has the highest fencing number. **Limits.** A run that loses its lock
continues and logs a warning. The lock of a dead worker is free after `lock_seconds` at most.
"""

from __future__ import annotations

import logging
from typing import Any

from kombu.utils.uuid import uuid
from redis.exceptions import LockError

from celeriac import counts
from celeriac.locks.lock import Lock, delivery_mark
from celeriac.policies import settling
from celeriac.policies.publishing import FAILURES
from celeriac.policies.standing import Standing
from celeriac.policies.values import Exclusive
from celeriac.store import connections, keys
from celeriac.store.replies import text

logger = logging.getLogger(__name__)


def start(task: Any, policy: Exclusive, key: str) -> None:
    """Acquire the lock of a run, or make sure that the call runs later.

    Raises:
        celery.exceptions.Ignore: the call was put back or skipped.
    """
    request = task.request
    store = connections.store(task.app)
    lock = Lock(
        store.client,
        keys.exclusive(task.name, key, prefix=store.prefix),
        timeout=policy.lock_seconds,
        thread_local=False,
        renew=True,
        max_hold=policy.max_hold_seconds,
    )
    # The owner's token begins with the task's id, so that a second delivery of a call recognises the lock of the first.
    token = f"{request.id}:{uuid()}{delivery_mark()}"
    if lock.acquire(blocking=policy.on_conflict == "wait", blocking_timeout=policy.wait_seconds, token=token):
        request.celeriac_lock = lock
        counts.POLICY_OUTCOMES.add("Exclusive", "ran")
        return
    if policy.on_conflict == "skip" and not _is_own(lock, request.id):
        counts.POLICY_OUTCOMES.add("Exclusive", "skipped")
        settling.skip(task, f"another run of {task.name} with key {key!r} was under way")
    counts.POLICY_OUTCOMES.add("Exclusive", "put_back")
    settling.put_back(task, f"another run with key {key!r} is under way", policy.backoff_seconds)


def end(task: Any) -> None:
    """Release the lock of a run that has ended."""
    lock = task.request.celeriac_lock
    task.request.celeriac_lock = None
    try:
        lock.release()
    except LockError as error:
        logger.warning("the lock of task %s was lost before its end: %s", task.name, error)
    except FAILURES as error:
        logger.warning("cannot release the lock of task %s, it will expire: %s", task.name, error)


def find(task: Any, key: str) -> list[Standing]:
    """Return the run that has the lock."""
    store = connections.store(task.app)
    name = keys.exclusive(task.name, key, prefix=store.prefix)
    owner = store.client.get(name)
    return [] if owner is None else [Standing.of("Exclusive", store, name, _id_of(text(owner)), "running")]


def _id_of(token: str) -> str:
    """Return the id of the task, with which the token of its lock begins."""
    return token.partition("@")[0].rpartition(":")[0]


def _is_own(lock: Lock, task_id: str) -> bool:
    """Return whether the lock belongs to an earlier delivery of the same call, whose worker has died."""
    owner = lock.redis.get(lock.name)
    return owner is not None and text(owner).startswith(f"{task_id}:")
