"""Locks as users write them. mypy reads this file; it is never run."""

from __future__ import annotations

from typing import assert_type

import redis
from redis.exceptions import LockError, LockNotOwnedError

import celeriac

client = redis.Redis()


def write_report(fence: int) -> None: ...


with celeriac.Lock(client, "lock:report-42", timeout=30, renew=True) as lock:
    assert_type(lock, celeriac.Lock)
    lock.check()
    if lock.fence is not None:
        write_report(lock.fence)

assert_type(celeriac.Lock(client, "lock:a").acquire(blocking_timeout=2), bool)

try:
    lock.release()
except celeriac.LockLostError as lost:
    # Code that was written for redis-py's lock catches it too.
    owned: LockNotOwnedError = lost
    error: LockError = lost

celeriac.Lock(client, "lock:a", timeout="30")  # type: ignore[arg-type]
