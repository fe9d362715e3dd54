"""Who has a key, how long, and how is it freed by hand? `celeriac.find_claims` and `celeriac.clear_claims`."""

from __future__ import annotations

from typing import Any

from celeriac.policies import dispatch
from celeriac.policies.key import bounded, text_of
from celeriac.policies.kinds import exclusive
from celeriac.policies.standing import Standing
from celeriac.store import connections


def find_claims(task: Any, key: object = "") -> list[Standing]:
    """Return the calls that hold back other calls or runs of a key.

    Args:
        task: a task with a policy.
        key: the key: the value of the parameter that the policy names, or the text of a template that is filled.
            Leave it out where the policy has no key.

    Raises:
        PolicyError: the policy does not fit the task, or the application has no Redis.
        kombu.exceptions.OperationalError, redis.exceptions.RedisError: Redis cannot be reached.
    """
    policies, text = task._resolve(), bounded(text_of(key))
    found = [] if policies.calling is None else dispatch.find(task, policies.calling, text)
    return found if policies.running is None else [*found, *exclusive.find(task, text)]


def clear_claims(task: Any, key: object = "") -> list[Standing]:
    """Free a key by hand: end a window, a claim of `Unique`, a run's claim of `Coalesce`, a lock of `Exclusive`.

    Messages stay where they are, and runs go on; the next call or run of the key is not held back by them. A call of
    `Debounce` or `Coalesce` that waits is in Redis alone, so it is left; revoke its result handle to discard it.

    Returns:
        What was ended. Takes the arguments of `find_claims`, and raises what that raises.
    """
    ended = [it for it in find_claims(task, key) if it.name]
    client = connections.store(task.app).client
    for it in ended:
        client.delete(it.name)
    return ended
