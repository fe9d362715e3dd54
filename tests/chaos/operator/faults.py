"""(pure) What can go wrong, where, and every plan that follows from the calls that a fault-free run made.

A place is not a moment but a call: "the first PATCH of deployments after the change". So a plan is the same plan on a
fast and on a slow machine, and all of them can be listed before any is run.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, order=True)
class Call:
    """A request of the operator: the nth of this verb and resource since the change began."""

    verb: str
    resource: str
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.verb} {self.resource} #{self.nth}"

    def is_write(self) -> bool:
        return self.verb not in ("GET", "LIST")


ANY_WRITE = Call(verb="WRITE", resource="anything")
"""The first write of all."""


class How(enum.Enum):
    """What happens at a call."""

    KILL_BEFORE = "SIGKILL before it is sent"
    KILL_AFTER = "SIGKILL before its answer arrives"
    CONFLICT = "409"
    CONFLICT_TWICE = "409 twice"
    THROTTLED = "429 with Retry-After"
    FAILED = "500"
    UNAVAILABLE_TWICE = "503 twice"
    DENIED = "403 of an admission webhook"
    LOST_REQUEST = "connection cut before it is sent"
    LOST_ANSWER = "connection cut before its answer arrives"
    HUNG_REQUEST = "no answer in time, and nothing done"
    HUNG_ANSWER = "no answer in time, though it was done"
    CHANGED_MEANWHILE = "the change is taken back before its answer arrives"


class Watch(enum.Enum):
    """What happens to a watch while the change is made."""

    CUT = "cut, and refused until the change is made"
    EXPIRED = "cut until the change is made, and too old to go on"
    LATE = "late by half a second"
    DEAF = "open, and silent for good"


STATUSES = {How.CONFLICT: 409, How.CONFLICT_TWICE: 409, How.THROTTLED: 429, How.FAILED: 500, How.UNAVAILABLE_TWICE: 503}
TWICE = (How.CONFLICT_TWICE, How.UNAVAILABLE_TWICE)
KILLS = (How.KILL_BEFORE, How.KILL_AFTER)
DONE_UNSEEN = (How.LOST_ANSWER, How.HUNG_ANSWER)
"""The operator cannot know that the write was done, and may send it once more."""

ALL_WATCHES = "all"


@dataclass(frozen=True, kw_only=True)
class AtCall:
    """A fault at a call."""

    how: How
    call: Call

    def __str__(self) -> str:
        return f"{self.call}: {self.how.value}"


@dataclass(frozen=True, kw_only=True)
class AtWatch:
    """A fault of the watches of a resource, or of all of them."""

    how: Watch
    resource: str

    def __str__(self) -> str:
        return f"watch of {self.resource}: {self.how.value}"


class Store(enum.Enum):
    """What happens to etcd while the change is made."""

    RESTART = "etcd is killed and started again just before the change"
    RESTART_AFTER = "etcd is killed and started again just after the change"
    PAUSE = "etcd stands still for a moment just after the change"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run of a change with its faults.

    Attributes:
        change: its name.
        is_down: the change is made while no operator runs; the faults meet the one that starts then.
        faults: the second one can happen only after the first.
        is_undone: while the operator is down after the first fault, the change is taken back.
        store: a fault of the store, which all plans of the moment share.
    """

    change: str
    is_down: bool = False
    faults: tuple[AtCall | AtWatch, ...] = ()
    is_undone: bool = False
    store: Store | None = None

    def __str__(self) -> str:
        words = [self.change, *(["operator down"] if self.is_down else []), *map(str, self.faults)]
        words += ["taken back meanwhile"] if self.is_undone else []
        words += [self.store.value] if self.store else []
        return "; ".join(words)

    def may_repeat_a_write(self) -> bool:
        """Whether an answer got lost, so that the operator may send once more what was done."""
        return self.store is not None or any(
            isinstance(fault, AtCall) and fault.how in DONE_UNSEEN for fault in self.faults
        )

    def ends_as_it_began(self) -> bool:
        """Whether the change is taken back."""
        return self.is_undone or any(
            isinstance(fault, AtCall) and fault.how is How.CHANGED_MEANWHILE for fault in self.faults
        )


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a fault-free run of a change showed: its calls, and whether the change can be taken back."""

    change: str
    is_down: bool
    calls: tuple[Call, ...]
    can_undo: bool


def enumerate_plans(runs: Iterable[Seen], watches: Sequence[str]) -> list[Plan]:
    """Every plan, without order. `watches`: the resources that the operator watches."""
    plans: list[Plan] = []
    for run in runs:
        for call in run.calls:
            plans += _at(run, call)
        if not run.is_down:
            plans += _around(run, watches)
    return plans


def _at(run: Seen, call: Call) -> list[Plan]:
    def plan(*faults: AtCall, is_undone: bool = False) -> Plan:
        return Plan(change=run.change, is_down=run.is_down, faults=faults, is_undone=is_undone)

    def hits(how: How) -> bool:
        if how is How.DENIED:
            return call.verb == "PATCH" and "/" not in call.resource
        if how is How.CHANGED_MEANWHILE:
            return run.can_undo and not run.is_down and call.verb != "LIST"
        return call.is_write() or how not in (How.CONFLICT, How.CONFLICT_TWICE, How.HUNG_ANSWER)

    plans = [plan(AtCall(how=how, call=call)) for how in How if hits(how)]
    if call.is_write():
        plans += [
            plan(AtCall(how=how, call=call), AtCall(how=second, call=ANY_WRITE)) for how in KILLS for second in KILLS
        ]
        plans.append(plan(AtCall(how=How.KILL_AFTER, call=call), AtCall(how=How.FAILED, call=ANY_WRITE)))
        if run.can_undo:
            plans += [plan(AtCall(how=how, call=call), is_undone=True) for how in KILLS]
    return plans


def _around(run: Seen, watches: Sequence[str]) -> list[Plan]:
    plans = [
        Plan(change=run.change, faults=(AtWatch(how=how, resource=resource),))
        for how in Watch
        for resource in (*watches, ALL_WATCHES)
    ]
    late = AtWatch(how=Watch.LATE, resource=ALL_WATCHES)
    writes = [call for call in run.calls if call.is_write()]
    plans += [
        Plan(change=run.change, faults=(late, AtCall(how=how, call=call)))
        for call in writes
        for how in (How.KILL_AFTER, How.FAILED, How.LOST_ANSWER)
    ]
    return plans + [Plan(change=run.change, store=store) for store in Store]


def choose(plans: Sequence[Plan], count: int, seed: int) -> list[Plan]:
    """The first plans in an order that the seed decides. Each change and each fault comes early, and equally often."""
    order = list(plans)
    random.Random(seed).shuffle(order)  # noqa: S311 -- which plans, not secrets
    used: dict[str, int] = {}
    ranked: list[tuple[int, int, Plan]] = []
    for at, plan in enumerate(order):
        kinds = (plan.change, _fault_kind(plan))
        ranked.append((max(used.get(kind, 0) for kind in kinds), at, plan))
        for kind in kinds:
            used[kind] = used.get(kind, 0) + 1
    ranked.sort(key=lambda each: each[:2])
    return [plan for _, _, plan in ranked[:count]]


def _fault_kind(plan: Plan) -> str:
    return " + ".join(fault_kinds(plan)) or "none"


def fault_kinds(plan: Plan) -> list[str]:
    """The plan's faults without their places."""
    kinds = [fault.how.value for fault in plan.faults] + (["taken back"] if plan.is_undone else [])
    return kinds + ([plan.store.value] if plan.store else [])


def tally(plans: Iterable[Plan]) -> Mapping[str, int]:
    """How many plans have each combination of faults."""
    found: dict[str, int] = {}
    for plan in plans:
        kind = _fault_kind(plan)
        found[kind] = found.get(kind, 0) + 1
    return dict(sorted(found.items()))
