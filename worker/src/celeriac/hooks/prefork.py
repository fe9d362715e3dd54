"""Which tasks are with the children of Celery's prefork pool?

When its consumer closes, on a lost connection as at the end of the worker, Celery's pool forgets tasks that were sent
to a child which has not said yet that it began (5.7), or all of them (5.4). It would hear neither of the task's end nor
of the child's, while the child runs the task all the same. The message would be delivered again, or stay held, and the
child would wait for half a minute that its result is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


def remember_sent(request: Any) -> bool:
    """Tell the pool now what the child is about to say, if a child has been sent this task; whether one has.

    Args:
        request: one of Celery's requests, on any kind of pool.
    """
    reference = request._apply_result
    job = None if reference is None else reference()
    child = getattr(job, "_write_to", None)
    if job is None or child is None:
        return False
    if not job._accepted:
        job._worker_pid, job._accepted = child.pid, True
    return True


@contextlib.contextmanager
def remembering(pool: Any) -> Iterator[None]:
    """Let a pool, of any kind, know afterwards what it knew before of the tasks that have begun."""
    jobs = getattr(getattr(pool, "_pool", None), "_cache", None)
    begun = {number: job for number, job in jobs.items() if job._accepted} if isinstance(jobs, dict) else {}
    yield
    if isinstance(jobs, dict):
        jobs.update({number: job for number, job in begun.items() if not job.ready()})
