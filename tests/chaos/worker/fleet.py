"""The workers of a campaign: started, killed, paused, their clocks stepped, replaced when they have ended."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.worker import journal
from tests.chaos.worker.clocks import Clock
from tests.chaos.worker.plan import Fault, Kind
from tests.chaos.worker.schedule import Schedule
from tests.integration.worker.processes import WorkerProcess, document, free_port, worker_command

LEASE_SECONDS = 8
DRAIN_SECONDS = 3
ROOT = Path(__file__).parents[3]
APPS = Path(__file__).parent / "apps"
MOST_DELIVERIES = 25
"""More than the kills of a campaign cost any one message, and fewer than its outages would."""
START_SECONDS = 300.0
"""Longer than workers take to start on a busy machine."""
MOST_TROUBLE = 5
"""If more workers than this end by themselves, something is wrong with all of them, and going on shows nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """One of the workers that run at a time."""

    pool: str
    concurrency: int
    queues: tuple[str, ...] = ("celery",)
    prefetch: int | None = None

    @property
    def is_green(self) -> bool:
        return self.pool in {"gevent", "eventlet"}


@dataclass(slots=True)
class Running:
    """One worker process."""

    name: str
    slot: int
    process: WorkerProcess
    clock: Clock
    leaving: bool = False
    paused_since: float | None = None


class Fleet:
    """All workers of one campaign.

    Args:
        directory: for their logs; the journal is in it.
        slots: the workers that run at a time.
        environment: of each worker; it has the URL of the broker.
        clock_library: what `clocks.build` has made.
        schedule: ends the faults.
    """

    def __init__(
        self,
        directory: Path,
        slots: Collection[Slot],
        environment: Mapping[str, str],
        *,
        clock_library: Path,
        schedule: Schedule,
    ) -> None:
        self.directory = directory
        self.slots = tuple(slots)
        self.environment = environment
        self.clock_library = clock_library
        self.schedule = schedule
        self.journal = directory / "journal"
        self.trouble: list[str] = []
        """A sentence for each worker that ended by itself or did not end as it should."""
        self.all: list[Running] = []
        self._running: list[Running] = []
        self._numbers = itertools.count(1)

    def start(self) -> None:
        """Start a worker for each slot, and wait until all are ready: a fault is to hit workers that work."""
        for slot in range(len(self.slots)):
            self._start_worker(slot)
        for worker in self._running:
            worker.process.until_ready(timeout=START_SECONDS)

    def look_after(self) -> None:
        """Start another worker for each that has ended by itself.

        Raises:
            RuntimeError: too many have.
        """
        for worker in [it for it in self._running if not it.process.is_alive()]:
            code = worker.process.wait()
            if not worker.leaving or code != 0:
                self.trouble.append(f"{worker.name} ended with {code} by itself; its log: {worker.process.log_file}")
                if len(self.trouble) > MOST_TROUBLE:
                    raise RuntimeError(f"{self.trouble[-1]}\n{worker.process.logs()[-2000:]}")
            self._ended(worker)

    def hit(self, fault: Fault, have_worked: Collection[str]) -> bool:
        """Carry out a fault whose target is a worker; whether there was one to hit.

        Args:
            fault: what to do.
            have_worked: names of workers. Others are not hit: on a busy machine all would be killed while they start.
        """
        hits_child = fault.kind in {Kind.KILL_CHILD, Kind.END_CHILD}
        victims = [it for it in self._running if it.paused_since is None and it.name in have_worked]
        victims = [it for it in victims if self.slots[it.slot].pool == "prefork" or not hits_child]
        if not victims:
            return False
        victim = victims[fault.pick(len(victims))]
        if hits_child:
            return self._hit_child(victim, fault)
        if fault.kind is Kind.PAUSE_WORKER:
            self._pause(victim, fault.seconds)
        elif fault.kind is Kind.STEP_WORKER:
            return self._step_clock(victim, fault)
        elif fault.kind is Kind.END_WORKER:
            if victim.leaving:
                return False
            victim.leaving = True
            victim.process.terminate()
            self._start_worker(victim.slot)  # as in a rollout
        else:
            if fault.kind is Kind.KILL_ALL:
                os.killpg(victim.process.pid, signal.SIGKILL)
            else:
                victim.process.kill()
            self._ended(victim)
        return True

    def recover(self) -> None:
        """Let paused workers go on, and let every clock be right again."""
        for worker in self._running:
            self._resume(worker)
            if worker.clock.seconds:
                self._step(worker, 0)

    def stop(self) -> None:
        """End all workers in order."""
        for worker in self._running:
            worker.leaving = True
            worker.process.terminate()
        for worker in list(self._running):
            code = worker.process.wait(DRAIN_SECONDS + 30)
            if code != 0:
                self.trouble.append(f"{worker.name} ended with {code} when told to leave")
            self._ended(worker)

    def clean_up(self) -> None:
        """End every process, whatever it does."""
        for worker in self.all:
            worker.process.clean_up()

    # --- one worker

    def _start_worker(self, number: int) -> None:
        name = f"w{next(self._numbers)}"
        directory = self.directory / name
        directory.mkdir()
        slot = self.slots[number]
        size: dict[str, Any] = {"pool": slot.pool, "concurrency": slot.concurrency}
        config = document(
            "chaos_app:app",
            port=free_port(),
            queues=list(slot.queues),
            worker=size if slot.prefetch is None else {**size, "prefetch": slot.prefetch},
            delivery={"leaseSeconds": LEASE_SECONDS, "maxDeliveries": MOST_DELIVERIES},
            drain={"timeoutSeconds": DRAIN_SECONDS},
            broker={"maxRetries": 10_000, "retryBackoffSeconds": {"initial": 0.2, "max": 1}},
        )
        clock = Clock(self.clock_library, directory / "clock")
        environment = {
            **self.environment,
            **clock.environment,
            "CHAOS_JOURNAL": str(self.journal),
            "CHAOS_WORKER": name,
            "PYTHONPATH": f"{APPS}:{ROOT}",
        }
        process = WorkerProcess(directory, config, environment, worker_command())
        running = Running(name, number, process.start(), clock)
        self._running.append(running)
        self.all.append(running)

    def _ended(self, worker: Running) -> None:
        worker.process.wait()
        journal.note(self.journal, "ended", worker=worker.name)
        self._running.remove(worker)
        if not worker.leaving:
            self._start_worker(worker.slot)

    def _hit_child(self, victim: Running, fault: Fault) -> bool:
        try:
            children = victim.process.children()
        except OSError:
            return False
        if not children:
            return False
        pid = children[int(fault.choice * 997) % len(children)]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL if fault.kind is Kind.KILL_CHILD else signal.SIGTERM)
            journal.note(self.journal, "child ended", worker=victim.name, pid=pid)
        return True

    def _pause(self, victim: Running, seconds: float) -> None:
        victim.paused_since = time.monotonic()
        os.killpg(victim.process.pid, signal.SIGSTOP)
        self.schedule.after(seconds, lambda: self._resume(victim))

    def _resume(self, victim: Running) -> None:
        if victim.paused_since is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(victim.process.pid, signal.SIGCONT)
        journal.note(self.journal, "paused", worker=victim.name, since=victim.paused_since)
        victim.paused_since = None

    def _step_clock(self, victim: Running, fault: Fault) -> bool:
        if victim.clock.seconds:
            return False
        seconds = LEASE_SECONDS * 2
        self._step(victim, seconds if int(fault.choice * 1000) % 2 else -seconds)
        self.schedule.after(fault.seconds, lambda: self._step(victim, 0))
        return True

    def _step(self, victim: Running, seconds: int) -> None:
        journal.note(self.journal, "clock", host=victim.name, by=seconds - victim.clock.seconds)
        victim.clock.step_to(seconds)


def broker_environment(url: str, options: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The variables that tell a worker and the campaign itself where the broker is."""
    return {"CELERIAC_BROKER_URL": url, "CHAOS_BROKER_OPTIONS": json.dumps(options or {})}


Progress = Callable[[str], object]
