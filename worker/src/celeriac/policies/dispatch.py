"""Calls the policy of a task when the task is called, started, or ended.

The task base class calls `publish` when a task is called, `hold` when a call is published again, `enter` before a run
starts, and `leave` after it has ended. `revoked` is called when a worker has dropped a message. Scripts in Redis
decide; the modules here call the scripts and translate their replies into Celery's actions.

**Promise.** A policy never loses work: if it cannot decide, the task is published and runs, and a warning is logged.

**Order.** A run first asks the policy that decided its call, then acquires the lock of `Exclusive`; it ends in the
reverse order. A call that must wait for the lock is published again under its own id. Until it runs, its policy counts
it as waiting (`Unique`) or as running (`Coalesce`).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final, Protocol, cast

from celery import states
from celery.exceptions import Reject, TaskPredicate
from kombu.utils.uuid import uuid

from celeriac import counts
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
    """The functions that the module of a policy for calls provides."""

    def publish(self, call: Call, policy: Any) -> Any:
        """Publish a call if the policy allows it; return the result handle of the call that runs."""

    def hold(self, call: Call, policy: Any) -> None:
        """Keep the claim of a call that is published again under its own id."""

    def start(self, task: Any, policy: Any, key: str, mark: str) -> None:
        """Begin the run of a message with the policy's mark, or raise `Ignore`."""

    def end(self, task: Any, policy: Any, key: str, *, is_over: bool) -> None:
        """End the run; `is_over` is false if its message will be delivered again."""

    def abandon(self, task: Any, key: str, request: Any, *, is_expired: bool) -> None:
        """Free the claim of a call whose message a worker has dropped."""

    def find(self, task: Any, key: str) -> list[Standing]:
        """Return the calls that block other calls of this key."""


_MODULES: Final[Mapping[type[CallPolicy], str]] = {
    Throttle: "throttle",
    Unique: "unique",
    Debounce: "debounce",
    Coalesce: "coalesce",
}
"""The module of each policy for calls. A new policy needs a class in `values`, a module in `kinds`, and a line here."""


def publish(task: Any, policy: CallPolicy, publish_now: Publish, args: Any, kwargs: Any, **options: Any) -> Any:
    """Publish a call if its policy allows it; return the result handle of the call that runs.

    Raises:
        PolicyError: the key does not fit the call, or the application has no Redis (or not the kind that is needed).
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

    If the call is published with other arguments, it may have another key. Then the run ends the claim of the first key
    as any other run does, and the call waits under the second key.

    Returns:
        The options for publishing the call. If the new arguments have no key, the call bypasses its policy, because
        Celery would discard a retry that cannot be published.
    """
    request = task.request
    headers = options.get("headers") or {}
    if request.id is None or request.id != options.get("task_id") or not mark_of(headers):
        return options
    own = _key_of(task, policy, request)
    try:
        key = own if _has_arguments_of(request, args, kwargs) else policy.key_of(task.run, args or (), kwargs or {})
    except Exception as error:
        logger.warning("task %s[%s] has no key, its next run bypasses its policy: %s", task.name, request.id, error)
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
        celery.exceptions.Ignore: the run does not begin; Celery settles its message.
        PolicyError: the key does not fit the call.
    """
    deciding: Any = calling
    request = task.request
    try:
        mark = mark_of(request.headers)
        if calling is not None and mark:
            # Set this before the script runs: if its reply is lost, the claim that it may have made ends with the run.
            request.celeriac_entered = key = _key_of(task, calling, request)
            _steps(calling).start(task, calling, key, mark)
            request.celeriac_begun = True
        if running is not None:
            from celeriac.policies.kinds import exclusive

            deciding = running
            exclusive.start(task, running, running.key_of(task.run, args, kwargs))
    except FAILURES as error:
        say_undecided(task, deciding, "runs", error)
    except TaskPredicate:
        if deciding is calling:
            request.celeriac_entered = None
        raise


def leave(sender: Any = None, state: str | None = None, retval: Any = None, **_: Any) -> None:
    """End a run; a receiver of the signal `task_postrun`."""
    request = getattr(sender, "request", None)
    if getattr(request, "celeriac_lock", None) is not None:
        from celeriac.policies.kinds import exclusive

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
    """Handle that a worker dropped a message as revoked or expired, or ended its run; receives `task_revoked`."""
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
    """Return the calls that block other calls of this key."""
    return _steps(policy).find(task, key)


def _steps(policy: CallPolicy) -> Steps:
    """Return the module of a policy, or of its base class.

    It is imported when it is first used: an application that only calls tasks usually has one kind of policy.
    """
    name = next(_MODULES[it] for it in type(policy).__mro__ if it in _MODULES)
    module: Any = importlib.import_module(f"celeriac.policies.kinds.{name}")
    return cast("Steps", module)


def mark_of(headers: Mapping[str, Any] | None) -> str:
    """Return a message's role for the policy that published it; empty if the message bypassed the policy."""
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
    """Return the key of a delivered call, as it was computed when the task was called."""
    key = (request.headers or {}).get(KEY_HEADER)
    return policy.key_of(task.run, request.args or (), request.kwargs or {}) if key is None else str(key)


def _has_arguments_of(request: Any, args: Any, kwargs: Any) -> bool:
    """Return whether a call that is published again has the same arguments as its run."""
    return (list(args or ()), dict(kwargs or {})) == (list(request.args or ()), dict(request.kwargs or {}))
