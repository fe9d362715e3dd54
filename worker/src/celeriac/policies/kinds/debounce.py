"""`Debounce`: the last call of a burst runs, with its arguments, after a quiet time.

**How.** A message, the waker, publishes the burst. It is published with the burst's first call, in the same step that
records the burst, into the same queue, with an ETA one quiet time later. It calls a small task of this library that
every application with a debounced task has. Later calls only replace the burst's newest message in Redis. When the
waker is due, a worker asks Redis. If the burst is due, one step moves its newest message to the head of its queue and
deletes the burst. Otherwise the waker is published again for the rest of the time.

    call 1        call 2            waker comes up     waker comes up again
    0 s           0.8 s             1 s                1.8 s
    │ burst       │ burst's message │ due in 0.8 s:    │ due: message 2 → queue, burst forgotten
    │ + waker     │ replaced        │ published again  │ → runs with the arguments of call 2

**Promise.** From the moment that `apply_async` has returned, the last call's arguments are in Redis, and a message that
leads to them is in the broker or held under a lease: whichever process dies at any moment, the last call runs. It never
runs early. A worker that dies at the wrong moment may cause it to be published twice: in doubt twice rather than never.

**Limits.** The waker is a message like any other. It is late by what the queue is behind, by up to the lease when the
worker that held it was killed, and by the difference of the producer's and the worker's clocks (the decision itself is
by Redis' clock). If it was lost from outside (a purged queue), the next call of the key that comes `LATE_SECONDS` after
it was due sends another one. The runs of two bursts may overlap; `Exclusive` on the same task prevents that.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any, Final

import celery
from kombu.utils.uuid import uuid

from celeriac.policies import scripts, settling
from celeriac.policies.kinds import newest
from celeriac.policies.publishing import Call, Message, captured, milliseconds
from celeriac.policies.standing import Standing
from celeriac.policies.values import WAKER, Debounce
from celeriac.store import connections, keys
from celeriac.store.replies import text

LATE_SECONDS: Final = 10.0
"""If a waker is late by more than this, it counts as lost when the next call comes."""
SHORTEST_SECONDS: Final = 0.02
"""A waker that is early by less than this waits in its slot, because a trip through the queue would take as long."""

_registered: weakref.WeakSet[Any] = weakref.WeakSet()
_registering = threading.Lock()


def publish(call: Call, policy: Debounce) -> Any:
    """Make a call the newest of its burst; return the burst's result handle.

    Raises:
        PolicyError: the broker is not Redis.
        kombu.exceptions.OperationalError: the broker cannot be reached, as without a policy.
    """
    return newest.publish(call, policy, lambda prefix: _record(call, policy, prefix))


def _record(call: Call, policy: Debounce, prefix: str) -> newest.Record:
    app, token = call.task.app, uuid()
    name = keys.debounce(call.task.name, call.key, prefix=prefix)
    longest = 0 if policy.max_wait is None else milliseconds(policy.max_wait)

    def make_waker(message: Message, _: str, producer: Any) -> str:
        return _waker(app, producer, message, name, token, policy.seconds)

    def write(message: Message, burst: str, waker: str) -> Any:
        arguments = [burst, milliseconds(policy.seconds), longest, message.list, message.text]
        store = connections.store(app)
        arguments += [token, waker, milliseconds(LATE_SECONDS), call.task_id, store.revoked_prefix]
        return scripts.DEBOUNCE.run(store.client, [name, message.list], arguments)

    return newest.Record(
        name=name, changes={}, helper="waker", starts_with_helper=True, make_helper=make_waker, write=write
    )


def hold(call: Call, policy: Debounce) -> None:
    """Do nothing: a call that is published again is not part of a burst."""


def start(task: Any, policy: Debounce, key: str, mark: str) -> None:
    """Do nothing: the burst has ended before its message runs."""


def end(task: Any, policy: Debounce, key: str, *, is_over: bool) -> None:
    """Do nothing: a run has no claim that could end."""


def abandon(task: Any, key: str, request: Any, *, is_expired: bool) -> None:
    """Do nothing: when a worker drops the message, its burst has ended already."""


def find(task: Any, key: str) -> list[Standing]:
    """Return the burst that waits for its quiet time."""
    store = connections.store(task.app)
    name = keys.debounce(task.name, key, prefix=store.prefix)
    burst = store.client.hget(name, "id")
    if burst is None:
        return []
    left = max(0.0, store.client.pttl(name) / 1000 - keys.BURST_SECONDS)
    return [Standing(policy="Debounce", task_id=text(burst), phase="waiting", seconds=left)]


def _waker(app: Any, producer: Any, message: Message, burst: str, token: str, seconds: float) -> str:
    """Make a waker for the queue that a burst's message goes to."""
    register(app)
    options: dict[str, Any] = {"priority": message.priority} if message.priority else {}
    with captured(producer) as messages:
        app.tasks[WAKER].apply_async(
            (burst, token), task_id=token, countdown=seconds, queue=message.queue, producer=producer, **options
        )
    return messages[0].text


def register(app: Any) -> None:
    """Add the task that publishes bursts to an application; each waker is a call of it."""
    with _registering:
        if app in _registered:
            return
        _registered.add(app)
    # Always acknowledged late, whatever the application sets: until the waker has done its work, the burst needs it.
    options = {"acks_late": True, "reject_on_worker_lost": True, "ignore_result": True}
    app.task(base=celery.Task, bind=True, name=WAKER, shared=False, **options)(wake)


def wake(self: Any, burst: str, token: str) -> None:
    """Publish a burst if it is due, or publish the waker again; the body of the waker's task.

    Raises:
        celery.exceptions.Reject: Redis has not answered for a long time; the waker is given back.
    """
    left = settling.insist(self, lambda: _milliseconds_left(self.app, burst, token)) / 1000
    if 0 < left < SHORTEST_SECONDS:
        time.sleep(left)
        left = settling.insist(self, lambda: _milliseconds_left(self.app, burst, token)) / 1000
    if left > 0:
        settling.insist(self, lambda: settling.publish_again(self, left, {}))


def _milliseconds_left(app: Any, burst: str, token: str) -> int:
    """Publish a burst if it is due, else return the milliseconds until it is; not positive if the waker has no work."""
    return int(scripts.FIRE.run(connections.store(app).client, [burst], [token, milliseconds(LATE_SECONDS)]))
