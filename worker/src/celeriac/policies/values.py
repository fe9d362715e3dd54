"""(pure) When must a call of a task not lead to a run of its own?

A policy is a value that stands on a task: `@app.task(base=celeriac.Task, policy=Throttle(key="user_id", seconds=30))`.
It says which calls are the same (`key`) and what happens to the later ones. Deciding is Redis's, atomically and by the
server's time; this module holds what can be said without it.

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
"""Redis counts in milliseconds, and refuses times that it cannot add to its clock."""


@dataclass(frozen=True)
class Policy:
    """What all policies have."""

    key: Key = None
    """Which calls are the same; see the module."""

    def __post_init__(self) -> None:
        if self.key is not None and not callable(self.key) and (not isinstance(self.key, str) or not self.key):
            raise ValueError(
                f"key of {type(self).__name__} is {self.key!r}: it is the name of a parameter, a template of "
                "parameters, a callable, or None for all calls"
            )

    def __set_name__(self, owner: Any, name: str) -> None:
        """Python calls this for each attribute of a class that is made: refuse a task where it has no effect."""
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
        """The key of one call, as a text.

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
            raise PolicyError(f"{type(self).__name__}(key={key!r}) is no template: {error}") from None
        return [field.split(".")[0].split("[")[0] for field in fields]


@dataclass(frozen=True)
class CallPolicy(Policy):
    """What the policies have that decide when a task is called. A task has at most one of them."""


@dataclass(frozen=True)
class Throttle(CallPolicy):
    """The first call in a window wins; the others do not run and get the first one's result handle.

    Decided when the task is called (`delay`, `apply_async`), so later calls cost no message. The window starts with
    the first call, whether or when that call's task runs.

    Args:
        key: which calls are the same; see the module.
        seconds: the window's length, at least 0.001.
        extend: whether each dropped call starts the window anew, so that a key which is never quiet runs once.
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

    Decided when the task is called. The call that is published has a claim. Whether its message still waits in a queue
    cannot be asked cheaply, so a claim stands for `claim_seconds` without a sign of life (an ETA or countdown comes on
    top), and is renewed while its task runs. When a claim has run out, the next call is published too and takes the
    claim over. Should the first message have waited all the time, whichever of the two starts first stands for both,
    and the other one does not run.

    Args:
        key: which calls are the same; see the module.
        until: `"done"`: the claim ends with the task's run (a retry is the same run). `"start"`: it ends when a worker
            starts the task, so that a call which comes while one runs is published.
        claim_seconds: how long a claim stands without a sign of life. Lower: after a message was lost from outside (a
            purged queue), calls are taken again sooner. Higher: fewer messages in a queue that is longer than this.
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
    """The last call wins: it runs, with its arguments, when there was no other for `seconds`.

    Decided when the task is called; needs a Redis broker. All calls of a burst return one result handle. A burst is at
    most one message in the broker, whatever the number of calls.

    Args:
        key: which calls are the same; see the module.
        seconds: the quiet time after the last call.
        max_wait: a burst runs at most so many seconds after its first call, however many follow; `None`: a key that
            is never quiet never runs.

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

    Decided when the task is called; needs a Redis broker. A call while one waits replaces its arguments and gets its
    result handle. A call while one runs waits, and runs once more when that one has ended.

    Args:
        key: which calls are the same; see the module.
        claim_seconds: after so long without a sign of life of the message that waits, the next call is published anew.

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

    Decided when a run is about to start. The lock is renewed while the task runs, and is free at most `lock_seconds`
    after its worker died. `task.fence` is the lock's fencing number during a run.

    Args:
        key: which calls are the same; see the module.
        on_conflict: what a call does while another one runs. `"requeue"`: it is put back with a delay that grows from
            `backoff_seconds[0]` to `backoff_seconds[1]`, and its slot goes on to something else. `"wait"`: it waits in
            its slot, in the order of arrival, for `wait_seconds`, then it is put back. `"skip"`: it does not run; its
            result is `REVOKED`.
        wait_seconds: the longest wait in a slot; `None`: without end.
        backoff_seconds: the shortest and the longest delay of a call that is put back.
        lock_seconds: how long a dead worker's lock lasts, and how long Redis may be away before a running task's lock
            is lost.
        max_hold_seconds: after this time the lock is not renewed any more, so that a task which hangs does not hold up
            the others for ever; `None`: no bound (give the task a time limit).

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
            raise ValueError(f"backoff_seconds is {self.backoff_seconds}: the longest delay stands second")
        _positive("lock_seconds", self.lock_seconds, self)
        for name, value in (("wait_seconds", self.wait_seconds), ("max_hold_seconds", self.max_hold_seconds)):
            if value is not None:
                _positive(name, value, self)


def carries_more(options: Mapping[str, Any]) -> bool:
    """Whether a call must be published whatever its policy says, since something else would be lost with it.

    Callbacks, the rest of a chain and the count of a chord hang on this very message; a retry or a call that was put
    back is not a new call.
    """
    if any(options.get(name) for name in ("link", "link_error", "chain", "chord", "group_id", "retries")):
        return True
    headers = options.get("headers") or {}
    return bool(headers.get(CONFLICTS_HEADER) or headers.get(CALL_HEADER))


CONFLICTS_HEADER: Final = "celeriac_conflicts"
"""A message's header: how often its run met another one of its key."""

KEY_HEADER: Final = "celeriac_key"
"""A message's header: the key of the call, computed once where it was called."""

CALL_HEADER: Final = "celeriac_call"
"""A message's header: what it is to the policy that published it, and its token: `guard:7f3a`.

A message without it was published past the policy (part of a group, sent by name) and runs past it.
"""

WAKER: Final = "celeriac.debounce"
"""The task that publishes bursts which are due."""


def _flat(bound: inspect.BoundArguments) -> dict[str, Any]:
    """Arguments by name; those that a `**kwargs` has caught count like any other."""
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
