"""Tasks, workers, a Redis, and a plan of faults: carried out, settled, and judged.

One thread does everything in the order of time: it sends tasks, carries out faults, looks which workers have ended and
starts others. A call is not sent while Redis is being stopped, so that each is known to be published or not; only the
calls of one kind of fault are, and the journal says which these are.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from tests.chaos.worker import clocks, journal, judgement, plan, strays
from tests.chaos.worker.calls import GREEN_QUEUE, Calls
from tests.chaos.worker.clocks import Clock
from tests.chaos.worker.fleet import APPS, LEASE_SECONDS, Fleet, Slot, broker_environment
from tests.chaos.worker.judgement import Limits, Verdict
from tests.chaos.worker.plan import Fault, Kind, Target
from tests.chaos.worker.redis_faults import SIDE_QUEUE, RedisFaults
from tests.chaos.worker.schedule import Schedule
from tests.chaos.worker.strays import Strays
from tests.integration.worker.processes import RedisServer

QUEUES = ("celery", SIDE_QUEUE, GREEN_QUEUE)
SLOTS = (
    Slot(pool="prefork", concurrency=3, queues=("celery", SIDE_QUEUE)),
    Slot(pool="threads", concurrency=4, queues=("celery", SIDE_QUEUE)),
    Slot(pool="prefork", concurrency=2),
    # Their window is larger than their slots.
    Slot(pool="gevent", concurrency=3, queues=QUEUES, prefetch=6),
    Slot(pool="eventlet", concurrency=2, queues=("celery", GREEN_QUEUE), prefetch=4),
)
TEMPLATE_QUEUE = "template"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How big a campaign is."""

    seed: int
    tasks: int
    seconds: float
    """Tasks are sent and faults begin within this time; then everything is settled."""
    settle_seconds: float = 120.0
    """After this time in which nothing is settled any more, the rest counts as lost."""
    gap_seconds: tuple[float, float] = (0.4, 2.2)
    """The shortest and the longest time between two faults."""


class Campaign:
    """One campaign in one directory; `run` does all of it, `clean_up` ends whatever runs."""

    def __init__(self, directory: Path, settings: Settings, progress: Callable[[str], object]) -> None:
        self.settings = settings
        self.progress = progress
        self.journal = directory / "journal"
        self.reader = journal.Reader(self.journal)
        self.counts: dict[str, int] = {kind.value: 0 for kind in Kind}
        self.schedule = Schedule()
        library = clocks.build(directory)
        redis_directory = directory / "redis"
        redis_directory.mkdir()
        self.redis = RedisServer(redis_directory)
        clock = Clock(library, directory / "clock")
        self.redis.environment = clock.environment
        self.faults = RedisFaults(
            self.redis, clock, self.journal, schedule=self.schedule, step_seconds=LEASE_SECONDS * 2
        )
        self.fleet = Fleet(
            directory, SLOTS, broker_environment(self.redis.url), clock_library=library, schedule=self.schedule
        )
        self.application = load_application(self.journal, self.redis.url)
        self.calls = Calls(
            self.application,
            self.journal,
            random.Random(settings.seed),  # noqa: S311 - a plan that can be repeated
        )

    def run(self) -> Verdict:
        """Carry it out; what was found."""
        self.redis.start()
        self.strays = Strays(self._template(), self.journal)
        self.fleet.start()
        self._fault_phase()
        self._recover()
        is_settled = self._settle()
        self.fleet.stop()
        limits = Limits(
            lease=LEASE_SECONDS, lock=self.application.LOCK_SECONDS, throttle=self.application.THROTTLE_SECONDS
        )
        evidence = judgement.read(self.reader.read(), limits)
        verdict = judgement.judge(evidence)
        letters = self._dead_letters()
        verdict.violations += strays.judge(evidence.strays, letters)
        verdict.counts |= {"malformed messages": len(evidence.strays), "dead letters": len(letters), **self.counts}
        if not is_settled:
            self.fleet.trouble.append(f"nothing is settled for {self.settings.settle_seconds:g} s: {self._unsettled()}")
        verdict.violations += self.fleet.trouble
        return verdict

    def clean_up(self) -> None:
        """End every process that the campaign has started."""
        self.fleet.clean_up()
        self.redis.kill()
        self.calls.clean_up()

    # --- the phase of faults

    def _fault_phase(self) -> None:
        begun = time.monotonic()
        until = begun + self.settings.seconds
        faults = plan.build(
            self.settings.seed,
            seconds=self.settings.seconds,
            pause_seconds=LEASE_SECONDS * 1.5,
            gap_seconds=self.settings.gap_seconds,
        )
        for fault in faults:
            self.schedule.at(begun + fault.at, lambda fault=fault: self._carry_out(fault))
        told, planned = begun, 0
        while (now := time.monotonic()) < until or planned < self.settings.tasks:
            self.schedule.run_due()
            self.fleet.look_after()
            wanted = min(self.settings.tasks, int(self.settings.tasks * (now - begun) / self.settings.seconds))
            if not self.faults.is_away:
                for _ in range(wanted - planned):
                    self.calls.send(with_side_queue=not self.faults.is_side_queue_broken)
                planned = max(planned, wanted)
            if now - told > 5:
                told = now
                self._tell(now - begun)
            time.sleep(0.02)

    def _carry_out(self, fault: Fault) -> None:
        target = fault.kind.target
        if target is not Target.WORKER and fault.kind is not Kind.STEP_WORKER and self.faults.is_away:
            self.schedule.after(1, lambda: self._carry_out(fault))
            return
        done = True
        if target is Target.WORKER or fault.kind is Kind.STEP_WORKER:
            done = self.fleet.hit(fault, {it["worker"] for it in self.reader.read() if it["what"] == "taken"})
        elif target is Target.REDIS:
            self.faults.disturb(fault, self.calls.rush_away if fault.kind is Kind.RUSH_AWAY else None)
        elif fault.kind is Kind.STEP_REDIS:
            self.faults.step_clock(fault)
        elif fault.kind is Kind.WRONG_TYPE:
            self.faults.break_side_queue(fault)
        elif fault.kind is Kind.FILL_GREEN:
            self.calls.fill_green(sum(it.concurrency for it in SLOTS if it.is_green))
        elif fault.kind is Kind.RUSH:
            self.calls.rush()
        else:
            self._push_strays()
        self.counts[fault.kind.value] += done

    def _push_strays(self) -> None:
        with redis.Redis.from_url(self.redis.url) as client:
            for _ in range(strays.AT_ONCE):
                self.strays.push(client, "celery")
                self.calls.send(with_side_queue=False)

    def _template(self) -> dict[str, Any]:
        """A message as a producer sends it."""
        self.application.plain.apply_async(
            kwargs={"number": 0, "key": "", "seconds": 0}, queue=TEMPLATE_QUEUE, ignore_result=True
        )
        with redis.Redis.from_url(self.redis.url) as client:
            found: dict[str, Any] = json.loads(client.lpop(TEMPLATE_QUEUE))
        return found

    def _tell(self, seconds: float) -> None:
        records = self.reader.read()
        done = len({it["number"] for it in records if it["what"] == "done"})
        self.progress(
            f"{seconds:4.0f} s  sent {self.calls.sent}  done {done}  faults {sum(self.counts.values())}  "
            f"workers started {len(self.fleet.all)}"
        )

    # --- the end

    def _recover(self) -> None:
        """Let everything that is still away come back."""
        self.fleet.recover()
        while self.faults.is_away:
            self.schedule.run_due()
            time.sleep(0.02)
        self.schedule.clear()
        self.faults.settle_clock()
        self.faults.mend_side_queue()
        self.calls.finish()

    def _unsettled(self) -> dict[str, int]:
        with redis.Redis.from_url(self.redis.url) as client:
            lists = [name for queue in QUEUES for name in client.scan_iter(f"{queue}*") if client.type(name) == b"list"]
            return {
                "in queues": sum(map(client.llen, lists)),
                "held": sum(client.hlen(f"celeriac:held:{{{it}}}") for it in QUEUES),
            }

    def _dead_letters(self) -> list[bytes]:
        with redis.Redis.from_url(self.redis.url) as client:
            entries = [entry for it in QUEUES for _, entry in client.xrange(f"celeriac:dead:{{{it}}}")]
        return [b" ".join(entry.values()) for entry in entries]

    def _settle(self) -> bool:
        changed = told = time.monotonic()
        before: dict[str, int] = {}
        while time.monotonic() - changed < self.settings.settle_seconds:
            self.fleet.look_after()
            left = self._unsettled()
            if not any(left.values()):
                return True
            if left != before:
                before, changed = left, time.monotonic()
            if time.monotonic() - told > 5:
                told = time.monotonic()
                self.progress(f"settling: {json.dumps(left)}")
            time.sleep(0.1)
        return False


def load_application(notes: Path, url: str, options: dict[str, Any] | None = None) -> Any:
    """The application of the tasks, for a producer of many threads."""
    os.environ["CHAOS_JOURNAL"] = str(notes)
    if str(APPS) not in sys.path:
        sys.path.insert(0, str(APPS))
    import chaos_app  # noqa: PLC0415 - it reads the environment

    chaos_app.app.conf.update(broker_url=url, broker_transport_options=options or {}, broker_pool_limit=64)
    return chaos_app
