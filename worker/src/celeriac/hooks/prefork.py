"""Which tasks have been sent to the children of Celery's prefork pool?

The consumer closes when the connection is lost and when the worker ends. Celery's pool then forgets the tasks that it
has sent to a child and that the child has not yet accepted (Celery 5.7), or all of its tasks (Celery 5.4). The child
still runs the task, but the pool is not notified when the task or the child ends. The message would be redelivered, or
stay held, and the child would wait half a minute for its result to be read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


def remember_sent(request: Any) -> bool:
    """Mark a task as accepted before the child says so, if it has been sent to a child. True if it has been sent.

    Args:
        request: a Celery request, on any kind of pool.
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
    """Keep what a pool (of any kind) knows about started tasks, even if the body of the `with` makes it forget them."""
    jobs = getattr(getattr(pool, "_pool", None), "_cache", None)
    begun = {number: job for number, job in jobs.items() if job._accepted} if isinstance(jobs, dict) else {}
    yield
    if isinstance(jobs, dict):
        jobs.update({number: job for number, job in begun.items() if not job.ready()})
