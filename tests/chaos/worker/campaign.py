"""Tasks, workers, a Redis, and a plan of faults: carried out, settled, and judged.

One thread does everything in the order of time: it sends tasks, carries out faults, looks which workers have ended and
starts others. A call is never sent while Redis is being stopped, so that each is known to be published or not.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from kombu.exceptions import OperationalError
from tests.chaos.worker import journal, judgement, plan
from tests.chaos.worker.judgement import Limits, Verdict
from tests.chaos.worker.plan import Fault, Kind
from tests.integration.worker.processes import RedisServer, WorkerProcess, document, free_port, worker_command

LEASE_SECONDS = 8
DRAIN_SECONDS = 3
WORKERS = (("prefork", 3), ("threads", 4), ("prefork", 2))
"""Pool and slots of each worker that runs at a time."""
TASKS = ("plain",) * 7 + ("exclusive", "waiting", "throttled")
ROOT = Path(__file__).parents[3]
APPS = Path(__file__).parent / "apps"
LATER = 0.1
"""How many of the plain tasks have an ETA."""
MOST_DELIVERIES = 25
"""More than the kills of a campaign cost any one message, and fewer than its outages would."""
MOST_TROUBLE = 5
"""So many workers may end by themselves: then something is wrong with all of them, and going on shows nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How big a campaign is."""

    seed: int
    tasks: int
    seconds: float
    """Tasks are sent and faults begin within this time; then everything is settled."""
    settle_seconds: float = 240.0
    gap_seconds: tuple[float, float] = (0.4, 2.2)
    """The shortest and the longest time between two faults."""


@dataclass(slots=True)
class Running:
    """One worker process."""

    name: str
    slot: int
    process: WorkerProcess
    leaving: bool = False
    paused_since: float | None = None

    @property
    def is_prefork(self) -> bool:
        return WORKERS[self.slot][0] == "prefork"


class Campaign:
    """One campaign in one directory; `run` does all of it, `clean_up` ends whatever runs."""

    def __init__(self, directory: Path, settings: Settings, progress: Callable[[str], object]) -> None:
        self.directory = directory
        self.settings = settings
        self.progress = progress
        self.journal = directory / "journal"
        self.reader = journal.Reader(self.journal)
        self.chance = random.Random(settings.seed)  # noqa: S311 - a plan that can be repeated
        self.counts: dict[str, int] = {kind.value: 0 for kind in Kind}
        self.trouble: list[str] = []
        self._redis_directory = directory / "redis"
        self._redis_directory.mkdir()
        self.redis = RedisServer(self._redis_directory)
        self._away_since: float | None = None
        self._numbers = itertools.count(1)
        self._workers: list[Running] = []
        self._all: list[Running] = []
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._sent = 0

    def run(self) -> Verdict:
        """Carry it out; what was found."""
        self.redis.start()
        os.environ["CHAOS_JOURNAL"] = str(self.journal)
        sys.path.insert(0, str(APPS))
        import chaos_app  # noqa: PLC0415 - it reads the environment

        self.app = chaos_app
        chaos_app.app.conf.broker_url = self.redis.url
        for slot in range(len(WORKERS)):
            self._start_worker(slot)
        self._fault_phase()
        self._recover()
        is_settled = self._settle()
        self._stop_workers()
        limits = Limits(lease=LEASE_SECONDS, lock=chaos_app.LOCK_SECONDS, throttle=chaos_app.THROTTLE_SECONDS)
        verdict = judgement.judge(judgement.read(self.reader.read(), limits))
        if not is_settled:
            self.trouble.append(f"not settled after {self.settings.settle_seconds:g} s: {self._unsettled()}")
        verdict.violations += self.trouble
        verdict.counts.update(self.counts)
        return verdict

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
            self._at(begun + fault.at, lambda fault=fault: self._carry_out(fault))
        told = begun
        while (now := time.monotonic()) < until or self._sent < self.settings.tasks:
            self._do_what_is_due(now)
            self._look_after_workers()
            wanted = min(self.settings.tasks, int(self.settings.tasks * (now - begun) / self.settings.seconds))
            if self._away_since is None:
                while self._sent < wanted:
                    self._send()
            if now - told > 5:
                told = now
                self._tell(now - begun)
            time.sleep(0.02)

    def _at(self, when: float, action: Callable[[], object]) -> None:
        heapq.heappush(self._due, (when, next(self._order), action))

    def _do_what_is_due(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()

    def _send(self) -> None:
        """Call one task; a first few of a key at a time, so that policies have something to decide."""
        self._sent += 1
        name = self.chance.choice(TASKS)
        key = f"key-{self.chance.randrange(6)}"
        seconds = self.chance.choice((0, 0, 0.01, 0.05, 0.2)) if name != "plain" else self._work_seconds()
        asked = time.monotonic()
        task_id = f"{name}-{self._sent}"
        kwargs = {"number": self._sent, "key": key, "seconds": seconds}
        countdown = self.chance.uniform(0.5, 6) if name == "plain" and self.chance.random() < LATER else None
        published = self._publish(name, kwargs, task_id, countdown) == task_id
        journal.note(self.journal, "sent", number=self._sent, task=name, key=key, asked=asked, published=published)

    def _publish(self, name: str, kwargs: dict[str, Any], task_id: str, countdown: float | None) -> str:
        """The id of the call that runs. A connection that Redis' restart has broken carried nothing: send again."""
        for _ in range(20):
            with contextlib.suppress(OperationalError):
                return str(
                    getattr(self.app, name)
                    .apply_async(kwargs=kwargs, task_id=task_id, countdown=countdown, retry=False)
                    .id
                )
        raise RuntimeError("tasks cannot be sent, although Redis answers")

    def _work_seconds(self) -> float:
        return self.chance.choice((0, 0, 0, 0.01, 0.02, 0.1, 0.5)) if self.chance.random() < 0.98 else 5.0

    def _tell(self, seconds: float) -> None:
        records = self.reader.read()
        done = len({it["number"] for it in records if it["what"] == "done"})
        faults = sum(self.counts.values())
        self.progress(
            f"{seconds:4.0f} s  sent {self._sent}/{self.settings.tasks}  done {done}  faults {faults}  "
            f"workers started {len(self._all)}"
        )

    # --- faults

    def _carry_out(self, fault: Fault) -> None:
        done = self._hit_redis(fault) if fault.kind.hits_redis else self._hit_worker(fault)
        self.counts[fault.kind.value] += done

    def _hit_redis(self, fault: Fault) -> bool:
        if self._away_since is not None:
            self._at(time.monotonic() + 1, lambda: self._carry_out(fault))
            return False
        self._away_since = time.monotonic()
        bring = self._disturb(fault)
        self._at(time.monotonic() + fault.seconds, lambda: self._redis_is_back(bring))
        return True

    def _disturb(self, fault: Fault) -> Callable[[], object]:
        """Begin a fault of Redis; how to end it."""
        if fault.kind is Kind.PAUSE_REDIS:
            self.redis.pause()
            return self.redis.resume
        if fault.kind in {Kind.KILL_REDIS, Kind.OUTAGE, Kind.RESTART_REDIS}:
            end = self.redis.stop if fault.kind is Kind.RESTART_REDIS else self.redis.kill
            end()
            return self.redis.start
        control = self.redis.client  # its connection stays open, so that what it sets can be taken back
        settings = {Kind.FILL_MEMORY: ("maxmemory", 1, 0), Kind.REFUSE_WRITES: ("min-replicas-to-write", 1, 0)}
        if fault.kind in settings:
            name, during, after = settings[fault.kind]
            control.config_set(name, during)
            return lambda: control.config_set(name, after)
        if fault.kind is Kind.FLUSH_SCRIPTS:
            control.script_flush()
        elif fault.kind is Kind.PAUSE_CLIENTS:
            control.client_pause(int(fault.seconds * 1000))
            return control.client_unpause
        elif fault.kind is Kind.REFUSE_CLIENTS:
            control.config_set("maxclients", 1)
            _kill_clients(control)
            return lambda: control.config_set("maxclients", 10_000)
        else:
            _kill_clients(control)
        return lambda: None

    def _redis_is_back(self, bring: Callable[[], object]) -> None:
        bring()
        journal.note(self.journal, "away", since=self._away_since)
        self._away_since = None

    def _hit_worker(self, fault: Fault) -> bool:
        hits_child = fault.kind in {Kind.KILL_CHILD, Kind.END_CHILD}
        # Only who has worked: on a busy machine all would be killed while they start, and nothing would be tested.
        have_worked = {it["worker"] for it in self.reader.read() if it["what"] == "taken"}
        victims = [it for it in self._workers if it.paused_since is None and it.name in have_worked]
        victims = [it for it in victims if it.is_prefork or not hits_child]
        if not victims:
            return False
        victim = victims[int(fault.choice * len(victims))]
        if hits_child:
            return self._hit_child(victim, fault)
        if fault.kind is Kind.PAUSE_WORKER:
            self._pause(victim, fault.seconds)
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
        self._at(victim.paused_since + seconds, lambda: self._resume(victim))

    def _resume(self, victim: Running) -> None:
        if victim.paused_since is None:
            return
        os.killpg(victim.process.pid, signal.SIGCONT)
        journal.note(self.journal, "paused", worker=victim.name, since=victim.paused_since)
        victim.paused_since = None

    # --- workers

    def _start_worker(self, slot: int) -> None:
        name = f"w{next(self._numbers)}"
        directory = self.directory / name
        directory.mkdir()
        pool, concurrency = WORKERS[slot]
        config = document(
            "chaos_app:app",
            port=free_port(),
            worker={"pool": pool, "concurrency": concurrency},
            delivery={"leaseSeconds": LEASE_SECONDS, "maxDeliveries": MOST_DELIVERIES},
            drain={"timeoutSeconds": DRAIN_SECONDS},
            broker={"maxRetries": 10_000, "retryBackoffSeconds": {"initial": 0.2, "max": 1}},
        )
        environment = {
            "CELERIAC_BROKER_URL": self.redis.url,
            "CHAOS_JOURNAL": str(self.journal),
            "CHAOS_WORKER": name,
            "PYTHONPATH": f"{APPS}:{ROOT}",
        }
        process = WorkerProcess(directory, config, environment, worker_command())
        running = Running(name, slot, process.start())
        self._workers.append(running)
        self._all.append(running)

    def _ended(self, worker: Running) -> None:
        worker.process.wait()
        journal.note(self.journal, "ended", worker=worker.name)
        self._workers.remove(worker)
        if not worker.leaving:
            self._start_worker(worker.slot)

    def _look_after_workers(self) -> None:
        for worker in [it for it in self._workers if not it.process.is_alive()]:
            code = worker.process.wait()
            if not worker.leaving or code != 0:
                self.trouble.append(f"{worker.name} ended with {code} by itself; its log: {worker.process.log_file}")
                if len(self.trouble) > MOST_TROUBLE:
                    raise RuntimeError(f"{self.trouble[-1]}\n{worker.process.logs()[-2000:]}")
            self._ended(worker)

    # --- the end

    def _recover(self) -> None:
        """Let everything that is still away come back."""
        for worker in self._workers:
            self._resume(worker)
        while self._away_since is not None:
            self._do_what_is_due(time.monotonic())
            time.sleep(0.02)
        self._due.clear()

    def _unsettled(self) -> dict[str, int]:
        with redis.Redis.from_url(self.redis.url) as client:
            queued = sum(client.llen(it) for it in client.scan_iter("celery*") if client.type(it) == b"list")
            return {
                "in queues": queued,
                "held": client.hlen("celeriac:held:{celery}"),
                "dead": client.xlen("celeriac:dead:{celery}"),
            }

    def _settle(self) -> bool:
        began = told = time.monotonic()
        while time.monotonic() - began < self.settings.settle_seconds:
            self._look_after_workers()
            left = self._unsettled()
            if not any(left.values()):
                return True
            if time.monotonic() - told > 5:
                told = time.monotonic()
                self.progress(f"settling: {json.dumps(left)}")
            time.sleep(0.1)
        return False

    def _stop_workers(self) -> None:
        for worker in self._workers:
            worker.leaving = True
            worker.process.terminate()
        for worker in list(self._workers):
            code = worker.process.wait(DRAIN_SECONDS + 30)
            if code != 0:
                self.trouble.append(f"{worker.name} ended with {code} when told to leave")
            self._ended(worker)

    def clean_up(self) -> None:
        """End every process that the campaign has started."""
        for worker in self._all:
            worker.process.clean_up()
        self.redis.kill()


def _kill_clients(control: Any) -> None:
    for kind in ("normal", "pubsub"):
        control.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
