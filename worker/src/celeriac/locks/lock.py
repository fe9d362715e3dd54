"""A lock in Redis with redis-py's interface, safe against expiry, crash and late owners.

`Lock` takes the arguments of `redis.lock.Lock` and raises its exceptions, so code and tests written for that class work
with it. What is different:

* Waiters do not poll. They wait in a queue and sleep in Redis. Releasing the lock hands it to the first waiter in the
  same step.
* Each acquisition gets a `fence`, a number that grows with every acquisition of that name. A store that remembers the
  highest fence it has seen, and refuses lower ones, cannot be damaged by a late owner.
* `renew=True` extends the lock while its owner lives, and reports when the lock is lost. `max_hold` limits the time, so
  that a hanging task does not keep its lock forever.
* A lock acquired in a task becomes free when its worker is known to be dead: the lease of the task's delivery has
  expired, or the task's process died, and the message was given back. The next client that asks gets the lock; usually
  this is the next run of the same task.

**Promise.** Of all clients that compare fences, only one works at a time. Acquiring a free lock takes one round trip,
releasing it takes one.

**Limits.** The lock is as durable as one Redis. After a failover to a replica that did not have the last write, it can
have two owners with different fences (each fence is at least the server's clock in microseconds). If a waiter is killed
just before the lock is handed to it, the lock stays blocked until another waiter checks: after 2 s plus one second for
each place of that waiter in the line, `scripts.LONGEST_WAIT_SECONDS` at most. Without a `timeout`, a lock whose owner
dies is never free again, as with redis-py, unless the owner was a task. A forked child does not own the locks that its
parent has acquired.
"""

from __future__ import annotations

import inspect
import logging
import numbers
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
from celeriac.locks.renewal import Held, LockRenewal
from celeriac.store import keys
from celeriac.store.replies import text

logger = logging.getLogger(__name__)

_LEASED_DELIVERY: Final = re.compile(r"[0-9a-f]{12}:\d+")
"""The form of the leased transport's delivery ids. Other brokers and plain workers use other ids."""


class LockLostError(LockNotOwnedError):
    """The lock expired, was taken over, or could not be renewed, while its owner still believed that it held it.

    Another owner may have done the same work since then. Stores that compare fences refuse the older owner's writes.
    """


class Lock:
    """A lock that one client at a time can hold, across processes and hosts.

    ```python
    with celeriac.Lock(redis, "lock:report-42", timeout=30, renew=True) as lock:
        write_report(fence=lock.fence)
    ```

    Args:
        redis: a synchronous redis-py client (plain, Sentinel's or Cluster's; `decode_responses` either way).
        name: the lock's name, which is also its key; text or bytes. `lock:{42}` keeps all keys of this lock in the
            Cluster slot of `42`.
        timeout: seconds after which the lock expires unless it is extended; `None`: never.
        sleep: accepted for compatibility with redis-py, but not used, since waiters do not poll.
        blocking: whether `acquire` waits.
        blocking_timeout: longest time that `acquire` waits, in seconds; `None`: forever.
        thread_local: whether each thread has its own token, as in redis-py.
        raise_on_release_error: whether leaving a `with` block raises if the lock was lost, or logs a warning.
        renew: extend the lock in the background, every third of `timeout`, until it is released or lost, until this
            object is collected, or (with `thread_local`) until the thread that acquired it has ended.
        max_hold: seconds after which renewing stops; needs `renew`.

    Raises:
        TypeError: `redis` is not a synchronous client of redis-py, or a time is not a number of seconds.
        ValueError: `renew` without `timeout`, `max_hold` without `renew`, or a `timeout` below a millisecond.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - redis-py's signature
        self,
        redis: Any,
        name: str | bytes,
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
        _must_be_synchronous(redis)
        for what, value in (("timeout", timeout), ("blocking_timeout", blocking_timeout), ("max_hold", max_hold)):
            _must_be_seconds(what, value)
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
        # The client encodes the name to bytes, and Latin-1 has one character for each byte.
        plain = bytes(redis.get_encoder().encode(name)).decode("latin-1")
        names = (plain, keys.fence(plain), keys.waiters(plain), keys.inbox_prefix(plain))
        *self._keys, self._inbox_prefix = (it.encode("latin-1") for it in names)
        # On a Cluster those keys are in other slots, and a script must not read them.
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
        """Acquire the lock; return whether it was acquired.

        Args:
            sleep: not used, see the class.
            blocking: whether to wait; default: the value given to the class.
            blocking_timeout: longest wait in seconds; default: the value given to the class.
            token: identifies the owner; default: a new random token.
        """
        own: bytes = self.redis.get_encoder().encode(uuid.uuid4().hex + delivery_mark() if token is None else token)
        blocking = self.blocking if blocking is None else blocking
        limit = self.blocking_timeout if blocking_timeout is None else blocking_timeout
        limit = limit if blocking else 0
        began = asked = time.monotonic()
        fence = self._get(own, limit)
        # If the reply took longer than the timeout, the lock may have expired: this process was stopped meanwhile.
        while fence is not None and self.timeout is not None and time.monotonic() - asked >= self.timeout:
            asked = time.monotonic()
            if not self._set_end(own, self.timeout):
                fence = self._get(own, None if limit is None else limit - (asked - began))
        counts.LOCK_WAIT.observe(time.monotonic() - began, "not_acquired" if fence is None else "acquired")
        if fence is None:
            return False
        self._hold(own, int(fence))
        return True

    def locked(self) -> bool:
        """Return whether any client holds the lock."""
        return self.redis.get(self.name) is not None

    def owned(self) -> bool:
        """Return whether this object (in this thread, see `thread_local`) holds the lock."""
        token = self._token
        if token is None:
            return False
        owner = self.redis.get(self.name)
        return owner is not None and bool(self.redis.get_encoder().encode(owner) == token)

    def release(self) -> None:
        """Release the lock and hand it to the first waiter.

        Raises:
            LockError: the lock was never acquired here, or is already released.
            LockLostError: the lock was lost while it was held; a new owner's lock is not touched. This is a
                `LockNotOwnedError`.
        """
        token = self._token
        if token is None:
            raise _named(LockError("Cannot release a lock that's not owned or is already unlocked."), self.name)
        self.local.token = self.local.fence = None
        self._stop_renewal()
        if not scripts.RELEASE.run(self.redis, self._keys, [token, self._inbox_prefix]):
            raise _named(LockLostError("Cannot release a lock that's no longer owned"), self.name)

    def extend(self, additional_time: float, replace_ttl: bool = False) -> Literal[True]:
        """Add seconds to the lock's remaining time, or with `replace_ttl` replace the remaining time.

        Raises:
            LockError: the lock is not held here, or has no timeout.
            LockNotOwnedError: the lock was lost.
        """
        return self._extend("extend", additional_time, "set" if replace_ttl else "add")

    def reacquire(self) -> Literal[True]:
        """Let the lock expire `timeout` seconds from now. Raises as `extend` does."""
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
        """Raise if the renewed lock was lost; long work calls this between its steps.

        Raises:
            LockLostError: the lock was lost.
        """
        if self.lost.is_set():
            raise _named(LockLostError(f"lock {self.name!s} was lost while it was held"), self.name)

    # --- steps

    @property
    def _token(self) -> bytes | None:
        # A thread does not see the attributes of other threads; a forked child inherits a copy of them.
        value: bytes | None = getattr(self.local, "token", None)
        return value if self._process == os.getpid() else None

    def _get(self, token: bytes, limit: float | None) -> str | bytes | None:
        """Acquire within `limit` seconds (`None`: wait forever); return the fence, or `None`."""
        if limit is not None and limit <= 0:
            answer = self._ask(token, "try", 0)
            return None if isinstance(answer, int) else answer
        return self._wait(token, limit)

    def _set_end(self, token: bytes, seconds: float, how: str = "set") -> bool:
        """Let the lock expire `seconds` from now; return false if this token does not own it any more."""
        return bool(scripts.EXTEND.run(self.redis, self._keys[:1], [token, scripts.milliseconds(seconds), how]))

    def _ask(self, token: bytes, how: str, seconds: float) -> Any:
        """Run the script once; return a fence (text), or minus the milliseconds until the next request is useful."""
        arguments = [
            token,
            scripts.milliseconds(self.timeout),
            how,
            scripts.milliseconds(seconds),
            self._inbox_prefix,
            self._over,
        ]
        return scripts.ACQUIRE.run(self.redis, self._keys, arguments)

    def _wait(self, token: bytes, limit: float | None) -> str | bytes | None:
        """Wait in the line until the lock is handed over or the time limit is reached."""
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
                seconds = -answer / 1000 + 0.005
                if left is not None:
                    seconds = min(seconds, left)
                handed = inbox.pop(self.redis, own_inbox, max(seconds, 0.001))
                if handed is not None:
                    return text(handed).partition(":")[0]
        except BaseException:
            # Ctrl-C, a soft time limit, or Redis unavailable: leave the line, since this client stops waiting.
            self._try_leave(token)
            raise

    def _leave(self, token: bytes) -> None:
        scripts.LEAVE.run(self.redis, self._keys, [token, self._inbox_prefix])

    def _try_leave(self, token: bytes) -> None:
        try:
            self._leave(token)
        except (RedisError, OSError) as error:
            logger.debug("could not leave the line of lock %s: %s", self.name, error)

    def _hold(self, token: bytes, fence: int) -> None:
        self.local.token, self.local.fence = token, fence
        self._process = os.getpid()
        if self._lost is not None:
            self._lost.clear()
        self._stop_renewal()
        if self.renew and self.timeout is not None:
            # Kept next to the token, so that it is deleted with this object or with the thread that owns the token.
            self.local.renewal = LockRenewal(
                Held(
                    client=self.redis,
                    name=self.name,
                    key=self._keys[0],
                    token=token,
                    timeout=self.timeout,
                    max_hold=self.max_hold,
                    lost=self.lost,
                )
            )

    def _stop_renewal(self) -> None:
        renewal: LockRenewal | None = getattr(self.local, "renewal", None)
        if renewal is not None:
            renewal.stop()
            self.local.renewal = None

    def _extend(self, what: str, seconds: float, how: str) -> Literal[True]:
        token = self._token
        if token is None:
            raise _named(LockError(f"Cannot {what} an unlocked lock"), self.name)
        if self.timeout is None:
            raise _named(LockError(f"Cannot {what} a lock with no timeout"), self.name)
        if not self._set_end(token, seconds, how):
            raise _named(LockNotOwnedError(f"Cannot {what} a lock that's no longer owned"), self.name)
        return True


def _named(error: LockError, name: str | bytes) -> LockError:
    """Write the lock's name into an error; redis-py before 5.1 does not accept it as an argument."""
    error.lock_name = name  # type: ignore[assignment]  # typed as text; redis-py stores the given value
    return error


def delivery_mark() -> str:
    """Return the end of the token for a lock that is acquired in a task with a lease: `@` and the delivery's id.

    When the delivery is given back because its worker died or lost its lease, the lock counts as free. Outside such a
    task the result is empty.
    """
    state: Any = sys.modules.get("celery._state")  # if Celery is not loaded, this is not in a task
    task = state.get_current_task() if state is not None else None
    tag = str((getattr(getattr(task, "request", None), "properties", None) or {}).get("delivery_tag") or "")
    return f"@{tag}" if _LEASED_DELIVERY.fullmatch(tag) else ""


def _must_be_synchronous(client: Any) -> None:
    execute = getattr(client, "execute_command", None)
    kind = f"{type(client).__module__}.{type(client).__qualname__}"
    if execute is None:
        raise TypeError(f"celeriac.Lock needs a client of redis-py, such as redis.Redis(); {kind} is not one")
    if inspect.iscoroutinefunction(execute):
        raise TypeError(f"celeriac.Lock needs a synchronous client, such as redis.Redis(); {kind} is asynchronous")


def _must_be_seconds(what: str, value: object) -> None:
    if value is not None and not isinstance(value, numbers.Number):
        raise TypeError(f"{what} is {value!r}: it must be a number of seconds, such as 30 or 0.5")
