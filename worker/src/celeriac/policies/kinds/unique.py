"""`Unique`: at most one call of each key waits in the queue or runs.

**Promise.** While a call has the claim, no other call of its key is published. A call never loses its claim to a call
that is published later. If the queue is longer than `claim_seconds`, a second message may be published, but only one of
the two runs. A run's claim is renewed until the run has ended, however long it takes.

**How a claim ends.** With `until="done"`, when its run ends (success, failure, `Ignore` or `Reject`; not a retry). With
`until="start"`, when its run starts. When a worker drops the message because it is revoked or expired. After
`RUN_SECONDS`, if its worker was killed; then the message is delivered again and runs under its claim again. After
`claim_seconds`, if the message has vanished (a purged queue, a plain worker without this library); calls during this
time are dropped although no run follows.

**Limits.** A run whose claim is lost continues, and another call may run beside it. This happens if Redis is away or
was restarted empty, or if the process was paused for longer than `RUN_SECONDS`. A call that is put back because another
one runs waits 1 to 30 s each time.
"""

from __future__ import annotations

from typing import Any, Final

from celeriac import counts
from celeriac.policies import claims, scripts, settling
from celeriac.policies.keeping import RUN_SECONDS, keeper
from celeriac.policies.publishing import FAILURES, Call, milliseconds
from celeriac.policies.standing import Standing
from celeriac.policies.values import Unique
from celeriac.store import connections, keys
from celeriac.store.replies import text

MARK: Final = "unique"
"""The header's value of a message that has, or had, the claim."""
IS_REVOKED: Final = -2
"""The script's reply if the call that starts was revoked and lost its claim to a later call."""


def publish(call: Call, policy: Unique) -> Any:
    """Publish a call if no other call has the claim; return the result handle of the call that has it."""
    try:
        name = _claim(call.task, call.key)
        revoked = connections.store(call.task.app).revoked_prefix
    except FAILURES as error:
        return call.publish_undecided(error)
    claim = claims.Claim(
        name=name,
        phase="q:",
        seconds=call.claim_seconds(policy.claim_seconds),
        queued=keys.queued(name),
        revoked=revoked,
        changes={"headers": call.headers(MARK)},
    )
    return claims.publish(call, policy, claim)


def hold(call: Call, policy: Unique) -> None:
    """Keep the claim for a call that is published again under its own id."""
    _keep_waiting(call.task, _claim(call.task, call.key), call.task_id, call.claim_seconds(policy.claim_seconds))


def start(task: Any, policy: Unique, key: str, mark: str) -> None:
    """Start a run under its claim.

    Raises:
        celery.exceptions.Ignore: the call does not run now, or does not need to run.
    """
    if mark != MARK:
        return
    store, name = connections.store(task.app), _claim(task, key)
    task_id = task.request.id
    is_until_done = policy.until == "done"
    lasting = milliseconds(RUN_SECONDS) if is_until_done else 0
    arguments = [task_id, lasting, store.revoked_prefix]
    answer = scripts.UNIQUE_START.run(store.client, [name, keys.covered(name), keys.queued(name)], arguments)
    if answer < 0:
        counts.POLICY_OUTCOMES.add("Unique", "skipped")
        why = "it is revoked" if answer == IS_REVOKED else "another call has run in its place"
        settling.skip(task, f"{why}: {task.name} with key {key!r}")
    if answer > 0:
        counts.POLICY_OUTCOMES.add("Unique", "put_back")
        settling.put_back(task, f"another run with key {key!r} is under way")
    if is_until_done:
        keeper.keep(store.client, name, f"r:{task_id}")


def end(task: Any, policy: Unique, key: str, *, is_over: bool) -> None:
    """End a run. If the run is not over (the task rejected it with requeue), its message waits again."""
    name, value = _claim(task, key), f"r:{task.request.id}"
    keeper.drop(name, value)
    if is_over and policy.until == "start":
        return
    if is_over:
        scripts.FORGET.run(connections.store(task.app).client, [name], [value])
    else:
        _keep_waiting(task, name, task.request.id, policy.claim_seconds)


def abandon(task: Any, key: str, request: Any, *, is_expired: bool) -> None:  # noqa: ARG001 - as every policy's
    """Release the claim of a message that a worker has dropped."""
    name = _claim(task, key)
    keeper.drop(name, f"r:{request.id}")
    client = connections.store(task.app).client
    scripts.UNIQUE_ABANDON.run(client, [name, keys.covered(name), keys.queued(name)], [request.id])


def _keep_waiting(task: Any, name: str, task_id: str, seconds: float) -> None:
    keeper.drop(name, f"r:{task_id}")
    values = [f"q:{task_id}", f"r:{task_id}"]
    client = connections.store(task.app).client
    scripts.HOLD.run(client, [name], [values[0], milliseconds(seconds), *values])


def _claim(task: Any, key: str) -> str:
    return keys.unique(task.name, key, prefix=connections.store(task.app).prefix)


def find(task: Any, key: str) -> list[Standing]:
    """Return the call that has the claim."""
    store, name = connections.store(task.app), _claim(task, key)
    value = text(store.client.get(name) or "")
    if not value:
        return []
    return [Standing.of("Unique", store, name, value[2:], "running" if value.startswith("r:") else "waiting")]
