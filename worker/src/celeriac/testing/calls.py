"""Calls of an application's tasks, decided, queued and run inside a test."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from unittest import mock

import celery
from celery import signals, states
from celery.app.task import Context
from celery.app.trace import build_tracer
from celery.backends.cache import CacheBackend
from celery.utils.time import maybe_iso8601, maybe_make_aware
from kombu import Connection, Producer
from kombu.transport import memory, virtual
from kombu.utils.json import dumps
from kombu.utils.uuid import uuid

from celeriac.policies import revoking
from celeriac.policies import values as policy_values
from celeriac.policies.kinds import exclusive
from celeriac.policies.publishing import call_dropped
from celeriac.policies.settling import Errand
from celeriac.store import connections
from celeriac.testing.clock import Clock, RealClock
from celeriac.testing.model import ModelRedis

PRIORITY_SEPARATOR: Final = "\x06\x16"
"""kombu's separator: each priority except 0 has a list of its own."""

TICK_SECONDS: Final = 0.001
"""Times that differ by less count as equal: ETAs are written in microseconds, and Redis counts in milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Queued:
    """A call that waits for a worker."""

    task: str
    task_id: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    queue: str
    eta: float | None
    """When it may run at the earliest, seconds since the epoch."""


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A call that did not get its own run."""

    task: str
    key: str
    policy: policy_values.Policy
    task_id: str
    """The call that runs instead."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A delivery that ran its task or was discarded."""

    task: str
    task_id: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    state: str
    """Celery's: `SUCCESS`, `FAILURE`, `RETRY`, `REVOKED`, `IGNORED`, `REJECTED`."""
    result: Any


@dataclass
class Calls:
    """What happened to the calls of an application since the block began."""

    app: Any
    clock: Clock
    client: Any
    prefix: str = ""
    dropped: list[Dropped] = field(default_factory=list)
    """In the order of the calls."""
    ran: list[Ran] = field(default_factory=list)
    """In the order of the runs."""
    _lists: dict[str, None] = field(default_factory=dict)
    _delayed: list[tuple[float, str, str]] = field(default_factory=list)
    _revoked: set[str] = field(default_factory=set)
    _tracers: dict[str, Any] = field(default_factory=dict)

    def queued(self) -> list[Queued]:
        """The calls that wait now, in the order in which they would be taken."""
        found = [(name, it) for name in self._by_priority() for it in reversed(self.client.lrange(name, 0, -1))]
        found += [(name, it) for _, name, it in self._delayed]
        messages = [(name, _message(it)) for name, it in found]
        return [self._queued(name, it) for name, it in messages if not _is_errand(it)]

    def due(self) -> list[float]:
        """Return when each message that waits for its ETA is due, in seconds since the epoch."""
        return sorted(at for at, _, _ in self._delayed)

    def run(self) -> list[Ran]:
        """Run all calls that may run now, and the calls that these publish; return the deliveries that ran."""
        before = len(self.ran)
        while True:
            taken = self._take()
            if taken is None:
                return self.ran[before:]
            self._deliver(*taken)

    def advance(self, seconds: float) -> list[Ran]:
        """Move the clock and run the calls that become due meanwhile; return the deliveries that ran."""
        before, end = len(self.ran), self.clock.now + seconds
        while True:
            self.run()
            due = min((at for at, _, _ in self._delayed), default=end)
            if due >= end - TICK_SECONDS:
                break
            self.clock.advance(max(0.0, due - self.clock.now))
        self.clock.advance(max(0.0, end - self.clock.now))
        self.run()
        return self.ran[before:]

    def revoke(self, task_id: str) -> None:
        """From now on, treat messages with this id as a worker treats revoked ones."""
        self._revoked.add(task_id)
        revoking.write(self.app, [task_id])

    # --- steps

    def put(self, name: str, message: str) -> None:
        """Queue a message, as a producer does when no policy has dropped the call."""
        self.know(name)
        self.client.lpush(self.prefix + name, message)

    def know(self, name: str) -> None:
        """Look for messages in this list, too."""
        self._lists.setdefault(name)

    def _by_priority(self) -> list[str]:
        """The lists in the order in which kombu takes from them: the lowest priority number first."""
        ordered = sorted(self._lists, key=lambda name: int(name.partition(PRIORITY_SEPARATOR)[2] or 0))
        return [self.prefix + name for name in ordered]

    def _take(self) -> tuple[str, str] | None:
        now = self.clock.now
        for at, name, message in sorted(self._delayed):
            if at <= now + TICK_SECONDS:
                self._delayed.remove((at, name, message))
                return name, message
        for name in self._by_priority():
            message = self.client.rpop(name)
            if message is not None:
                return name, message if isinstance(message, str) else message.decode()
        return None

    def _deliver(self, name: str, raw: str) -> None:
        message = _message(raw)
        headers = message.headers
        eta, expires = _seconds(headers.get("eta")), _seconds(headers.get("expires"))
        is_expired = expires is not None and expires <= self.clock.now
        if (
            not is_expired
            and headers["id"] not in self._revoked
            and eta is not None
            and eta > self.clock.now + TICK_SECONDS
        ):
            self._delayed.append((eta, name, raw))
            return
        args, kwargs, embed = message.decode()
        task = self.app.tasks[headers["task"]]
        request = {
            **headers,
            **embed,
            "args": args,
            "kwargs": kwargs,
            "hostname": "testing",
            "is_eager": False,
            "delivery_info": message.delivery_info,
            "reply_to": message.properties.get("reply_to"),
            "correlation_id": message.properties.get("correlation_id"),
        }
        if is_expired or headers["id"] in self._revoked:
            state, result = self._revoke(task, request, is_expired)
        else:
            state, result = self._run(task, args, kwargs, request)
        if state == states.REJECTED and getattr(result, "requeue", False):
            self.client.lpush(name, raw)
        if not isinstance(result, Errand) and not _is_errand(message):
            ran = Ran(
                task=task.name, task_id=headers["id"], args=tuple(args), kwargs=kwargs, state=state, result=result
            )
            self.ran.append(ran)

    def _run(self, task: Any, args: Any, kwargs: Any, request: dict[str, Any]) -> tuple[str, Any]:
        tracer = self._tracers.get(task.name)
        if tracer is None:
            tracer = self._tracers[task.name] = build_tracer(task.name, task, self.app.loader, "testing", app=self.app)
        retval, info, *_ = tracer(request["id"], args, kwargs, request)
        return (states.SUCCESS, retval) if info is None else (info.state, info.retval)

    def _revoke(self, task: Any, request: dict[str, Any], is_expired: bool) -> tuple[str, Any]:
        reason = "expired" if is_expired else "revoked"
        context = Context(request)
        task.backend.mark_as_revoked(context.id, reason, request=context)
        signals.task_revoked.send(task, request=context, terminated=False, signum=None, expired=is_expired)
        return states.REVOKED, reason

    def _queued(self, name: str, message: Any) -> Queued:
        args, kwargs, _ = message.decode()
        headers = message.headers
        queue = name.removeprefix(self.prefix).partition(PRIORITY_SEPARATOR)[0]
        return Queued(
            task=headers["task"],
            task_id=headers["id"],
            args=tuple(args),
            kwargs=kwargs,
            queue=queue,
            eta=_seconds(headers.get("eta")),
        )


@contextlib.contextmanager
def policies(app: Any, *, redis_url: str | None = None) -> Iterator[Calls]:
    """Decide, queue and run the calls of an application inside this process; see the package.

    Args:
        app: a Celery application; a Django project's is `current_app` of `celery`, unwrapped or not.
        redis_url: decide in this Redis and by real time, instead of in a model and by the test's clock.
    """
    app = app._get_current_object() if hasattr(app, "_get_current_object") else app
    app.finalize()
    with contextlib.ExitStack() as stack:
        if redis_url is None:
            clock, prefix = Clock(), ""
            client: Any = ModelRedis(clock)
            stack.enter_context(mock.patch.object(exclusive, "Lock", _FreeLock))

            def now() -> dt.datetime:
                return dt.datetime.fromtimestamp(clock.now, tz=app.timezone)

            stack.enter_context(mock.patch.object(app, "now", now))
        else:
            import redis

            clock, prefix = RealClock(), f"testing-{uuid()}-"
            client = stack.enter_context(redis.Redis.from_url(redis_url))
            stack.callback(_delete, client, prefix)
        calls = Calls(app, clock, client, prefix)
        store = connections.Store(client, prefix, is_broker=True)
        stack.enter_context(connections.replaced(app, store))
        connection = stack.enter_context(Connection("memory://"))
        channel = _Channel(connection.transport.establish_connection(), calls)
        producer = Producer(channel, serializer=app.conf.task_serializer, auto_declare=False)
        borrow = lambda given=None: contextlib.nullcontext(given or producer)  # noqa: E731 - stands in for a method
        for name in ("producer_or_acquire", "default_producer"):
            stack.enter_context(mock.patch.object(app, name, borrow))
        stack.enter_context(_results_in_memory(app))

        def note(sender: Any = None, **it: Any) -> None:
            if sender.app is app:
                calls.dropped.append(
                    Dropped(task=sender.name, key=it["key"], policy=it["policy"], task_id=it["task_id"])
                )

        call_dropped.connect(note, weak=False)
        stack.callback(call_dropped.disconnect, note)
        yield calls


class _Channel(memory.Channel):
    """A channel whose messages end in the test's lists, under the names that kombu gives them in Redis."""

    def __init__(self, connection: Any, calls: Calls) -> None:
        super().__init__(connection)
        self._calls = calls

    def _q_for_pri(self, queue: str, priority: int) -> str:
        name = f"{queue}{PRIORITY_SEPARATOR}{priority}" if priority else queue
        self._calls.know(name)
        return name

    def _put(self, queue: str, message: Any, **_: Any) -> None:
        priority = self._get_message_priority(message, reverse=False)
        self._calls.put(self._q_for_pri(queue, priority), dumps(message))


class _FreeLock:
    """A lock that is always free, since one task runs at a time."""

    last_fence = 0

    def __init__(self, client: Any, name: str, **_: Any) -> None:
        self.redis, self.name = client, name
        self.fence: int | None = None

    def acquire(self, **_: Any) -> bool:
        _FreeLock.last_fence += 1
        self.fence = _FreeLock.last_fence
        return True

    def release(self) -> None:
        self.fence = None


class NotRunError(Exception):
    """A test waits for the result of a call that has not run; no worker would run it meanwhile."""


class _Results(CacheBackend):
    """Results in this process; waiting for a missing result raises an error instead of blocking forever."""

    def wait_for_pending(self, result: Any, *args: Any, **options: Any) -> Any:
        _check_ready([result])
        return super().wait_for_pending(result, *args, **options)

    def iter_native(self, result: Any, *args: Any, **options: Any) -> Any:
        _check_ready(result.results)
        return super().iter_native(result, *args, **options)


def _check_ready(results: list[Any]) -> None:
    waiting = [it for it in results if it.state not in states.READY_STATES]
    if waiting:
        ids = ", ".join(it.id for it in waiting[:3])
        more = f" and {len(waiting) - 3} more" if len(waiting) > 3 else ""
        raise NotRunError(
            f"{ids}{more}: no result, because the call has not run (its state is {waiting[0].state}); in "
            "testing.policies nothing runs by itself: call calls.run() first, or calls.advance(seconds) for a call "
            "that is due later"
        )


@contextlib.contextmanager
def _results_in_memory(app: Any) -> Iterator[None]:
    """Keep this application's results here; other applications keep theirs."""
    backend = _Results(app=app, backend="memory")
    original: Any = celery.Celery.backend
    replaced = property(lambda it: backend if it is app else original.__get__(it), original.fset)
    with mock.patch.object(celery.Celery, "backend", replaced):
        yield


def _delete(client: Any, prefix: str) -> None:
    for name in client.scan_iter(f"*{prefix}*"):
        client.delete(name)


def _message(raw: Any) -> Any:
    payload = json.loads(raw)
    payload["properties"].setdefault("delivery_tag", "")
    return virtual.Message(payload, channel=_decoder)


class _Decoder(virtual.Channel):
    """The part of a channel that decoding needs."""

    def __init__(self) -> None:
        """No connection."""


_decoder: Final = _Decoder()


def _is_errand(message: Any) -> bool:
    """Whether a message is a policy's own, not a call."""
    mark = str(message.headers.get(policy_values.CALL_HEADER) or "")
    return message.headers["task"] == policy_values.WAKER or mark.startswith("guard:")


def _seconds(moment: str | None) -> float | None:
    """Seconds since the epoch, read as Celery's workers read it: a moment without a time zone is in UTC."""
    read: Any = maybe_iso8601(moment)
    return None if read is None else maybe_make_aware(read).timestamp()
