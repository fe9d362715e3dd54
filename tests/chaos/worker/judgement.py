"""(pure) Was anything lost, done twice without a reason, or done against a policy?

The journal is the evidence: what tasks did (`taken`, `began`, `done`, `left`), what was sent, and every fault. The
rules are strict on purpose; each repetition has to be explained by a fault that hit that very delivery.

* **Lost**: a call that was published and has no `done`.
* **Repeated**: by the time a task begins for the (n+1)th time, n deliveries of it must have been interrupted. A
  delivery is interrupted when its worker (or the child that ran it) ended before its end can have reached Redis, or
  when its lease was really lost: its worker paused for about a lease. An outage of Redis explains nothing, however long
  it was. `SETTLING_SECONDS` is how long
  the end of a task may be on its way, not counting the time in which Redis does not answer. A drain that cuts a task
  short hands its message back first and ends its worker so much later at most.
* **Exclusive**: two runs of a key do not overlap, unless the earlier one had lost its lock in the same way; and a run
  without a fence is one that began while Redis did not answer.
* **Throttle**: of two calls of a key that were published, the later is not within the window of the earlier; a call
  that was not published is within the window of one that was.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]

SETTLING_SECONDS = 3.0
"""Generous: a busy machine, a pipe from a child, the next round trip."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The times that the workers were configured with, in seconds."""

    lease: float
    lock: float
    throttle: float


@dataclass(kw_only=True, slots=True)
class Delivery:
    """One delivery of one task, as its worker noted it."""

    number: int
    worker: str
    pid: int
    taken: float
    began: float | None = None
    done: float | None = None
    left: float | None = None
    fence: int | None = None


@dataclass(kw_only=True, slots=True)
class Verdict:
    """What the campaign found."""

    counts: dict[str, int]
    violations: list[str] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class Evidence:
    """The journal, sorted."""

    limits: Limits
    sent: list[Record] = field(default_factory=list)
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    """Worker -> when its process was gone, for whatever reason."""
    children_ended: dict[int, list[float]] = field(default_factory=dict)
    paused: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    away: list[tuple[float, float]] = field(default_factory=list)
    """When Redis did not answer."""

    def of(self, number: int) -> list[Delivery]:
        return [it for it in self.deliveries.values() if it.number == number]


def read(records: Iterable[Record], limits: Limits) -> Evidence:
    """Sort the records of a journal."""
    found = Evidence(limits=limits)
    for it in records:
        what, at = it["what"], it["at"]
        if what == "taken":
            found.deliveries[it["delivery"]] = Delivery(
                number=it["number"], worker=it["worker"], pid=it["pid"], taken=at
            )
        elif what in {"began", "done", "left"}:
            delivery = found.deliveries[it["delivery"]]
            setattr(delivery, what, at)
            if what == "began":
                delivery.fence = it["fence"]
        elif what == "sent":
            found.sent.append(it)
        elif what == "ended":
            found.ended[it["worker"]] = at
        elif what == "child ended":
            found.children_ended.setdefault(it["pid"], []).append(at)
        elif what == "paused":
            found.paused.setdefault(it["worker"], []).append((it["since"], at))
        elif what == "away":
            found.away.append((it["since"], at))
    return found


def judge(evidence: Evidence) -> Verdict:
    """Apply the rules."""
    by_number: dict[int, list[Delivery]] = collections.defaultdict(list)
    for delivery in evidence.deliveries.values():
        by_number[delivery.number].append(delivery)
    published = {it["number"] for it in evidence.sent if it["published"]}
    done = {number for number, all_of_it in by_number.items() if any(it.done for it in all_of_it)}
    runs = {number: [it for it in all_of_it if it.began is not None] for number, all_of_it in by_number.items()}
    repeated = sum(max(0, len(it) - 1) for it in runs.values())
    interrupted = [it for it in evidence.deliveries.values() if interrupted_at(it, evidence) is not None]
    violations = [
        *(f"task {number} is lost" for number in sorted(published - done)),
        *(f"task {number} ran though it was not published" for number in sorted(set(runs) - published)),
        *_unexplained(by_number, evidence),
        *_overlaps(evidence),
        *_throttled(evidence),
    ]
    counts = {
        "tasks sent": len(evidence.sent),
        "published": len(published),
        "dropped by Throttle": len(evidence.sent) - len(published),
        "done": len(done & published),
        "lost": len(published - done),
        "deliveries to a task": len(evidence.deliveries),
        "deliveries interrupted": len(interrupted),
        "repeated runs": repeated,
        "policies or repetitions violated": len(violations) - len(published - done),
        "runs under Exclusive": sum(it["task"] in EXCLUSIVE for it in evidence.sent),
    }
    return Verdict(counts=counts, violations=violations)


EXCLUSIVE = {"exclusive", "waiting"}


def interrupted_at(delivery: Delivery, evidence: Evidence) -> float | None:
    """When a delivery was cut off from its message; `None` when it was not."""
    ends = [evidence.ended[delivery.worker]] if delivery.worker in evidence.ended else []
    ends += [at for at in evidence.children_ended.get(delivery.pid, ()) if at >= delivery.taken]
    moments = [at for at in ends if _still_unsettled(delivery, at, evidence)]
    if delivery.done is None:
        moments = [max(at - SETTLING_SECONDS, delivery.taken) for at in moments]
    # An outage of Redis, however long, takes no lease from a worker that lives through it.
    for since, until in evidence.paused.get(delivery.worker, ()):
        lost_lease = until - since >= evidence.limits.lease * 0.5 and until >= delivery.taken
        if lost_lease and _still_unsettled(delivery, since, evidence):
            moments.append(max(since, delivery.taken))
    return min(moments, default=None)


def _still_unsettled(delivery: Delivery, at: float, evidence: Evidence) -> bool:
    if delivery.left is None or delivery.left >= at:
        return True
    answered = at - delivery.left - _overlap(evidence.away, delivery.left, at)
    answered -= _overlap(evidence.paused.get(delivery.worker, ()), delivery.left, at)
    return answered <= SETTLING_SECONDS


def _overlap(intervals: Iterable[tuple[float, float]], begin: float, end: float) -> float:
    return sum(max(0.0, min(end, until) - max(begin, since)) for since, until in intervals)


def _unexplained(by_number: dict[int, list[Delivery]], evidence: Evidence) -> Iterator[str]:
    for number, all_of_it in sorted(by_number.items()):
        begins = sorted((it for it in all_of_it if it.began is not None), key=lambda it: it.began or 0)
        cuts = sorted(at for it in all_of_it if (at := interrupted_at(it, evidence)) is not None)
        for repeats, run in enumerate(begins[1:], 1):
            explained = sum(at <= (run.began or 0) for at in cuts)
            if explained < repeats:
                yield (
                    f"task {number} began for the {repeats + 1}. time, in {run.worker}, and only {explained} of its "
                    f"deliveries had been interrupted"
                )


def _overlaps(evidence: Evidence) -> Iterator[str]:
    tasks = {it["number"]: it for it in evidence.sent if it["task"] in EXCLUSIVE}
    by_key: dict[str, list[Delivery]] = collections.defaultdict(list)
    for it in evidence.deliveries.values():
        if it.number in tasks and it.began is not None:
            by_key[f"{tasks[it.number]['task']}/{tasks[it.number]['key']}"].append(it)
    for key, runs in by_key.items():
        runs.sort(key=lambda it: it.began or 0)
        for earlier, later in itertools.pairwise(runs):
            end = earlier.done or _end_of(earlier, evidence)
            if (later.began or 0) < end and not _lock_was_lost(earlier, evidence) and later.fence is not None:
                yield f"tasks {earlier.number} and {later.number} of {key} ran at the same time"
            if None not in {earlier.fence, later.fence} and (later.fence or 0) <= (earlier.fence or 0):
                yield f"the fence of {key} did not grow from task {earlier.number} to {later.number}"
        for it in runs:
            if it.fence is None and not _overlap(evidence.away, it.taken - SETTLING_SECONDS, it.began or 0):
                yield f"task {it.number} of {key} ran without its lock while Redis answered"


def _end_of(run: Delivery, evidence: Evidence) -> float:
    """When a run that was not finished stopped: with its child or its worker."""
    ends = [at for at in evidence.children_ended.get(run.pid, ()) if at >= run.taken]
    return min([*ends, evidence.ended.get(run.worker, run.began or 0)])


def _lock_was_lost(run: Delivery, evidence: Evidence) -> bool:
    if run.fence is None:
        return True  # it never had one, which is judged by itself
    pauses = [*evidence.paused.get(run.worker, ()), *evidence.away]
    return any(
        until - since >= evidence.limits.lock * 0.5 and until >= (run.began or 0) and since <= (run.done or until)
        for since, until in pauses
    )


def _throttled(evidence: Evidence) -> Iterator[str]:
    by_key: dict[str, list[Record]] = collections.defaultdict(list)
    for it in evidence.sent:
        if it["task"] == "throttled":
            by_key[it["key"]].append(it)
    window = evidence.limits.throttle
    for key, calls in by_key.items():
        published = [it for it in calls if it["published"]]
        for earlier, later in itertools.pairwise(published):
            if later["at"] < earlier["asked"] + window - 0.01:
                yield f"calls {earlier['number']} and {later['number']} of {key} were both published in one window"
        for it in calls:
            if not it["published"] and not any(
                first["asked"] <= it["at"] and it["asked"] <= first["at"] + window for first in published
            ):
                yield f"call {it['number']} of {key} was dropped outside any window"
