"""How is a call published if nobody else has its claim? What `Throttle` and `Unique` have in common.

**Promise.** On a Redis broker the claim and the message are written in one step, so a crash leaves both or none.
**Limits.** With another broker they are two steps: a process that dies between them takes its call with it, and calls
of the same key are dropped for at most `CLAIM_SECONDS` after that.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

from celeriac.locks import scripts as lock_scripts
from celeriac.policies import scripts as policy_scripts
from celeriac.policies.publishing import FAILURES, Call, made, milliseconds
from celeriac.store import connections
from celeriac.store.replies import text

CLAIM_SECONDS: Final = 10.0
"""How long a claim without its message lasts, where the two are two steps."""


def publish(call: Call, policy: Any, name: str, value: str, seconds: float, **changes: Any) -> Any:
    """Publish a call if its claim is free; the result handle of the call that has it.

    Args:
        call: the call.
        policy: its policy.
        name: the claim's key.
        value: what the claim holds: anything that ends with the id of the call.
        seconds: how long the claim stands.
        changes: options of the message that are the policy's.

    Raises:
        kombu.exceptions.OperationalError: the broker cannot be reached, as without a policy.
    """
    lead = len(value) - len(call.task_id)
    store = connections.store(call.task.app)
    try:
        # Most calls are decided by this question; the others by the script.
        first = store.client.get(name)
    except FAILURES as error:
        return call.publish_undecided(error)
    if first is not None:
        return call.dropped(policy, text(first)[lead:])
    publish_this = _in_one_step if store.is_broker else _in_two_steps
    winner, result = publish_this(call, store, name, value, seconds, changes)
    return result if winner is None or winner == value else call.dropped(policy, winner[lead:])


def _in_one_step(
    call: Call, store: Any, name: str, value: str, seconds: float, changes: dict[str, Any]
) -> tuple[str | None, Any]:
    producer = call.options.get("producer")
    with call.task.app.producer_or_acquire(producer) as producer:
        result, messages = made(call, store.prefix, producer, **changes)
        if not messages:
            return None, result
        names, texts = [it.list for it in messages], [it.text for it in messages]
        try:
            winner = policy_scripts.CLAIM.run(store.client, [name, *names], [value, milliseconds(seconds), *texts])
        except FAILURES as error:
            return None, call.publish_undecided(error)
        return text(winner), result


def _in_two_steps(
    call: Call, store: Any, name: str, value: str, seconds: float, changes: dict[str, Any]
) -> tuple[str | None, Any]:
    claimed = milliseconds(min(seconds, CLAIM_SECONDS))
    try:
        winner = text(policy_scripts.CLAIM.run(store.client, [name], [value, claimed]))
    except FAILURES as error:
        return None, call.publish_undecided(error)
    if winner != value:
        return winner, None
    try:
        result = call.publish(**changes)
    except BaseException:
        with contextlib.suppress(*FAILURES):
            policy_scripts.FORGET.run(store.client, [name], [value])
        raise
    with contextlib.suppress(*FAILURES):
        lock_scripts.EXTEND.run(store.client, [name], [value, milliseconds(seconds), "set"])
    return winner, result
