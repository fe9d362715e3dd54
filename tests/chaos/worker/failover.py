"""Failovers of Redis behind Sentinel, under the load of 64 producers: what is lost or doubled, and is it Redis' limit?

Replication is asynchronous: what a primary has answered and its replica does not have yet is gone after a failover.
Until Sentinel has told the old primary that it is a replica, clients that are connected to it go on to use it, and all
of that is gone too. The campaign notes this window of each failover. Only what was published, taken or settled within a
window may be lost or run twice.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from celery import Celery
from kombu.exceptions import OperationalError
from tests.chaos.worker import clocks, journal, judgement
from tests.chaos.worker.fleet import LEASE_SECONDS, Fleet, Slot, broker_environment
from tests.chaos.worker.judgement import Limits, Verdict
from tests.chaos.worker.plan import Fault, Kind
from tests.chaos.worker.schedule import Schedule
from tests.integration.worker.processes import RedisServer
from tests.integration.worker.servers import MASTER, Sentinel, start_replica
from tests.waiting import NotInTimeError, eventually

SLOTS = (
    Slot(pool="prefork", concurrency=3),
    Slot(pool="threads", concurrency=3),
    Slot(pool="gevent", concurrency=3, prefetch=4),
)
THREADS = 64
CALLS_PER_SECOND = 15.0
LATER = 0.1
"""How many calls have an ETA."""
LAG_SECONDS = 1.0
"""How far a replica on the same machine may be behind."""
CALM_SECONDS = 8.0
"""Between two failovers, in which nothing may be lost or doubled: a lease."""
CYCLE_SECONDS = 20.0
"""What one failover takes, with the calm before it."""
SETTLE_SECONDS = 120.0


class FailoverCampaign:
    """One campaign in one directory; `run` does all of it, `clean_up` ends whatever runs."""

    def __init__(self, directory: Path, *, seed: int, progress: Callable[[str], object]) -> None:
        self.directory = directory
        self.progress = progress
        self.journal = directory / "journal"
        self.reader = journal.Reader(self.journal)
        self.chance = random.Random(seed)  # noqa: S311 - a plan that can be repeated
        self.counts = {"SENTINEL FAILOVER": 0, "primary killed": 0, Kind.KILL_ALL.value: 0}
        self._ends: list[Callable[[], object]] = []
        self._numbers = itertools.count(1)
        self._is_over = threading.Event()
        self._producers: list[threading.Thread] = []

    def run(self, failovers: int) -> Verdict:
        """Carry out failovers by order and by a killed primary in turn, and judge what became of the calls."""
        self._start_servers()
        options = {"master_name": MASTER}
        url = f"sentinel://127.0.0.1:{self.sentinel.port}/0"
        environment = broker_environment(url, options)
        environment["CHAOS_JOURNAL"] = str(self.journal)
        library = clocks.build(self.directory)
        self.fleet = Fleet(self.directory, SLOTS, environment, clock_library=library, schedule=Schedule())
        self._ends.append(self.fleet.clean_up)
        self.fleet.start()
        self._start_producers(url, options)
        for number in range(failovers):
            self._let_work(CALM_SECONDS)
            self._fail_over(is_killed=number % 2 == 1)
            self._let_work(CALM_SECONDS / 2)
            self._kill_worker()
        self._let_work(CALM_SECONDS)
        self._is_over.set()
        for thread in self._producers:
            thread.join()
        is_settled = self._settle()
        self.fleet.stop()
        verdict = judgement.judge(judgement.read(self.reader.read(), Limits(lease=LEASE_SECONDS, lock=1, throttle=1)))
        if not is_settled:
            self.fleet.trouble.append(f"not settled after {SETTLE_SECONDS:g} s: {self._unsettled()}")
        verdict.violations += self.fleet.trouble
        verdict.counts |= self.counts
        return verdict

    def clean_up(self) -> None:
        """End every process that the campaign has started."""
        self._is_over.set()
        for end in reversed(self._ends):
            end()
        self._ends.clear()

    # --- the servers

    def _start_servers(self) -> None:
        (self.directory / "first").mkdir()
        first = RedisServer(self.directory / "first")
        self._ends.append(first.kill)
        first.start()
        second = start_replica(self.directory / "second", first)
        self._ends.append(second.kill)
        self.sentinel = Sentinel(self.directory, first)
        self._ends.append(self.sentinel.stop)
        self.servers = {first.port: first, second.port: second}

    def _primary(self) -> RedisServer:
        with redis.Redis(port=self.sentinel.port, decode_responses=True) as client:
            return self.servers[int(client.sentinel_master(MASTER)["port"])]

    def _fail_over(self, *, is_killed: bool) -> None:
        """Let the other server become the primary; the window of it is noted."""
        old = self._primary()
        since = time.monotonic()
        if is_killed:
            old.kill()
        else:
            with redis.Redis(port=self.sentinel.port) as client:
                client.sentinel_failover(MASTER)
        new = eventually(self._primary, lambda it: it is not old, what="another primary")
        eventually(lambda: _role(new), lambda it: it == "master", what="it is promoted")
        if is_killed:
            # Nobody could use the old one any more; it comes back as a replica.
            until = time.monotonic()
            old.start()
            eventually(lambda: _role(old), lambda it: it == "slave", what="the old primary is a replica")
        else:
            eventually(lambda: _role(old), lambda it: it == "slave", what="the old primary is a replica", every=0.01)
            until = time.monotonic()
        journal.note(self.journal, "failover", since=since - LAG_SECONDS, until=until)
        eventually(lambda: _link(old), lambda it: it == "up", what="the replica has all of it")
        how = "primary killed" if is_killed else "SENTINEL FAILOVER"
        self.counts[how] += 1
        self.progress(f"failover: {how}, over after {until - since:.1f} s; {self._progress()}")

    # --- the load

    def _start_producers(self, url: str, options: dict[str, Any]) -> None:
        app = Celery("producer", broker=url, set_as_current=False)
        app.conf.update(broker_transport_options=options, broker_pool_limit=THREADS)
        for number in range(THREADS):
            chance = random.Random(self.chance.randrange(10**9))  # noqa: S311 - a plan that can be repeated
            thread = threading.Thread(target=self._produce, args=(app, chance), name=f"producer-{number}", daemon=True)
            self._producers.append(thread)
            thread.start()

    def _produce(self, app: Celery, chance: random.Random) -> None:
        while not self._is_over.wait(chance.uniform(0, 2 * THREADS / CALLS_PER_SECOND)):
            number = next(self._numbers)
            countdown = chance.uniform(1, 6) if chance.random() < LATER else 0
            kwargs = {"number": number, "key": "any", "seconds": chance.choice((0, 0.05, 0.3))}
            asked, published = time.monotonic(), None
            try:
                app.send_task("chaos_app.plain", kwargs=kwargs, countdown=countdown or None)
                published = True
            except (OperationalError, OSError, redis.RedisError):
                pass  # its caller cannot know whether it was published
            details = {"number": number, "task": "plain", "key": "any", "asked": asked, "countdown": countdown}
            journal.note(self.journal, "sent", published=published, **details)

    def _let_work(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.fleet.look_after()
            time.sleep(0.05)

    def _kill_worker(self) -> None:
        have_worked = {it["worker"] for it in self.reader.read() if it["what"] == "taken"}
        fault = Fault(at=0, kind=Kind.KILL_ALL, seconds=0, choice=self.chance.random())
        self.counts[Kind.KILL_ALL.value] += self.fleet.hit(fault, have_worked)

    # --- the end

    def _progress(self) -> str:
        records = self.reader.read()
        return " ".join(f"{what} {sum(it['what'] == what for it in records)}" for what in ("sent", "done"))

    def _unsettled(self) -> dict[str, int]:
        with self._primary().client as client:
            return {
                "in the queue": client.llen("celery"),
                "held": client.hlen("celeriac:held:{celery}"),
                "dead": client.xlen("celeriac:dead:{celery}"),
            }

    def _settle(self) -> bool:
        def read() -> dict[str, int]:
            self.fleet.look_after()
            return self._unsettled()

        try:
            eventually(read, lambda it: not any(it.values()), timeout=SETTLE_SECONDS)
        except NotInTimeError:
            return False
        return True


def _role(server: RedisServer) -> str | None:
    """What a server is; `None` while it does not say."""
    try:
        with server.client as client:
            role: str = client.info("replication")["role"]
    except redis.RedisError:
        return None
    return role


def _link(server: RedisServer) -> str | None:
    try:
        with server.client as client:
            link: str | None = client.info("replication").get("master_link_status")
    except redis.RedisError:
        return None
    return link


def run(directory: Path, *, seed: int, failovers: int, progress: Callable[[str], object]) -> Verdict:
    """A campaign from beginning to end; whatever happens, nothing that it started is left.

    Args:
        directory: an empty one, for the journal and the servers.
        seed: of the choices.
        failovers: how many; by order and by a killed primary in turn.
        progress: told what has been done.
    """
    campaign = FailoverCampaign(directory, seed=seed, progress=progress)
    try:
        return campaign.run(failovers)
    finally:
        campaign.clean_up()
