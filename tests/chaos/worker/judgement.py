"""(pure) Was anything lost, done twice without a reason, or done against a policy?

The journal is the evidence: what tasks did (`taken`, `began`, `done`, `left`), what was sent, and every fault. The
rules are strict on purpose; each repetition has to be explained by a fault that hit that very delivery, and the report
gives the explanation.

* **Lost**: a call that was published and has no `done`. In the window of a failover of Redis that is Redis' own limit:
  what its replica did not have is gone. The same holds for a message's move to a worker and for a settlement, which
  then lead to a repetition.
* **Repeated**: by the time a task begins for the (n+1)th time, n deliveries of it must have been interrupted. A
  delivery is interrupted when its worker (or the child that ran it) ended before its end can have reached Redis, or
  when its lease was really lost: its worker paused for about a lease. An outage of Redis explains nothing, however long
  it was, and neither does a step of a clock. `SETTLING_SECONDS` is how long the end of a task may be on its way, not
  counting the time in which Redis does not answer. A drain that cuts a task short hands its message back first and ends
  its worker so much later at most. A call whose caller was cut off by an outage may have been published more than once,
  because the client sends again what was not answered.
* **Early**: a task with an ETA does not begin before it, unless the clock of its worker's host was stepped.
* **Exclusive**: two runs of a key do not overlap, unless the earlier one had lost its lock in the same way, or because
  Redis' clock was stepped, by which it ends locks; and a run without a fence is one that began while Redis did not
  answer.
* **Throttle**: of two calls of a key that were published, the later is not within the window of the earlier, unless
  Redis' clock was stepped in between; a call that was not published is within the window of one that was.
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
EARLY_SECONDS = 0.1
"""Celery's timers and two clocks of one machine."""


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


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Cut:
    """How a delivery was cut off from its message."""

    at: float
    why: str


@dataclass(kw_only=True, slots=True)
class Verdict:
    """What the campaign found."""

    counts: dict[str, int]
    violations: list[str] = field(default_factory=list)
    explanations: list[str] = field(default_factory=list)
    """One sentence for each run that was a repetition, and for each call that Redis has lost."""


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
    clocks: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Host (`redis`, or a worker's name) -> when its clock was stepped, and by how many seconds."""
    failovers: list[tuple[float, float]] = field(default_factory=list)
    """When what a primary answered was lost with it."""
    strays: dict[str, str] = field(default_factory=dict)
    """Mark of a malformed message -> its shape."""


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
        else:
            _add_fault(found, it)
    return found


def _add_fault(found: Evidence, it: Record) -> None:
    what, at = it["what"], it["at"]
    if what == "ended":
        found.ended[it["worker"]] = at
    elif what == "child ended":
        found.children_ended.setdefault(it["pid"], []).append(at)
    elif what == "paused":
        found.paused.setdefault(it["worker"], []).append((it["since"], at))
    elif what == "away":
        found.away.append((it["since"], at))
    elif what == "clock":
        found.clocks.setdefault(it["host"], []).append((at, it["by"]))
    elif what == "failover":
        found.failovers.append((it["since"], it["until"]))
    elif what == "stray":
        found.strays[it["mark"]] = it["shape"]


def judge(evidence: Evidence) -> Verdict:
    """Apply the rules."""
    by_number: dict[int, list[Delivery]] = collections.defaultdict(list)
    for delivery in evidence.deliveries.values():
        by_number[delivery.number].append(delivery)
    published = {it["number"] for it in evidence.sent if it["published"]}
    dropped = {it["number"] for it in evidence.sent if it["published"] is False}
    done = {number for number, all_of_it in by_number.items() if any(it.done for it in all_of_it)}
    runs = {number: [it for it in all_of_it if it.began is not None] for number, all_of_it in by_number.items()}
    repeated = sum(max(0, len(it) - 1) for it in runs.values())
    overtaken = {
        it["number"]
        for it in evidence.sent
        if it["number"] in published - done and _touches(evidence.failovers, it["asked"], it["at"])
    }
    interrupted = [it for it in evidence.deliveries.values() if cut_of(it, evidence) is not None]
    explanations, unexplained = _repetitions(by_number, evidence)
    explanations += [
        f"task {it} is lost: a failover of Redis, whose replica did not have it" for it in sorted(overtaken)
    ]
    violations = [
        *(f"task {number} is lost" for number in sorted(published - done - overtaken)),
        *(f"task {number} ran though it was not published" for number in sorted(set(runs) & dropped)),
        *unexplained,
        *_early(evidence),
        *_overlaps(evidence),
        *_throttled(evidence),
    ]
    counts = {
        "tasks sent": len(evidence.sent),
        "published": len(published),
        "dropped by Throttle": len(dropped),
        "published or not, which their caller could not know": len(evidence.sent) - len(published) - len(dropped),
        "done": len(done & published),
        "lost": len(published - done - overtaken),
        "lost with a primary that had not replicated them": len(overtaken),
        "deliveries to a task": len(evidence.deliveries),
        "deliveries interrupted": len(interrupted),
        "repeated runs": repeated,
        "policies or repetitions violated": len(violations) - len(published - done - overtaken),
        "runs under Exclusive": sum(it["task"] in EXCLUSIVE for it in evidence.sent),
    }
    return Verdict(counts=counts, violations=violations, explanations=explanations)


EXCLUSIVE = {"exclusive", "waiting"}


def cut_of(delivery: Delivery, evidence: Evidence) -> Cut | None:
    """The first fault that cut a delivery off from its message; `None` when none did."""
    ends = [(at, "its child ended") for at in evidence.children_ended.get(delivery.pid, ()) if at >= delivery.taken]
    if delivery.worker in evidence.ended:
        ends.append((evidence.ended[delivery.worker], f"{delivery.worker} ended"))
    cuts = []
    for at, why in ends:
        if not _still_unsettled(delivery, at, evidence):
            continue
        if delivery.left is None:
            when = f"{at - delivery.taken:.1f} s after it had taken the message"
        else:
            when = f"{at - delivery.left:.1f} s after the end of the run, which was not settled yet"
        # The end of a worker is noted later than it happened, and a drain gives messages back before it.
        moment = at if delivery.done is not None else max(at - SETTLING_SECONDS, delivery.taken)
        cuts.append(Cut(at=moment, why=f"{why} {when}"))
    # An outage of Redis, however long, takes no lease from a worker that lives through it.
    for since, until in evidence.paused.get(delivery.worker, ()):
        lost_lease = until - since >= evidence.limits.lease * 0.5 and until >= delivery.taken
        if lost_lease and _still_unsettled(delivery, since, evidence):
            why = f"{delivery.worker} was paused for {until - since:.1f} s, longer than its lease"
            cuts.append(Cut(at=max(since, delivery.taken), why=why))
    end = float("inf") if delivery.left is None else delivery.left + SETTLING_SECONDS
    for since, until in evidence.failovers:
        if _touches([(since, until)], delivery.taken - SETTLING_SECONDS, end):
            why = "its move to a worker or its end was not replicated before a failover of Redis"
            cuts.append(Cut(at=max(since, delivery.taken), why=why))
    return min(cuts, default=None)


def _still_unsettled(delivery: Delivery, at: float, evidence: Evidence) -> bool:
    if delivery.left is None or delivery.left >= at:
        return True
    answered = at - delivery.left - _overlap(evidence.away, delivery.left, at)
    answered -= _overlap(evidence.paused.get(delivery.worker, ()), delivery.left, at)
    return answered <= SETTLING_SECONDS


def _touches(intervals: Iterable[tuple[float, float]], begin: float, end: float) -> bool:
    return any(since <= end and begin <= until for since, until in intervals)


def _overlap(intervals: Iterable[tuple[float, float]], begin: float, end: float) -> float:
    return sum(max(0.0, min(end, until) - max(begin, since)) for since, until in intervals)


def _repetitions(by_number: dict[int, list[Delivery]], evidence: Evidence) -> tuple[list[str], list[str]]:
    """A sentence for each repetition that has an explanation, and for each that has none."""
    calls = {it["number"]: it for it in evidence.sent}
    explained, unexplained = [], []
    for number, all_of_it in sorted(by_number.items()):
        begins = sorted((it for it in all_of_it if it.began is not None), key=lambda it: it.began or 0)
        cuts = sorted(((cut, it) for it in all_of_it if (cut := cut_of(it, evidence))), key=lambda pair: pair[0])
        for repeats, run in enumerate(begins[1:], 1):
            reasons = [cut.why for cut, it in cuts if it is not run and cut.at <= (run.began or 0)]
            said = f"task {number} began for the {repeats + 1}. time, in {run.worker}"
            if len(reasons) >= repeats:
                explained.append(f"{said}: {reasons[repeats - 1]}")
            elif _was_cut_off(calls.get(number), evidence):
                explained.append(f"{said}: Redis went away before it answered the caller, whose client sent it again")
            else:
                unexplained.append(f"{said}, and only {len(reasons)} of its deliveries had been interrupted")
    return explained, unexplained


def _was_cut_off(call: Record | None, evidence: Evidence) -> bool:
    """Whether Redis went away while a call was published."""
    return call is not None and _overlap(evidence.away, call["asked"], call["at"]) > 0


def _early(evidence: Evidence) -> Iterator[str]:
    calls = {it["number"]: it for it in evidence.sent}
    for run in evidence.deliveries.values():
        call = calls.get(run.number)
        if call is None or run.began is None or run.worker in evidence.clocks:
            continue
        seconds = call["asked"] + call.get("countdown", 0) - run.began
        if seconds > EARLY_SECONDS:
            yield f"task {run.number} began {seconds:.2f} s before its ETA, in {run.worker}"


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
    if _stepped(evidence, run.taken, run.done or _end_of(run, evidence)):
        return True
    return any(
        until - since >= evidence.limits.lock * 0.5 and until >= (run.began or 0) and since <= (run.done or until)
        for since, until in pauses
    )


def _stepped(evidence: Evidence, begin: float, end: float) -> bool:
    """Whether Redis' clock was stepped in a time; what ends by its clock may then end at any moment."""
    return any(begin - SETTLING_SECONDS <= at <= end + SETTLING_SECONDS for at, _ in evidence.clocks.get("redis", ()))


def _throttled(evidence: Evidence) -> Iterator[str]:
    by_key: dict[str, list[Record]] = collections.defaultdict(list)
    for it in evidence.sent:
        if it["task"] == "throttled":
            by_key[it["key"]].append(it)
    window = evidence.limits.throttle
    for key, calls in by_key.items():
        published = sorted((it for it in calls if it["published"]), key=lambda it: it["at"])
        for earlier, later in itertools.pairwise(published):
            if later["at"] < earlier["asked"] + window - 0.01 and not _stepped(evidence, earlier["asked"], later["at"]):
                yield f"calls {earlier['number']} and {later['number']} of {key} were both published in one window"
        for it in calls:
            if not it["published"] and not any(
                first["asked"] <= it["at"]
                and it["asked"] <= first["at"] + window + _stepped_back(evidence, first["asked"], it["at"])
                for first in published
            ):
                yield f"call {it['number']} of {key} was dropped outside any window"


def _stepped_back(evidence: Evidence, begin: float, end: float) -> float:
    """By how many seconds Redis' clock was stepped back in a time; a window may last longer by that."""
    return sum(-by for at, by in evidence.clocks.get("redis", ()) if by < 0 and begin <= at <= end)
