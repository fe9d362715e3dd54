"""How does a policy publish a message, or see to it that it could be?

On a Redis broker a policy's script writes its decision and the message in one step. So the message is made here as
Celery and kombu make it, up to the last step, and handed to the script instead of to Redis.
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
"""What Celeriac's own calls may fail with; none of it may fail a task."""

ATTEMPTS: Final = 20
"""How often a call is decided anew because another one changed the state in between; then it is published."""

Publish = Callable[..., Any]
"""Celery's own `apply_async`, bound to the task."""

call_dropped: Final = Signal(name="call_dropped", providing_args=["policy", "key", "task_id"])
"""Sent to the caller's process when a call leads to no run of its own. Sender: the task; `policy`, `key`, and `task_id`
of the call that runs instead."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a task, on its way to be decided."""

    task: Any
    publish_now: Publish
    args: Any
    kwargs: Any
    key: str
    task_id: str
    """The id that it gets if it is published as a call of its own."""
    options: Mapping[str, Any]
    """What else was given to `apply_async`."""

    def publish(self, **changes: Any) -> Any:
        """Publish it as Celery does; the result handle."""
        return self.publish_now(self.args, self.kwargs, **{"task_id": self.task_id, **self.options, **changes})

    def publish_undecided(self, error: object) -> Any:
        """Publish it because its policy cannot be asked: in doubt it runs twice rather than never."""
        say_undecided(self.task, self.task._resolve().calling, "is published", error)
        return self.publish()

    def dropped(self, policy: Any, task_id: str) -> Any:
        """Say that another call runs instead; that one's result handle.

        Raises:
            DuplicateCallError: the policy asks for it.
        """
        counts.POLICY_OUTCOMES.add(type(policy).__name__, "dropped")
        call_dropped.send(sender=self.task, policy=policy, key=self.key, task_id=task_id)
        if getattr(policy, "on_duplicate", "return") == "raise" and task_id != self.task_id:
            raise DuplicateCallError(self.task.name, self.key, task_id)
        return self.task.AsyncResult(task_id)

    def headers(self, value: str) -> dict[str, Any]:
        """The call's own headers and the policy's."""
        return {**(self.options.get("headers") or {}), CALL_HEADER: value, KEY_HEADER: self.key}

    def delay_seconds(self) -> float:
        """How long its message waits for its countdown or ETA; 0 where Celery will refuse what was given."""
        countdown = self.options.get("countdown")
        if countdown:
            return max(0.0, float(countdown)) if isinstance(countdown, numbers.Real) else 0.0
        return max(0.0, seconds_until(self.options.get("eta"), self.task.app) or 0.0)

    def life_seconds(self) -> float | None:
        """How long it is until its message expires; `None`: never."""
        expires = self.options.get("expires", self.task.expires)
        if isinstance(expires, numbers.Real):
            return max(0.0, float(expires))
        left = seconds_until(expires, self.task.app)
        return None if left is None else max(0.0, left)

    def claim_seconds(self, seconds: float) -> float:
        """How long a claim of `seconds` stands: as much longer as its message waits, but not after that expired."""
        lasting, life = seconds + self.delay_seconds(), self.life_seconds()
        return lasting if life is None else min(lasting, life)


def seconds_until(moment: object, app: Any) -> float | None:
    """How long it is until a moment as Celery writes it, read as its workers do; `None` where they cannot.

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
    """A message as it stands in Redis, and where it belongs."""

    queue: str
    priority: int
    list: str
    """The key of the queue's list for this priority, without the application's prefix until it is `made`."""
    text: str


def made(call: Call, prefix: str, producer: Any, **changes: Any) -> tuple[Any, list[Message]]:
    """Make a call's messages without publishing them; also its result handle.

    Everything before that last step (routing, serialising, declaring, signals) is done as always. One message for each
    queue that it is routed to; none when it had to be published (a fanout exchange, a queue that expires).
    """
    with captured(producer) as messages:
        result = call.publish(producer=producer, **changes)
    return result, [replace(it, list=prefix + it.list) for it in messages]


@contextlib.contextmanager
def captured(producer: Any) -> Iterator[list[Message]]:
    """Collect the messages that a producer would push; its channel is nobody else's meanwhile."""
    messages: list[Message] = []
    channel = producer.channel

    def put(queue: str, message: Any, **options: Any) -> None:
        if queue in getattr(channel, "_expires", {}):
            type(channel)._put(channel, queue, message, **options)  # such a queue lives longer with each message
            return
        priority = channel._get_message_priority(message, reverse=False)
        messages.append(Message(queue, priority, channel._q_for_pri(queue, priority), dumps(message)))

    channel._put = put
    try:
        yield messages
    finally:
        del channel._put


def say_undecided(task: Any, policy: Any, what: str, error: object) -> None:
    """One warning for each call that is not decided."""
    counts.POLICY_OUTCOMES.add(type(policy).__name__, "undecided")
    logger.warning("policy of task %s cannot be decided, it %s: %s", task.name, what, error)


def milliseconds(seconds: float) -> int:
    """For scripts; never 0, which they take for "none"."""
    return max(1, round(seconds * 1000))
