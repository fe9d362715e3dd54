"""Which tasks has Celery's prefork pool sent to a child, though the child has not said yet that it began?

Celery's pool (5.7) forgets such a task when its consumer closes, on a lost connection as at the end of the worker: it
would hear neither of the task's end nor of the child's, while the child runs the task all the same. The message would
be delivered again, and the child would wait for half a minute that its result is read.
"""

from __future__ import annotations

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
