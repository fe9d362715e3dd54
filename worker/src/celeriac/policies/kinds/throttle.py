"""`Throttle`: the first call in a window runs.

The claim is the window. It starts with the first call, and nothing ends it early, whatever happens to the task. With
`extend`, each dropped call restarts it.
"""

from __future__ import annotations

from typing import Any

from celeriac.policies import claims
from celeriac.policies.publishing import FAILURES, Call
from celeriac.policies.standing import Standing
from celeriac.policies.values import Throttle
from celeriac.store import connections, keys
from celeriac.store.replies import text


def publish(call: Call, policy: Throttle) -> Any:
    """Publish a call if it is the first of its window; return the result handle of the first call."""
    try:
        prefix = connections.store(call.task.app).prefix
    except FAILURES as error:
        return call.publish_undecided(error)
    name = keys.throttle(call.task.name, call.key, prefix=prefix)
    return claims.publish(call, policy, claims.Claim(name=name, seconds=policy.seconds, prolongs=policy.extend))


def hold(call: Call, policy: Throttle) -> None:
    """Do nothing: a call that is published again does not extend its window."""


def start(task: Any, policy: Throttle, key: str, mark: str) -> None:
    """Do nothing: a run has no claim."""


def end(task: Any, policy: Throttle, key: str, *, is_over: bool) -> None:
    """Do nothing: a run has no claim that could end."""


def abandon(task: Any, key: str, request: Any, *, is_expired: bool) -> None:
    """Do nothing: the window stays, even if the message of its call is dropped."""


def find(task: Any, key: str) -> list[Standing]:
    """Return the window while it is open."""
    store = connections.store(task.app)
    name = keys.throttle(task.name, key, prefix=store.prefix)
    value = store.client.get(name)
    return [] if value is None else [Standing.of("Throttle", store, name, text(value), "window")]
