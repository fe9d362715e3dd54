"""How is a policy carried out?

Called by the task base class: `publish` when a task is called, `enter` when a run is about to start, `leave` when it
has ended. Decisions are scripts; this module calls them and turns their answers into what Celery does.

**Promise.** A policy never loses work: when it cannot decide, the task is published and runs, and a warning says so.
On a Redis broker the decision and the message are written in one step, so a crash leaves both or none. **Limits.**
With another broker they are two steps: a process that dies between them takes its call with it, and calls of the same
key are dropped for at most `CLAIM_SECONDS` after that.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

from celery.exceptions import Ignore
from kombu.exceptions import OperationalError
from kombu.utils.json import dumps
from kombu.utils.uuid import uuid
from redis.exceptions import LockError, RedisError

from celeriac import connections, keys, policies, scripts
from celeriac.lock import Lock
from celeriac.policies import Exclusive, Throttle

logger = logging.getLogger(__name__)

CLAIM_SECONDS: Final = 10.0
"""How long a claim without its message lasts, where the two are two steps."""

FAILURES: Final = (RedisError, OperationalError, OSError)
"""What Celeriac's own calls may fail with; none of it may fail a task."""

Publish = Callable[..., Any]
"""Celery's own `apply_async`, bound to the task."""


def publish(
    task: Any, policy: Throttle, publish_now: Publish, args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any
) -> Any:
    """Publish a call if it is the first of its window; the result handle of the call that is.

    Raises:
        PolicyError: the key does not fit the call, or the application has no Redis.
        kombu.exceptions.OperationalError: the broker cannot be reached, as without a policy.
    """
    key = policy.key_of(task.run, args, kwargs)
    task_id = options.pop("task_id", None) or uuid()
    try:
        store = connections.store(task.app)
        window = keys.throttle(task.name, key, prefix=store.prefix)
        # Most calls are decided by this question; the others by the script.
        first = store.client.get(window)
    except FAILURES as error:
        _say_undecided(task, "is published", error)
        return publish_now(args, kwargs, task_id=task_id, **options)
    if first is not None:
        return task.AsyncResult(_text(first))
    publish_this = _publish_in_one_step if store.is_broker else _publish_in_two_steps
    return publish_this(task, policy, publish_now, args, kwargs, store=store, window=window, task_id=task_id, **options)


def _publish_in_one_step(
    task: Any,
    policy: Throttle,
    publish_now: Publish,
    args: Any,
    kwargs: Any,
    *,
    store: Any,
    window: str,
    **options: Any,
) -> Any:
    task_id = options["task_id"]
    with task.app.producer_or_acquire(options.pop("producer", None)) as producer:
        with _captured(producer) as messages:
            result = publish_now(args, kwargs, producer=producer, **options)
        if not messages:
            return result  # no list, no script: a fanout exchange
        names = [window, *(store.prefix + name for name, _ in messages)]
        values = [task_id, _milliseconds(policy.seconds), *(message for _, message in messages)]
        try:
            first = _text(scripts.THROTTLE.run(store.client, names, values))
        except FAILURES as error:
            _say_undecided(task, "is published", error)
            return publish_now(args, kwargs, producer=producer, **options)
    return result if first == task_id else task.AsyncResult(first)


def _publish_in_two_steps(
    task: Any,
    policy: Throttle,
    publish_now: Publish,
    args: Any,
    kwargs: Any,
    *,
    store: Any,
    window: str,
    **options: Any,
) -> Any:
    task_id = options["task_id"]
    claimed = _milliseconds(min(policy.seconds, CLAIM_SECONDS))
    try:
        first = _text(scripts.THROTTLE.run(store.client, [window], [task_id, claimed]))
    except FAILURES as error:
        _say_undecided(task, "is published", error)
        return publish_now(args, kwargs, **options)
    if first != task_id:
        return task.AsyncResult(first)
    try:
        result = publish_now(args, kwargs, **options)
    except BaseException:
        with contextlib.suppress(*FAILURES):
            scripts.FORGET.run(store.client, [window], [task_id])
        raise
    with contextlib.suppress(*FAILURES):
        scripts.EXTEND.run(store.client, [window], [task_id, _milliseconds(policy.seconds), "set"])
    return result


@contextlib.contextmanager
def _captured(producer: Any) -> Iterator[list[tuple[str, str]]]:
    """Collect the lists and messages that a producer would push, instead of pushing them.

    Everything before that last step (routing, serialising, declaring, signals) is done as always. The channel is this
    producer's alone while it is out of the pool.
    """
    messages: list[tuple[str, str]] = []
    channel = producer.channel

    def put(queue: str, message: Any, **options: Any) -> None:
        if queue in getattr(channel, "_expires", {}):
            type(channel)._put(channel, queue, message, **options)  # such a queue lives longer with each message
            return
        priority = channel._get_message_priority(message, reverse=False)
        messages.append((channel._q_for_pri(queue, priority), dumps(message)))

    channel._put = put
    try:
        yield messages
    finally:
        del channel._put


# --- while a task runs


def enter(task: Any, policy: Exclusive, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Take the lock of a run, or see to it that the call runs later.

    Raises:
        celery.exceptions.Ignore: the call was put back or skipped; Celery settles its message.
        PolicyError: the key does not fit the call.
    """
    key = policy.key_of(task.run, args, kwargs)
    request = task.request
    try:
        store = connections.store(task.app)
        lock = Lock(
            store.client,
            keys.exclusive(task.name, key, prefix=store.prefix),
            timeout=policy.lock_seconds,
            thread_local=False,
            renew=True,
            max_hold=policy.max_hold_seconds,
        )
        # The owner's token begins with the task's id, so that a second delivery can tell itself from others.
        token = f"{request.id}:{uuid()}"
        if lock.acquire(blocking=policy.on_conflict == "wait", blocking_timeout=policy.wait_seconds, token=token):
            request.celeriac_lock = lock
            return
        if policy.on_conflict == "skip" and not _is_own(lock, request.id):
            _skip(task, key)
        _put_back(task, policy, key)
    except FAILURES as error:
        _say_undecided(task, "runs", error)


def leave(sender: Any = None, **_: Any) -> None:
    """Let go of the lock of a run that has ended; a receiver of `task_postrun`."""
    lock = getattr(getattr(sender, "request", None), "celeriac_lock", None)
    if lock is None:
        return
    sender.request.celeriac_lock = None
    try:
        lock.release()
    except LockError as error:
        logger.warning("the lock of task %s was lost before its end: %s", sender.name, error)
    except FAILURES as error:
        logger.warning("cannot release the lock of task %s, it will expire: %s", sender.name, error)


def _is_own(lock: Lock, task_id: str) -> bool:
    """Whether the lock is that of an earlier delivery of this very call, whose worker has died."""
    owner = lock.redis.get(lock.name)
    return owner is not None and _text(owner).startswith(f"{task_id}:")


def _skip(task: Any, key: str) -> NoReturn:
    reason = f"another run of {task.name} with key {key!r} was under way"
    logger.info("skipped %s[%s]: %s", task.name, task.request.id, reason)
    task.backend.mark_as_revoked(task.request.id, reason, request=task.request, store_result=not task.ignore_result)
    raise Ignore(reason)


def _put_back(task: Any, policy: Exclusive, key: str) -> NoReturn:
    """Publish the call again under its own id, to run after a delay, and settle this message."""
    request = task.request
    conflicts = int(getattr(request, policies.CONFLICTS_HEADER, None) or 0)
    shortest, longest = policy.backoff_seconds
    delay = policies.delay_seconds(conflicts, shortest, longest, random.random())  # noqa: S311 - jitter
    headers = {**(request.headers or {}), policies.CONFLICTS_HEADER: conflicts + 1}
    # The same number of retries: a conflict is none.
    again = task.signature_from_request(request, countdown=delay, retries=request.retries, headers=headers)
    again.apply_async()
    logger.info("%s[%s] runs again in %.1f s: another run with key %r is under way", task.name, request.id, delay, key)
    raise Ignore("put back")


def _say_undecided(task: Any, what: str, error: BaseException) -> None:
    logger.warning("policy of task %s cannot be decided, it %s: %s", task.name, what, error)


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
