"""How is a policy carried out?

Called by the task base class: `publish` when a task is called, `hold` when a call is published again, `enter` when a
run is about to start, `leave` when it has ended, `revoked` when a worker has dropped a message. Decisions are scripts;
the modules here call them and turn their answers into what Celery does.

**Promise.** A policy never loses work: when it cannot decide, the task is published and runs, and a warning says so.

**Order.** A run first asks the policy that decided its call, then takes the lock of `Exclusive`; it ends the other way
round. A call that has to wait for the lock is published again under its own id, and its policy counts it as waiting
(`Unique`) or running (`Coalesce`) meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import states
from celery.exceptions import Reject
from kombu.utils.uuid import uuid

from celeriac import counts
from celeriac.policies import coalesce, debounce, exclusive, throttle, unique
from celeriac.policies.publishing import FAILURES, Call, Publish, call_dropped, logger, say_undecided
from celeriac.policies.values import CALL_HEADER, CallPolicy, Coalesce, Debounce, Exclusive, Throttle, Unique

__all__ = ["call_dropped", "enter", "hold", "leave", "publish", "revoked"]


def publish(task: Any, policy: CallPolicy, publish_now: Publish, args: Any, kwargs: Any, **options: Any) -> Any:
    """Publish a call, if its policy says so; the result handle of the call that runs.

    Raises:
        PolicyError: the key does not fit the call, or the application has no Redis (of the kind that is needed).
        kombu.exceptions.OperationalError: the broker cannot be reached, as without a policy.
    """
    call = _call(task, policy, publish_now, args, kwargs, options)
    result = _publish(call, policy)
    if getattr(result, "id", None) == call.task_id:
        counts.POLICY_OUTCOMES.add(type(policy).__name__, "published")
    return result


def _publish(call: Call, policy: CallPolicy) -> Any:
    match policy:
        case Throttle():
            return throttle.publish(call, policy)
        case Unique():
            return unique.publish(call, policy)
        case Debounce():
            return debounce.publish(call, policy)
        case Coalesce():
            return coalesce.publish(call, policy)
    raise AssertionError(policy)


def hold(task: Any, policy: CallPolicy, args: Any, kwargs: Any, **options: Any) -> None:
    """A running call is published again under its own id (a retry, or put back): it stays the one that it is."""
    request = task.request
    if request.id is None or request.id != options.get("task_id") or not mark_of(options.get("headers")):
        return
    request.celeriac_held = True
    try:
        call = _call(task, policy, None, args, kwargs, options)
        match policy:
            case Unique():
                unique.hold(call, policy)
            case Coalesce():
                coalesce.hold(call, policy)
    except FAILURES as error:
        logger.warning("the claim of task %s[%s] cannot be kept for its next run: %s", task.name, request.id, error)


def enter(task: Any, calling: CallPolicy | None, running: Exclusive | None, args: Any, kwargs: Any) -> None:
    """Begin a run.

    Raises:
        celery.exceptions.Ignore: it does not begin; Celery settles its message.
        PolicyError: the key does not fit the call.
    """
    deciding: Any = calling
    try:
        mark = mark_of(task.request.headers)
        if calling is not None and mark:
            _start(task, calling, calling.key_of(task.run, args, kwargs), mark)
        if running is not None:
            deciding = running
            exclusive.start(task, running, running.key_of(task.run, args, kwargs))
    except FAILURES as error:
        say_undecided(task, deciding, "runs", error)


def _start(task: Any, policy: CallPolicy, key: str, mark: str) -> None:
    match policy:
        case Unique():
            unique.start(task, policy, key, mark)
            task.request.celeriac_entered = key
        case Coalesce():
            coalesce.start(task, key, mark)
            task.request.celeriac_entered = key


def leave(sender: Any = None, state: str | None = None, retval: Any = None, **_: Any) -> None:
    """End a run; a receiver of `task_postrun`."""
    request = getattr(sender, "request", None)
    exclusive.end(sender)
    key = getattr(request, "celeriac_entered", None)
    if key is None or getattr(request, "celeriac_held", False):
        return
    request.celeriac_entered = None  # type: ignore[union-attr]  # it has a key
    comes_back = state == states.REJECTED and isinstance(retval, Reject) and bool(getattr(retval, "requeue", False))
    policy = sender._resolve().calling
    try:
        match policy:
            case Unique():
                unique.end(sender, policy, key, is_over=not comes_back)
            case Coalesce():
                coalesce.end(sender, policy, key, is_over=not comes_back)
    except FAILURES as error:
        logger.warning("cannot end the claim of task %s, it will expire: %s", sender.name, error)


def revoked(sender: Any = None, request: Any = None, **_: Any) -> None:
    """A worker has dropped a message as revoked or expired, or ended its run; a receiver of `task_revoked`."""
    policy = sender._resolve().calling if hasattr(sender, "_resolve") else None
    if policy is None or not mark_of(request.headers):
        return
    try:
        key = policy.key_of(sender.run, request.args or (), request.kwargs or {})
        match policy:
            case Unique():
                unique.abandon(sender, key, request.id)
            case Coalesce():
                coalesce.abandon(sender, key, request.id)
    except FAILURES as error:
        logger.warning("cannot free the claim of revoked task %s[%s]: %s", sender.name, request.id, error)


def mark_of(headers: Mapping[str, Any] | None) -> str:
    """What a message is to the policy that published it; empty when it was published past it."""
    return str((headers or {}).get(CALL_HEADER) or "")


def _call(task: Any, policy: CallPolicy, publish_now: Any, args: Any, kwargs: Any, options: dict[str, Any]) -> Call:
    args, kwargs = args or (), kwargs or {}
    task_id = options.pop("task_id", None) or uuid()
    key = policy.key_of(task.run, args, kwargs)
    return Call(task=task, publish_now=publish_now, args=args, kwargs=kwargs, key=key, task_id=task_id, options=options)
