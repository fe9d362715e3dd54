"""Finds and clears the claims on a key by hand: `celeriac.find_claims` and `celeriac.clear_claims`."""

from __future__ import annotations

from typing import Any

from celeriac.policies import dispatch
from celeriac.policies.key import bounded, text_of
from celeriac.policies.kinds import exclusive
from celeriac.policies.standing import Standing
from celeriac.store import connections


def find_claims(task: Any, key: object = "") -> list[Standing]:
    """Return the calls that block other calls or runs of a key.

    Args:
        task: a task with a policy.
        key: the value of the parameter that the policy names, or the text of the filled template. Leave it out if the
            policy has no key.

    Raises:
        PolicyError: the policy does not fit the task, or the application has no Redis.
        kombu.exceptions.OperationalError, redis.exceptions.RedisError: Redis cannot be reached.
    """
    policies, text = task._resolve(), bounded(text_of(key))
    found = [] if policies.calling is None else dispatch.find(task, policies.calling, text)
    return found if policies.running is None else [*found, *exclusive.find(task, text)]


def clear_claims(task: Any, key: object = "") -> list[Standing]:
    """Free a key by hand: end a window, a claim of `Unique`, a run's claim of `Coalesce`, a lock of `Exclusive`.

    Messages stay in their queues and runs go on, but they do not block the next call or run of the key. A waiting call
    of `Debounce` or `Coalesce` exists only in Redis, so it is kept; revoke its result handle to discard it.

    Arguments and errors are those of `find_claims`.

    Returns:
        The claims that were ended.
    """
    ended = [it for it in find_claims(task, key) if it.name]
    client = connections.store(task.app).client
    for it in ended:
        client.delete(it.name)
    return ended
