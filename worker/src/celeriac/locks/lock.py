"""A lock in Redis with redis-py's interface, safe against expiry, crash and late owners.

`Lock` takes the arguments of `redis.lock.Lock` and raises its exceptions, so code and tests written for that class go
on working. What is different:

* Waiters do not poll. They stand in a line and sleep in Redis; whoever releases the lock hands it, in the same step,
  to the first of them. Nobody is overtaken while the lock is handed on.
* Each acquisition gets a `fence`, a number that grows with every acquisition of that name. A store that remembers the
  highest fence it has seen and refuses lower ones cannot be damaged by an owner who is late.
* `renew=True` keeps a lock alive while its owner lives, and says so loudly when it is lost; `max_hold` bounds that,
  so that a task which hangs does not keep its lock for ever because a thread goes on renewing it.
* A lock taken in a task is free when its worker is known to be dead: when the lease of the task's delivery has run out,
  or its process died, and the message was given back. Whoever asks next has it, usually that task's next run.

**Promise.** Of all clients that compare fences, one at a time; one round trip to take a free lock, one to let go.
**Limits.** The lock has the durability of one Redis: a failover to a replica that had not got the last write can give
it to two owners, whose fences then tell them apart (each is at least the server's clock in microseconds). A waiter
that is killed before it is handed the lock keeps it from the others until one of them looks, `LONGEST_WAIT_SECONDS`
at most. Without a `timeout`, a lock whose owner dies is never free again, as with redis-py, unless the owner was a
task. A forked child does not own what its parent has acquired.
"""

from __future__ import annotations

import logging
import math
import os
import re
import sys
import threading
import time
import uuid
from types import SimpleNamespace, TracebackType
from typing import Any, Final, Literal

from redis.exceptions import LockError, LockNotOwnedError, RedisError

from celeriac import counts
from celeriac.locks import inbox, scripts
from celeriac.store import keys, replies

logger = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS: Final = 30.0
"""A waiter looks at the lock itself at least this often, in case its owner or the waiter before it has died."""

_LEASED_DELIVERY: Final = re.compile(r"[0-9a-f]{12}:\d+")
"""Ids that the leased transport gives; other brokers and plain workers have other ones."""


class LockLostError(LockNotOwnedError):
    """The lock expired, was taken over, or could not be renewed, while its owner believed to hold it.

    Whatever was done since under the lock may have met somebody else doing the same. Stores that compare fences
    have refused the older writer.
    """


class Lock:
    """A lock that one client at a time can hold, across processes and hosts.

    ```python
    with celeriac.Lock(redis, "lock:report-42", timeout=30, renew=True) as lock:
        write_report(fence=lock.fence)
    ```

    Args:
        redis: a redis-py client (plain, Sentinel's or Cluster's; `decode_responses` either way).
        name: the lock's name, which is also its key. `lock:{42}` keeps everything of this lock in the Cluster slot
            of `42`.
        timeout: seconds until the lock is free whatever its owner does; `None`: never.
        sleep: accepted for redis-py's sake and not used: waiters do not poll.
        blocking: whether `acquire` waits.
        blocking_timeout: how many seconds `acquire` waits at most; `None`: without end.
        thread_local: keep the token for each thread, as redis-py does.
        raise_on_release_error: whether leaving a `with` block whose lock was lost raises, or logs a warning.
        renew: extend the lock in the background, every third of `timeout`, until it is released or lost.
        max_hold: seconds after which renewing stops; needs `renew`.

    Raises:
        ValueError: `renew` without `timeout`, `max_hold` without `renew`, or a `timeout` below a millisecond.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - redis-py's signature
        self,
        redis: Any,
        name: str,
        timeout: float | None = None,
        sleep: float = 0.1,
        blocking: bool = True,
        blocking_timeout: float | None = None,
        thread_local: bool = True,
        raise_on_release_error: bool = True,
        *,
        renew: bool = False,
        max_hold: float | None = None,
    ) -> None:
        if timeout is not None and timeout < 0.001:
            raise ValueError(f"timeout is {timeout:g} s: a lock must last at least a millisecond")
        if renew and timeout is None:
            raise ValueError("renew needs a timeout: a lock without one never expires")
        if max_hold is not None and not renew:
            raise ValueError("max_hold needs renew=True: without it the timeout already bounds the lock")
        self.redis = redis
        self.name = name
        self.timeout = timeout
        self.sleep = sleep
        self.blocking = blocking
        self.blocking_timeout = blocking_timeout
        self.thread_local = bool(thread_local)
        self.raise_on_release_error = raise_on_release_error
        self.renew = renew
        self.max_hold = max_hold
        self.local: Any = threading.local() if self.thread_local else SimpleNamespace()
        self.local.token = None
        self.local.fence = None
        self._process = os.getpid()
        self._lost: threading.Event | None = None
        self._renewal: _Renewal | None = None
        self._keys = [name, keys.fence(name), keys.waiters(name)]
        self._inbox_prefix = keys.inbox_prefix(name)
        # On a Cluster those keys are elsewhere, and a script may not look.
        self._over = keys.OVER_PREFIX if hasattr(redis, "connection_pool") else ""

    # --- redis-py's interface

    def __enter__(self) -> Lock:
        if self.acquire():
            return self
        raise _named(LockError("Unable to acquire lock within the time specified"), self.name)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.release()
        except LockError:
            if self.raise_on_release_error:
                raise
            logger.warning("lock %s was no longer owned when its block ended", self.name)

    def acquire(
        self,
        sleep: float | None = None,  # noqa: ARG002 - redis-py's signature
        blocking: bool | None = None,
        blocking_timeout: float | None = None,
        token: str | bytes | None = None,
    ) -> bool:
        """Take the lock; whether it was taken.

        Args:
            sleep: not used, see the class.
            blocking: whether to wait; default as given to the class.
            blocking_timeout: seconds to wait at most; default as given to the class.
            token: what identifies the owner; default a new random one.
        """
        text = (
            uuid.uuid4().hex + delivery_mark()
            if token is None
            else replies.text(self.redis.get_encoder().encode(token))
        )
        blocking = self.blocking if blocking is None else blocking
        limit = self.blocking_timeout if blocking_timeout is None else blocking_timeout
        limit = limit if blocking else 0
        began = asked = time.monotonic()
        fence = self._get(text, limit)
        # Heard of so late, the lock may have run out since: this process was stopped meanwhile, or stood in the line.
        while fence is not None and self.timeout is not None and time.monotonic() - asked >= self.timeout:
            asked = time.monotonic()
            if not self._set_end(text, self.timeout):
                fence = self._get(text, None if limit is None else limit - (asked - began))
        counts.LOCK_WAIT.observe(time.monotonic() - began, "not_acquired" if fence is None else "acquired")
        if fence is None:
            return False
        self._taken(text, int(fence))
        return True

    def locked(self) -> bool:
        """Whether anybody holds the lock."""
        return self.redis.get(self.name) is not None

    def owned(self) -> bool:
        """Whether this object (in this thread, see `thread_local`) holds the lock."""
        token = self._token
        if token is None:
            return False
        owner = self.redis.get(self.name)
        return owner is not None and replies.text(owner) == token

    def release(self) -> None:
        """Let go of the lock; the first in the line has it then.

        Raises:
            LockError: it was never acquired here, or is released already.
            LockLostError: it was lost while it was held; nobody else's lock is touched. A `LockNotOwnedError`.
        """
        token = self._token
        if token is None:
            raise _named(LockError("Cannot release a lock that's not owned or is already unlocked."), self.name)
        self.local.token = self.local.fence = None
        self._stop_renewal()
        if not scripts.RELEASE.run(self.redis, self._keys, [token, self._inbox_prefix]):
            raise _named(LockLostError("Cannot release a lock that's no longer owned"), self.name)

    def extend(self, additional_time: float, replace_ttl: bool = False) -> Literal[True]:
        """Add seconds to a lock that is held, or with `replace_ttl` let it end so many seconds from now.

        Raises:
            LockError: it is not held here, or has no timeout.
            LockNotOwnedError: it was lost.
        """
        return self._extend("extend", additional_time, "set" if replace_ttl else "add")

    def reacquire(self) -> Literal[True]:
        """Let a lock that is held end `timeout` seconds from now. Raises as `extend` does."""
        return self._extend("reacquire", self.timeout or 0, "set")

    # --- what redis-py's lock does not have

    @property
    def fence(self) -> int | None:
        """The number of this acquisition, greater than that of every earlier one; `None` while not held."""
        value: int | None = getattr(self.local, "fence", None)
        return value if self._process == os.getpid() else None

    @property
    def lost(self) -> threading.Event:
        """Set when a renewed lock is lost; cleared by the next acquisition."""
        if self._lost is None:
            self._lost = threading.Event()
        return self._lost

    def check(self) -> None:
        """Raise if a renewed lock has been lost; for long work to call between its steps.

        Raises:
            LockLostError: it was lost.
        """
        if self.lost.is_set():
            raise _named(LockLostError(f"lock {self.name} was lost while it was held"), self.name)

    # --- steps

    @property
    def _token(self) -> str | None:
        # A thread that has not acquired sees no attribute of another thread's; a forked child inherits a copy of them.
        value: str | None = getattr(self.local, "token", None)
        return value if self._process == os.getpid() else None

    def _get(self, token: str, limit: float | None) -> str | bytes | None:
        """Have the lock within so many seconds (`None`: in the end): its fence, or `None`."""
        if limit is not None and limit <= 0:
            answer = self._ask(token, "try", 0)
            return None if isinstance(answer, int) else answer
        return self._wait(token, limit)

    def _set_end(self, token: str, seconds: float) -> bool:
        """Let a lock end so many seconds from now; false: it is not this token's any more."""
        return bool(scripts.EXTEND.run(self.redis, [self.name], [token, _milliseconds(seconds), "set"]))

    def _ask(self, token: str, how: str, seconds: float) -> Any:
        """Run the script once: a fence (text), or minus the ms that the lock has left (0: it has no end)."""
        arguments = [token, _milliseconds(self.timeout), how, _milliseconds(seconds), self._inbox_prefix, self._over]
        return scripts.ACQUIRE.run(self.redis, self._keys, arguments)

    def _wait(self, token: str, limit: float | None) -> str | bytes | None:
        """Stand in the line until the lock is handed over or time is up."""
        give_up_at = None if limit is None else time.monotonic() + limit
        own_inbox = self._inbox_prefix + token
        try:
            while True:
                left = None if give_up_at is None else give_up_at - time.monotonic()
                if left is not None and left <= 0:
                    self._leave(token)
                    return None
                answer = self._ask(token, "wait", 0 if left is None else max(left, 0.001))
                if not isinstance(answer, int):
                    return answer  # type: ignore[no-any-return]  # a fence, text or bytes
                # The owner may die: look again when its time has run out.
                seconds = LONGEST_WAIT_SECONDS if left is None else min(LONGEST_WAIT_SECONDS, left)
                if answer:
                    seconds = min(seconds, -answer / 1000 + 0.005)
                handed = inbox.pop(self.redis, own_inbox, max(seconds, 0.001))
                if handed is not None:
                    return replies.text(handed).partition(":")[0]
        except BaseException:
            # Ctrl-C, a soft time limit, Redis away: do not stand in the line when nobody waits any more.
            self._try_leave(token)
            raise

    def _leave(self, token: str) -> None:
        scripts.LEAVE.run(self.redis, self._keys, [token, self._inbox_prefix])

    def _try_leave(self, token: str) -> None:
        try:
            self._leave(token)
        except (RedisError, OSError) as error:
            logger.debug("could not leave the line of lock %s: %s", self.name, error)

    def _taken(self, token: str, fence: int) -> None:
        self.local.token, self.local.fence = token, fence
        self._process = os.getpid()
        if self._lost is not None:
            self._lost.clear()
        if self.renew:
            _ = self.lost  # made before the thread that sets it
            self._renewal = _Renewal(self, token)
            self._renewal.start()

    def _stop_renewal(self) -> None:
        renewal, self._renewal = self._renewal, None
        if renewal is not None:
            renewal.stop()

    def _extend(self, what: str, seconds: float, how: str) -> Literal[True]:
        token = self._token
        if token is None:
            raise _named(LockError(f"Cannot {what} an unlocked lock"), self.name)
        if self.timeout is None:
            raise _named(LockError(f"Cannot {what} a lock with no timeout"), self.name)
        if not scripts.EXTEND.run(self.redis, [self.name], [token, _milliseconds(seconds), how]):
            raise _named(LockNotOwnedError(f"Cannot {what} a lock that's no longer owned"), self.name)
        return True


class _Renewal:
    """Extends one lock until it is told to stop, cannot any more, or has done so long enough."""

    def __init__(self, lock: Lock, token: str) -> None:
        self._lock = lock
        self._token = token
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"celeriac-lock-{lock.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        lock = self._lock
        timeout = lock.timeout or 0
        started = renewed = time.monotonic()
        while not self._stopped.wait(timeout / 3):
            now = time.monotonic()
            if lock.max_hold is not None and now - started >= lock.max_hold:
                return self._lose(f"it was held for {lock.max_hold:g} s, the longest that max_hold allows")
            try:
                is_ours = lock._set_end(self._token, timeout)
            except (RedisError, OSError) as error:
                if now - renewed >= timeout:
                    return self._lose(f"it could not be renewed for {timeout:g} s: {error}")
                continue
            if self._stopped.is_set():
                return None
            if not is_ours:
                return self._lose("it expired or was taken over")
            renewed = now
        return None

    def _lose(self, why: str) -> None:
        if not self._stopped.is_set():
            counts.LOCKS_LOST.add()
            logger.error("lost lock %s: %s", self._lock.name, why)
            self._lock.lost.set()


def _named(error: LockError, name: str) -> LockError:
    """Write the lock's name into an error; redis-py before 5.1 does not take it as an argument."""
    error.lock_name = name
    return error


def delivery_mark() -> str:
    """What the token of a lock ends with that is taken in a task of a leased delivery: `@` and the delivery's id.

    When that delivery is given back, since its worker died or lost its lease, the lock counts as free. Elsewhere: "".
    """
    state: Any = sys.modules.get("celery._state")  # without Celery there is no task
    task = state.get_current_task() if state is not None else None
    tag = str((getattr(getattr(task, "request", None), "properties", None) or {}).get("delivery_tag") or "")
    return f"@{tag}" if _LEASED_DELIVERY.fullmatch(tag) else ""


def _milliseconds(seconds: float | None) -> int:
    return 0 if seconds is None else math.ceil(seconds * 1000)
