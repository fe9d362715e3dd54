"""(pure) When must a call of a task not lead to a run of its own?

A policy is a value that stands on a task: `@app.task(base=celeriac.Task, policy=Throttle(key="user_id", seconds=30))`.
It defines which calls are the same (`key`) and what happens to the later ones. Redis decides, atomically and by the
server's time; this module contains everything that does not need Redis.

`key` is one of
* the name of a parameter of the task: `key="user_id"`,
* a template of parameters: `key="{user_id}-{kind}"`; as in `str.format`, `{user.id}` and `{items[0]}` work,
* a callable that gets the call's arguments and returns a string: `key=lambda user, **_: user["id"]`,
* `None`: all calls of the task are the same.

Two values are the same key when their texts are, in the form that no serialiser changes: 42 and "42" are the same, a
tuple and a list of the same values, and dictionaries whatever the order of their keys.
"""

from __future__ import annotations

import datetime as dt
import inspect
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final, Literal

from celeriac.exceptions import PolicyError
from celeriac.policies import misplaced
from celeriac.policies.key import Template, bounded, text_of

Key = str | Callable[..., object] | None

OnDuplicate = Literal["return", "raise"]

SHORTEST_SECONDS: Final = 0.001
LONGEST_SECONDS: Final = 100 * 365 * 86_400
"""Upper limit of all times: Redis counts in milliseconds and refuses times that it cannot add to its clock."""


@dataclass(frozen=True)
class Policy:
    """The base class of all policies."""

    key: Key = None
    """Which calls are the same; see the module."""

    def __post_init__(self) -> None:
        if self.key is not None and not callable(self.key) and (not isinstance(self.key, str) or not self.key):
            raise ValueError(
                f"key of {type(self).__name__} is {self.key!r}: it is the name of a parameter, a template of "
                "parameters, a callable, or None for all calls"
            )

    def __set_name__(self, owner: Any, name: str) -> None:
        """Refuse a task on which the policy has no effect; Python calls this when the task's class is created."""
        misplaced.check(owner, name)

    def check(self, task: str, run: Callable[..., object]) -> None:
        """Compare the key with the task's parameters.

        Raises:
            PolicyError: the key names a parameter that the task does not have.
        """
        if self.key is None or callable(self.key):
            return
        parameters = inspect.signature(run).parameters
        if any(it.kind is it.VAR_KEYWORD for it in parameters.values()):
            return
        for name in self._names():
            if name not in parameters:
                known = ", ".join(parameters) or "none"
                raise PolicyError(
                    f"{type(self).__name__}(key={self.key!r}) of task {task}: it has no parameter {name!r}; "
                    f"its parameters are: {known}"
                )

    def key_of(self, run: Callable[..., object], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Return the key of one call, as text.

        Raises:
            TypeError: the arguments do not fit the task.
            PolicyError: the template cannot be filled, the callable returned nothing, or the value has no text.
        """
        if self.key is None:
            return ""
        try:
            return bounded(self._text(run, args, kwargs))
        except (LookupError, AttributeError, ValueError, RecursionError) as error:
            raise PolicyError(
                f"{type(self).__name__}(key={self.key!r}) cannot be made of this call: {error!r}"
            ) from error

    def _text(self, run: Callable[..., object], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        if callable(self.key):
            value = self.key(*args, **kwargs)
            if value is None:
                raise PolicyError(f"the key of {type(self).__name__} returned None; return a text for each call")
            return text_of(value)
        bound = inspect.signature(run).bind(*args, **kwargs)
        bound.apply_defaults()
        arguments, key = _flat(bound), str(self.key)
        return Template().vformat(key, (), arguments) if "{" in key else text_of(arguments[key])

    def _names(self) -> list[str]:
        key = str(self.key)
        if "{" not in key:
            return [key]
        try:
            fields = [field for _, field, _, _ in string.Formatter().parse(key) if field is not None]
        except ValueError as error:
            raise PolicyError(f"{type(self).__name__}(key={key!r}) is not a template: {error}") from None
        return [field.split(".")[0].split("[")[0] for field in fields]


@dataclass(frozen=True)
class CallPolicy(Policy):
    """The base class of policies that decide when a task is called. A task has at most one of them."""


@dataclass(frozen=True)
class Throttle(CallPolicy):
    """The first call in a window wins; the others do not run and get the first one's result handle.

    Decided when the task is called (`delay`, `apply_async`), so later calls do not send a message. The window starts
    with the first call; it does not matter when, or whether, the task of that call runs.

    Args:
        key: which calls are the same; see the module.
        seconds: the window's length, at least 0.001.
        extend: whether each dropped call restarts the window, so that a key with constant calls runs once.
        on_duplicate: what a dropped call does: `"return"` the result handle of the call that stands, or `"raise"`
            `DuplicateCallError`.

    Raises:
        TypeError: `seconds` is not a number.
        ValueError: `seconds` is out of range, or `on_duplicate` is neither.
    """

    _: KW_ONLY
    seconds: float
    extend: bool = False
    on_duplicate: OnDuplicate = "return"

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive("seconds", self.seconds, self)
        _known_duplicate(self.on_duplicate)


@dataclass(frozen=True)
class Unique(CallPolicy):
    """One call of each key in the queue or running; another one does not run and gets the first one's result handle.

    Decided when the task is called. The published call has a claim. It is expensive to check whether its message still
    waits in a queue, so a claim that is not renewed lasts `claim_seconds` (plus an ETA or countdown). It is renewed
    while its task runs. When a claim has expired, the next call is published too and takes over the claim. If the first
    message is still waiting then, the call that starts first runs for both, and the other one does not run.

    Args:
        key: which calls are the same; see the module.
        until: `"done"`: the claim ends with the task's run (a retry is the same run). `"start"`: it ends when a worker
            starts the task, so that a call which comes while one runs is published.
        claim_seconds: how long a claim lasts without renewal. Lower: calls are accepted again sooner after a message
            was lost outside of Celeriac (a purged queue). Higher: fewer messages in a queue with longer waiting times.
        on_duplicate: what a dropped call does: `"return"` the result handle of the call that stands, or `"raise"`
            `DuplicateCallError`.

    Raises:
        TypeError: `claim_seconds` is not a number.
        ValueError: `until` or `on_duplicate` is neither, or `claim_seconds` is out of range.
    """

    _: KW_ONLY
    until: Literal["done", "start"] = "done"
    claim_seconds: float = 300.0
    on_duplicate: OnDuplicate = "return"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.until not in {"done", "start"}:
            raise ValueError(f"until is {self.until!r}: it is 'done' or 'start'")
        _positive("claim_seconds", self.claim_seconds, self)
        _known_duplicate(self.on_duplicate)


@dataclass(frozen=True)
class Debounce(CallPolicy):
    """The last call wins: it runs, with its arguments, after `seconds` without another call.

    Decided when the task is called; needs a Redis broker. All calls of a burst return one result handle. A burst is at
    most one message in the broker, whatever the number of calls.

    Args:
        key: which calls are the same; see the module.
        seconds: the quiet time after the last call.
        max_wait: longest time, in seconds, from the first call of a burst to its run, even if calls keep coming;
            `None`: no limit, so a key with constant calls never runs.

    Raises:
        ValueError: a number is not positive, or `max_wait` is shorter than `seconds`.
    """

    _: KW_ONLY
    seconds: float
    max_wait: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive("seconds", self.seconds, self)
        if self.max_wait is None:
            return
        _positive("max_wait", self.max_wait, self)
        if self.max_wait < self.seconds:
            raise ValueError(f"max_wait of Debounce is {self.max_wait!r}: it must be at least seconds={self.seconds!r}")


@dataclass(frozen=True)
class Coalesce(CallPolicy):
    """At most one call of each key runs and one waits; the one that waits has the newest arguments.

    Decided when the task is called; needs a Redis broker. If a call waits, a new call replaces its arguments and gets
    its result handle. If a call runs, a new call waits and runs when the first one has ended.

    Args:
        key: which calls are the same; see the module.
        claim_seconds: if there is no sign of the waiting message for this time, the next call is published anew.

    Raises:
        ValueError: `claim_seconds` is not positive.
    """

    _: KW_ONLY
    claim_seconds: float = 300.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive("claim_seconds", self.claim_seconds, self)


@dataclass(frozen=True)
class Exclusive(Policy):
    """One run at a time for each key, across all workers.

    Decided before a run starts. The lock is renewed while the task runs, and is free at most `lock_seconds` after its
    worker has died. During a run, `task.fence` is the lock's fencing number.

    Args:
        key: which calls are the same; see the module.
        on_conflict: what a call does while another one runs. `"requeue"`: it is put back with a delay that grows from
            `backoff_seconds[0]` to `backoff_seconds[1]`, and its slot goes on to something else. `"wait"`: it waits in
            its slot, in the order of arrival, for `wait_seconds`, then it is put back. `"skip"`: it does not run; its
            result is `REVOKED`.
        wait_seconds: the longest wait in a slot; `None`: no limit.
        backoff_seconds: the shortest and the longest delay of a call that is put back.
        lock_seconds: how long a dead worker's lock lasts, and how long Redis may be unavailable before a running task
            loses its lock.
        max_hold_seconds: after this time the lock is not renewed any more, so that a hanging task does not block the
            others forever; `None`: no limit (then give the task a time limit).

    Raises:
        ValueError: a number is not positive, `on_conflict` is none of the three, or the delays are the wrong way round.
    """

    _: KW_ONLY
    on_conflict: Literal["requeue", "wait", "skip"] = "requeue"
    wait_seconds: float | None = 10.0
    backoff_seconds: tuple[float, float] = (1.0, 30.0)
    lock_seconds: float = 30.0
    max_hold_seconds: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.on_conflict not in {"requeue", "wait", "skip"}:
            raise ValueError(f"on_conflict is {self.on_conflict!r}: it is 'requeue', 'wait' or 'skip'")
        if not isinstance(self.backoff_seconds, (tuple, list)) or len(self.backoff_seconds) != 2:
            raise TypeError(
                f"backoff_seconds of Exclusive is {self.backoff_seconds!r}: it must be the shortest and the longest "
                "delay in seconds, such as (1, 30)"
            )
        first, last = self.backoff_seconds
        _positive("backoff_seconds", first, self)
        _positive("backoff_seconds", last, self)
        if last < first:
            raise ValueError(f"backoff_seconds is {self.backoff_seconds}: the longest delay must be the second")
        _positive("lock_seconds", self.lock_seconds, self)
        for name, value in (("wait_seconds", self.wait_seconds), ("max_hold_seconds", self.max_hold_seconds)):
            if value is not None:
                _positive(name, value, self)


def carries_more(options: Mapping[str, Any]) -> bool:
    """Return whether a call must be published without asking its policy, because other work depends on it.

    Callbacks, the rest of a chain and the count of a chord depend on this message. A retry, or a call that was put
    back, is not a new call.
    """
    if any(options.get(name) for name in ("link", "link_error", "chain", "chord", "group_id", "retries")):
        return True
    headers = options.get("headers") or {}
    return bool(headers.get(CONFLICTS_HEADER) or headers.get(CALL_HEADER))


CONFLICTS_HEADER: Final = "celeriac_conflicts"
"""A message's header: how often its run found another run of its key."""

KEY_HEADER: Final = "celeriac_key"
"""A message's header: the key of the call, computed once when the task was called."""

CALL_HEADER: Final = "celeriac_call"
"""A message's header: its role for the policy that published it, and its token: `guard:7f3a`.

A message without this header bypassed the policy when it was published (part of a group, sent by name), and its run
bypasses the policy too.
"""

WAKER: Final = "celeriac.debounce"
"""The name of the task that publishes due bursts."""


def _flat(bound: inspect.BoundArguments) -> dict[str, Any]:
    """Return the arguments by name, including those that `**kwargs` collects."""
    arguments: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(value)
        else:
            arguments[name] = value
    return arguments


def _positive(name: str, value: object, policy: Policy) -> None:
    what = f"{name} of {type(policy).__name__} is {value!r}"
    if isinstance(value, dt.timedelta):
        raise TypeError(f"{what}: write the number of seconds, {value.total_seconds():g}")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what}: it must be a number of seconds, such as 30 or 0.5")
    if not SHORTEST_SECONDS <= value <= LONGEST_SECONDS:
        raise ValueError(f"{what}: it must be at least {SHORTEST_SECONDS} seconds, and at most 100 years")


def _known_duplicate(value: str) -> None:
    if value not in {"return", "raise"}:
        raise ValueError(f"on_duplicate is {value!r}: it is 'return' or 'raise'")
