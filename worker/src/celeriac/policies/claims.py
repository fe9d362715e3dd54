"""Publishes a call if no other call has its claim; shared by `Throttle` and `Unique`.

**Promise.** On a Redis broker the claim and the message are written in one step, so a crash leaves both or neither.
**Limits.** With another broker these are two steps. If the process dies between them, its call is lost, and calls of
the same key are dropped for at most `CLAIM_SECONDS` after that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from celeriac.locks import scripts as lock_scripts
from celeriac.policies import scripts
from celeriac.policies.publishing import FAILURES, Call, Message, made, milliseconds
from celeriac.store import connections, replies

CLAIM_SECONDS: Final = 10.0
"""How long a claim without its message lasts if the two are written in separate steps."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim that a call requests."""

    name: str
    """The claim's key in Redis."""
    phase: str = ""
    """The prefix of the claim's value; the call's id follows."""
    seconds: float
    """How long the claim lasts."""
    prolongs: bool = False
    """Whether a call that does not get the claim extends it to `seconds` from now."""
    queued: str = ""
    """The key of a set to which the call's id is added when it is published; empty: none."""
    revoked: str = ""
    """The prefix of the keys of revoked calls; empty: do not check whether the claim's owner is revoked."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Options that the policy adds to the message."""


def publish(call: Call, policy: Any, claim: Claim) -> Any:
    """Publish a call if its claim is free; return the result handle of the call that has the claim.
    Raises:
        kombu.exceptions.OperationalError: the broker cannot be reached, as without a policy.
    """
    value = claim.phase + call.task_id
    store = connections.store(call.task.app)
    prolonged = milliseconds(claim.seconds) if claim.prolongs else 0
    try:
        # This request decides most calls; the script decides the others.
        first = scripts.LOOK.run(store.client, [claim.name], [prolonged, claim.revoked])
    except FAILURES as error:
        return call.publish_undecided(error)
    if first is not None:
        return call.dropped(policy, replies.text(first)[len(claim.phase) :])
    publish_this = _in_one_step if store.is_broker else _in_two_steps
    winner, result = publish_this(call, store, claim, value)
    return result if winner is None or winner == value else call.dropped(policy, winner[len(claim.phase) :])


def _in_one_step(call: Call, store: Any, claim: Claim, value: str) -> tuple[str | None, Any]:
    producer = call.options.get("producer")
    with call.task.app.producer_or_acquire(producer) as producer:
        result, messages = made(call, store.prefix, producer, **claim.changes)
        if not messages:
            return None, result
        try:
            return _claim(call, store, claim, value, claim.seconds, messages), result
        except FAILURES as error:
            return None, call.publish_undecided(error)


def _in_two_steps(call: Call, store: Any, claim: Claim, value: str) -> tuple[str | None, Any]:
    try:
        winner = _claim(call, store, claim, value, min(claim.seconds, CLAIM_SECONDS), [])
    except FAILURES as error:
        return None, call.publish_undecided(error)
    if winner != value:
        return winner, None
    try:
        result = call.publish(**claim.changes)
    except BaseException:
        with contextlib.suppress(*FAILURES):
            scripts.FORGET.run(store.client, [claim.name], [value])
        raise
    with contextlib.suppress(*FAILURES):
        lock_scripts.EXTEND.run(store.client, [claim.name], [value, milliseconds(claim.seconds), "set"])
    return winner, result


def _claim(call: Call, store: Any, claim: Claim, value: str, seconds: float, messages: list[Message]) -> str:
    """Request the claim; return its current value."""
    names = [claim.name, claim.queued or claim.name, *(it.list for it in messages)]
    arguments = [value, milliseconds(seconds), call.task_id if claim.queued else "", claim.revoked]
    arguments += [it.text for it in messages]
    return replies.text(scripts.CLAIM.run(store.client, names, arguments))
