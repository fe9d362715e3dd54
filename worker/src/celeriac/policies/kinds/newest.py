"""Records a call in Redis as the newest of its key; shared by `Debounce` and `Coalesce`.

Redis keeps one record for each key: the id of the call that the record stands for, and the newest message. One script
writes a call into the record. A second message (the helper) leads a worker to the record later; the script asks for it
only when none is on its way, so most calls make one message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from celeriac.exceptions import PolicyError
from celeriac.policies.publishing import ATTEMPTS, FAILURES, Call, Message, made
from celeriac.store import connections
from celeriac.store.replies import text

WRITTEN: Final = 1
"""The script's reply if the call is now the newest. Otherwise a text: what the script needs, and the record's id."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """The data that one policy records for one call."""

    name: str
    """The name of the record's key."""
    changes: dict[str, Any]
    """Options of the newest message that the policy sets."""
    helper: str
    """The script's reply when it needs the helper."""
    starts_with_helper: bool
    """Whether the first call of a key makes the helper before the script asks for it."""
    make_helper: Callable[[Message, str, Any], str]
    """Makes the helper, given the newest message, the record's id and a producer."""
    write: Callable[[Message, str, str], Any]
    """Runs the script, given the newest message, the record's id and the helper, which may be empty."""


def publish(call: Call, policy: Any, describe: Callable[[str], Record]) -> Any:
    """Record a call as the newest of its key; return the result handle of the call in the record.

    Args:
        call: the call.
        policy: its policy.
        describe: given the prefix of all keys, returns the record to write.

    Raises:
        PolicyError: the broker is not Redis.
        kombu.exceptions.OperationalError: the broker cannot be reached, as without a policy.
    """
    try:
        store = connections.store(call.task.app)
        _must_be_broker(store, policy, call.task)
        record = describe(store.prefix)
        found = store.client.hget(record.name, "id")
        with call.task.app.producer_or_acquire(call.options.get("producer")) as producer:
            return _write(call, policy, record, store.prefix, call.task_id if found is None else text(found), producer)
    except FAILURES as error:
        return call.publish_undecided(error)


def _write(call: Call, policy: Any, record: Record, prefix: str, owner: str, producer: Any) -> Any:
    helper = ""
    needs_helper = record.starts_with_helper and owner == call.task_id
    for _ in range(ATTEMPTS):
        result, messages = made(call, prefix, producer, task_id=owner, **record.changes)
        if len(messages) != 1:
            break
        newest = messages[0]
        if needs_helper:
            helper = record.make_helper(newest, owner, producer)
        answer = record.write(newest, owner, helper)
        if answer == WRITTEN:
            return result if owner == call.task_id else call.dropped(policy, owner)
        what, _, other = text(answer).partition(" ")
        needs_helper, helper, owner = what == record.helper, "", other or owner
    else:
        return call.publish_undecided(f"it was overtaken {ATTEMPTS} times")
    if messages:
        return call.publish_undecided("it goes to several queues")
    return result  # a fanout exchange: the message is published already


def _must_be_broker(store: connections.Store, policy: object, task: Any) -> None:
    """Refuse a policy whose messages and decisions are not in the same Redis."""
    if not store.is_broker:
        raise PolicyError(
            f"{type(policy).__name__} of task {task.name} needs Redis as the broker: what waits and its message are "
            "written in one step. Throttle, Unique and Exclusive work with any broker"
        )
