"""`Coalesce`: at most one call runs and one waits, with the newest arguments.

**How.** The waiting call is recorded in Redis with its newest message, and a ticket for it is in the broker. The ticket
is the first message itself if no call runs, or a guard (a message with an ETA) while a call runs. A worker that takes a
ticket whose message was replaced publishes the newest message at the head of its queue. When a run ends, the same step
publishes the waiting call at once, and the guard has nothing left to do.

    call 1      call 2             call 3            run 1 ends                  guard comes up
    │ published │ waits            │ replaces 2      │ 3 published, runs next    │ nothing to do
    │ run 1 ────│ + guard          │                 │

**Promise.** The newest call runs, after every run that began before it was made: its message, or the ticket that leads
to it, is in the broker or held under a lease from the moment that `apply_async` has returned. If the worker of run 1 is
killed, run 1 is delivered again and call 3 waits for it; if that never ends (it was not acknowledged late), the guard
publishes call 3 within `RUN_SECONDS` of the death and its own ETA.

**Limits.** A run that lost its claim (its process paused for longer than `RUN_SECONDS`, Redis restarted empty) goes on
and a second may begin. A waiting message that was lost from outside (a purged queue) is published anew by the first
call after `claim_seconds`. Messages published past the policy (in a group, by name) are not counted.
"""

from __future__ import annotations

from typing import Any, Final

from kombu.utils.uuid import uuid

from celeriac.policies import scripts, settling
from celeriac.policies.keeping import RUN_SECONDS, keeper
from celeriac.policies.kinds import newest
from celeriac.policies.publishing import Call, Message, made, milliseconds
from celeriac.policies.standing import Standing
from celeriac.policies.values import CALL_HEADER, Coalesce
from celeriac.store import connections, keys
from celeriac.store.replies import text

MARK: Final = "coalesce:"
"""The header of a call starts with this; its token follows."""
GUARD: Final = "guard:"
"""The header of a guard starts with this; its token follows."""


def publish(call: Call, policy: Coalesce) -> Any:
    """Publish a call, or make it the waiting one; return the result handle of the call that runs for it.

    Raises:
        PolicyError: the broker is not Redis.
        kombu.exceptions.OperationalError: the broker cannot be reached, as without a policy.
    """
    return newest.publish(call, policy, lambda prefix: _record(call, policy, prefix))


def _record(call: Call, policy: Coalesce, prefix: str) -> newest.Record:
    mark, guard_mark = MARK + uuid(), GUARD + uuid()
    name = keys.coalesce(call.task.name, call.key, prefix=prefix)
    patience = call.claim_seconds(policy.claim_seconds)
    life = call.life_seconds()

    def make_guard(_: Message, waiter: str, producer: Any) -> str:
        headers = call.headers(guard_mark)
        changes = {"countdown": RUN_SECONDS, "eta": None, "expires": None, "headers": headers}
        _, [message] = made(call, prefix, producer, task_id=waiter, **changes)
        return message.text

    def write(message: Message, waiter: str, guard: str) -> Any:
        arguments = [waiter, mark, message.text, milliseconds(patience), guard_mark, guard]
        store = connections.store(call.task.app)
        arguments += [milliseconds(policy.claim_seconds + RUN_SECONDS), call.task_id]
        arguments += [0 if life is None else milliseconds(life), store.revoked_prefix]
        return scripts.COALESCE.run(store.client, [name, keys.running(name), message.list], arguments)

    return newest.Record(
        name=name,
        changes={"headers": call.headers(mark)},
        helper="guard",
        starts_with_helper=False,
        make_helper=make_guard,
        write=write,
    )


def hold(call: Call, policy: Coalesce) -> None:
    """Keep the claim of a run that is published again under its own id. Do nothing for a call that has not started."""
    if not getattr(call.task.request, "celeriac_begun", False):
        return
    running = keys.running(_waiting(call.task, call.key))
    _keep_running(call.task, running, _run_of(call.task.request), call.claim_seconds(policy.claim_seconds))


def start(task: Any, policy: Coalesce, key: str, mark: str) -> None:  # noqa: ARG001 - as every policy's
    """Begin a run, or do the work of a ticket or a guard.

    Raises:
        celery.exceptions.Ignore: this message does not run a task, or not now.
        celery.exceptions.Reject: Redis has not answered for a long time.
    """
    if not mark.startswith((MARK, GUARD)):
        return
    # The message may lead to a newer call that exists only in Redis, so it must ask Redis before it runs.
    answer = settling.insist(task, lambda: _asked(task, key, mark))
    if not isinstance(answer, int):
        # The current run publishes the waiting call; this message is delivered again only in case that run cannot.
        what, _, left = text(answer).partition(" ")
        again = {CALL_HEADER: GUARD + mark.partition(":")[2] if what == "guard" else mark}
        settling.insist(task, lambda: settling.publish_again(task, int(left) / 1000, again))
    if answer != 0:
        settling.drop("another message runs in its place")
    store = connections.store(task.app)
    keeper.keep(store.client, keys.running(_waiting(task, key)), _run_of(task.request))


def _asked(task: Any, key: str, mark: str) -> Any:
    store, waiting = connections.store(task.app), _waiting(task, key)
    arguments = [_run_of(task.request), mark, milliseconds(RUN_SECONDS)]
    return scripts.COALESCE_START.run(store.client, [waiting, keys.running(waiting)], arguments)


def end(task: Any, policy: Coalesce, key: str, *, is_over: bool) -> None:
    """End a run and publish the waiting call, unless the run's own message will be delivered again."""
    waiting = _waiting(task, key)
    running, run = keys.running(waiting), _run_of(task.request)
    keeper.drop(running, run)
    if is_over:
        scripts.COALESCE_END.run(connections.store(task.app).client, [waiting, running], [run])
    else:
        _keep_running(task, running, run, policy.claim_seconds)


def abandon(task: Any, key: str, request: Any, *, is_expired: bool) -> None:
    """Remove the waiting call, or end the run, whose message was revoked."""
    waiting, run = _waiting(task, key), _run_of(request)
    keeper.drop(keys.running(waiting), run)
    arguments = [run, _mark_of(request), request.id, "1" if is_expired else ""]
    scripts.COALESCE_ABANDON.run(connections.store(task.app).client, [waiting, keys.running(waiting)], arguments)


def find(task: Any, key: str) -> list[Standing]:
    """Return the running call and the waiting call."""
    store, waiting = connections.store(task.app), _waiting(task, key)
    running = keys.running(waiting)
    run, waits = store.client.get(running), store.client.hget(waiting, "id")
    found = []
    if run is not None:
        found.append(Standing.of("Coalesce", store, running, text(run).partition(" ")[2], "running"))
    if waits is not None:
        found.append(Standing(policy="Coalesce", task_id=text(waits), phase="waiting", seconds=None))
    return found


def _keep_running(task: Any, running: str, run: str, seconds: float) -> None:
    keeper.drop(running, run)
    scripts.HOLD.run(connections.store(task.app).client, [running], [run, milliseconds(seconds), run])


def _run_of(request: Any) -> str:
    """Return the value of a run's claim: the mark of its message, and its id."""
    return f"{_mark_of(request)} {request.id}"


def _mark_of(request: Any) -> str:
    return str((request.headers or {}).get(CALL_HEADER) or "")


def _waiting(task: Any, key: str) -> str:
    return keys.coalesce(task.name, key, prefix=connections.store(task.app).prefix)
