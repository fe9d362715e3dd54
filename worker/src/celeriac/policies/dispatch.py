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
from typing import Any, Final, Protocol

from celery import states
from celery.exceptions import Reject, TaskPredicate
from kombu.utils.uuid import uuid

from celeriac import counts
from celeriac.policies.kinds import coalesce, debounce, exclusive, throttle, unique
from celeriac.policies.publishing import FAILURES, Call, Publish, logger, say_undecided
from celeriac.policies.standing import Standing
from celeriac.policies.values import (
    CALL_HEADER,
    KEY_HEADER,
    CallPolicy,
    Coalesce,
    Debounce,
    Exclusive,
    Throttle,
    Unique,
)


class Steps(Protocol):
    """What the module of a policy for calling offers."""

    def publish(self, call: Call, policy: Any) -> Any:
        """Publish a call if the policy says so; the result handle of the call that runs."""

    def hold(self, call: Call, policy: Any) -> None:
        """Keep what a call has claimed, because it is published again under its own id."""

    def start(self, task: Any, policy: Any, key: str, mark: str) -> None:
        """Begin the run of a message that has the policy's mark, or raise `Ignore`."""

    def end(self, task: Any, policy: Any, key: str, *, is_over: bool) -> None:
        """End the run; not `is_over` when its message comes back."""

    def abandon(self, task: Any, key: str, request: Any, *, is_expired: bool) -> None:
        """Free what the message of a call has claimed, because a worker has dropped it."""

    def find(self, task: Any, key: str) -> list[Standing]:
        """The calls that hold back others of this key."""


_STEPS: Final[Mapping[type[CallPolicy], Steps]] = {
    Throttle: throttle,
    Unique: unique,
    Debounce: debounce,
    Coalesce: coalesce,
}
"""A new policy for calling is a class in `values`, a module beside this one, and a line here."""


def publish(task: Any, policy: CallPolicy, publish_now: Publish, args: Any, kwargs: Any, **options: Any) -> Any:
    """Publish a call, if its policy says so; the result handle of the call that runs.

    Raises:
        PolicyError: the key does not fit the call, or the application has no Redis (of the kind that is needed).
        kombu.exceptions.OperationalError: the broker cannot be reached, as without a policy.
    """
    key = policy.key_of(task.run, args or (), kwargs or {})
    call = _call(task, key, publish_now, args, kwargs, options)
    result = _steps(policy).publish(call, policy)
    if getattr(result, "id", None) == call.task_id:
        counts.POLICY_OUTCOMES.add(type(policy).__name__, "published")
    return result


def hold(task: Any, policy: CallPolicy, args: Any, kwargs: Any, **options: Any) -> dict[str, Any]:
    """Keep the claim of a running call that is published again under its own id (a retry, or put back).

    A call that comes back with other arguments may have another key: its run then ends the claim of the first key as
    any other run does, and the call waits under the second.

    Returns:
        The options to publish it with. Where the new arguments have no key it goes past its policy: Celery would
        discard a retry that cannot be published.
    """
    request = task.request
    headers = options.get("headers") or {}
    if request.id is None or request.id != options.get("task_id") or not mark_of(headers):
        return options
    own = _key_of(task, policy, request)
    try:
        key = own if _has_arguments_of(request, args, kwargs) else policy.key_of(task.run, args or (), kwargs or {})
    except Exception as error:
        logger.warning("task %s[%s] has no key, its next run goes past its policy: %s", task.name, request.id, error)
        return {**options, "headers": {it: headers[it] for it in headers if it not in {CALL_HEADER, KEY_HEADER}}}
    call = _call(task, key, None, args, kwargs, dict(options))
    if key == own:
        request.celeriac_held = True
    try:
        _steps(policy).hold(call, policy)
    except FAILURES as error:
        logger.warning("the claim of task %s[%s] cannot be kept for its next run: %s", task.name, request.id, error)
    return {**options, "headers": call.headers(mark_of(headers))}


def enter(task: Any, calling: CallPolicy | None, running: Exclusive | None, args: Any, kwargs: Any) -> None:
    """Begin a run.

    Raises:
        celery.exceptions.Ignore: it does not begin; Celery settles its message.
        PolicyError: the key does not fit the call.
    """
    deciding: Any = calling
    request = task.request
    try:
        mark = mark_of(request.headers)
        if calling is not None and mark:
            # Noted before the script runs: if its answer is lost, the claim that it may have made ends with the run.
            request.celeriac_entered = key = _key_of(task, calling, request)
            _steps(calling).start(task, calling, key, mark)
            request.celeriac_begun = True
        if running is not None:
            deciding = running
            exclusive.start(task, running, running.key_of(task.run, args, kwargs))
    except FAILURES as error:
        say_undecided(task, deciding, "runs", error)
    except TaskPredicate:
        if deciding is calling:
            request.celeriac_entered = None
        raise


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
        _steps(policy).end(sender, policy, key, is_over=not comes_back)
    except FAILURES as error:
        logger.warning("cannot end the claim of task %s, it will expire: %s", sender.name, error)


def revoked(sender: Any = None, request: Any = None, expired: bool = False, **_: Any) -> None:
    """A worker has dropped a message as revoked or expired, or ended its run; a receiver of `task_revoked`."""
    if not hasattr(sender, "_resolve") or not mark_of(request.headers):
        return
    policy = sender._resolve().calling
    if policy is None:
        return
    try:
        _steps(policy).abandon(sender, _key_of(sender, policy, request), request, is_expired=bool(expired))
    except FAILURES as error:
        logger.warning("cannot free the claim of revoked task %s[%s]: %s", sender.name, request.id, error)


def find(task: Any, policy: CallPolicy, key: str) -> list[Standing]:
    """The calls that hold back others of this key."""
    return _steps(policy).find(task, key)


def _steps(policy: CallPolicy) -> Steps:
    """The module of a policy, or of the class that it is derived from."""
    return next(_STEPS[it] for it in type(policy).__mro__ if it in _STEPS)


def mark_of(headers: Mapping[str, Any] | None) -> str:
    """What a message is to the policy that published it; empty when it was published past it."""
    return str((headers or {}).get(CALL_HEADER) or "")


def _call(task: Any, key: str, publish_now: Any, args: Any, kwargs: Any, options: dict[str, Any]) -> Call:
    task_id = options.pop("task_id", None) or uuid()
    return Call(
        task=task,
        publish_now=publish_now,
        args=args or (),
        kwargs=kwargs or {},
        key=key,
        task_id=task_id,
        options=options,
    )


def _key_of(task: Any, policy: CallPolicy, request: Any) -> str:
    """The key of a call that has travelled: as it was when the task was called."""
    key = (request.headers or {}).get(KEY_HEADER)
    return policy.key_of(task.run, request.args or (), request.kwargs or {}) if key is None else str(key)


def _has_arguments_of(request: Any, args: Any, kwargs: Any) -> bool:
    """Whether a call that is published again has the arguments of its run."""
    return (list(args or ()), dict(kwargs or {})) == (list(request.args or ()), dict(request.kwargs or {}))
