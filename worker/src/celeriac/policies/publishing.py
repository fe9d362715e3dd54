"""Publishes messages for policies, or prepares messages that a script publishes.

On a Redis broker a policy's script writes its decision and the message in one step. So this module makes the message as
Celery and kombu do, except for the last step, and gives it to the script instead of to Redis.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import numbers
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from celery.utils.dispatch import Signal
from celery.utils.time import maybe_iso8601, maybe_make_aware
from kombu.exceptions import OperationalError
from kombu.utils.json import dumps
from redis.exceptions import RedisError

from celeriac import counts
from celeriac.exceptions import DuplicateCallError
from celeriac.policies.values import CALL_HEADER, KEY_HEADER

logger = logging.getLogger(__name__)

FAILURES: Final = (RedisError, OperationalError, OSError)
"""The errors that Celeriac's own requests can raise; none of them may fail a task."""

ATTEMPTS: Final = 20
"""How often a decision is repeated because another call changed the state meanwhile; then the call is published."""

Publish = Callable[..., Any]
"""Celery's own `apply_async`, bound to the task."""

call_dropped: Final = Signal(name="call_dropped", providing_args=["policy", "key", "task_id"])
"""Sent in the caller's process when a call does not get its own run. Sender: the task. Arguments: `policy`, `key`, and
the `task_id` of the call that runs instead."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a task, before its policy has decided."""

    task: Any
    publish_now: Publish
    args: Any
    kwargs: Any
    key: str
    task_id: str
    """The id that the call gets if it is published."""
    options: Mapping[str, Any]
    """The other options of `apply_async`."""

    def publish(self, **changes: Any) -> Any:
        """Publish the call as Celery does; return the result handle."""
        return self.publish_now(self.args, self.kwargs, **{"task_id": self.task_id, **self.options, **changes})

    def publish_undecided(self, error: object) -> Any:
        """Publish the call because its policy could not decide: running it twice is better than never."""
        say_undecided(self.task, self.task._resolve().calling, "is published", error)
        return self.publish()

    def dropped(self, policy: Any, task_id: str) -> Any:
        """Report that another call runs instead; return the result handle of that call.

        Raises:
            DuplicateCallError: the policy has `on_duplicate="raise"`.
        """
        counts.POLICY_OUTCOMES.add(type(policy).__name__, "dropped")
        call_dropped.send(sender=self.task, policy=policy, key=self.key, task_id=task_id)
        if getattr(policy, "on_duplicate", "return") == "raise" and task_id != self.task_id:
            raise DuplicateCallError(self.task.name, self.key, task_id)
        return self.task.AsyncResult(task_id)

    def headers(self, value: str) -> dict[str, Any]:
        """Return the call's own headers and those of the policy."""
        return {**(self.options.get("headers") or {}), CALL_HEADER: value, KEY_HEADER: self.key}

    def delay_seconds(self) -> float:
        """Return how long the message waits for its countdown or ETA; 0 if Celery will refuse the given value."""
        countdown = self.options.get("countdown")
        if countdown:
            return max(0.0, float(countdown)) if isinstance(countdown, numbers.Real) else 0.0
        return max(0.0, seconds_until(self.options.get("eta"), self.task.app) or 0.0)

    def life_seconds(self) -> float | None:
        """Return the seconds until the message expires; `None`: never."""
        expires = self.options.get("expires", self.task.expires)
        if isinstance(expires, numbers.Real):
            return max(0.0, float(expires))
        left = seconds_until(expires, self.task.app)
        return None if left is None else max(0.0, left)

    def claim_seconds(self, seconds: float) -> float:
        """Return how long a claim lasts: `seconds` plus the message's waiting time, but not beyond its expiry."""
        lasting, life = seconds + self.delay_seconds(), self.life_seconds()
        return lasting if life is None else min(lasting, life)


def seconds_until(moment: object, app: Any) -> float | None:
    """Return the seconds until a moment, which is read as Celery's workers read it; `None` if they cannot.

    Args:
        moment: a datetime (a naive one is in UTC) or its text in ISO 8601.
        app: the application.
    """
    if not isinstance(moment, (str, dt.datetime)):
        return None
    try:
        read: Any = maybe_iso8601(moment)
        left: dt.timedelta = maybe_make_aware(read, app.timezone) - app.now()
    except (ValueError, TypeError, OverflowError):
        return None
    return left.total_seconds()


@dataclass(frozen=True)
class Message:
    """A message as Redis stores it, and the list that it belongs to."""

    queue: str
    priority: int
    list: str
    """The key of the queue's list for this priority, without the application's prefix until it is `made`."""
    text: str


def made(call: Call, prefix: str, producer: Any, **changes: Any) -> tuple[Any, list[Message]]:
    """Make a call's messages without publishing them; return the result handle and the messages.

    Everything before the last step (routing, serialising, declaring, signals) is done as usual. There is one message
    for each queue that the call is routed to, or none if it had to be published at once (a fanout exchange, a queue
    that expires).
    """
    with captured(producer) as messages:
        result = call.publish(producer=producer, **changes)
    return result, [replace(it, list=prefix + it.list) for it in messages]


@contextlib.contextmanager
def captured(producer: Any) -> Iterator[list[Message]]:
    """Collect the messages that a producer would push; no other code may use its channel meanwhile."""
    messages: list[Message] = []
    channel = producer.channel

    def put(queue: str, message: Any, **options: Any) -> None:
        if queue in getattr(channel, "_expires", {}):
            type(channel)._put(channel, queue, message, **options)  # each message prolongs the life of such a queue
            return
        priority = channel._get_message_priority(message, reverse=False)
        messages.append(Message(queue, priority, channel._q_for_pri(queue, priority), dumps(message)))

    channel._put = put
    try:
        yield messages
    finally:
        del channel._put


def say_undecided(task: Any, policy: Any, what: str, error: object) -> None:
    """Log one warning for each call that was not decided."""
    counts.POLICY_OUTCOMES.add(type(policy).__name__, "undecided")
    logger.warning("policy of task %s cannot be decided, it %s: %s", task.name, what, error)


def milliseconds(seconds: float) -> int:
    """Convert seconds to milliseconds for the scripts; never 0, which means "none" to them."""
    return max(1, round(seconds * 1000))
