"""Faults of the server: how each begins, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.worker import journal
from tests.chaos.worker.clocks import Clock
from tests.chaos.worker.plan import Fault, Kind
from tests.chaos.worker.schedule import Schedule
from tests.integration.worker.processes import RedisServer

SIDE_QUEUE = "side"
"""The queue whose key has a wrong type now and then."""
_BREAK = """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end
redis.call('SET', KEYS[1], 'not a list')
"""
_MEND = """
redis.call('DEL', KEYS[1])
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[1]) end
"""


class RedisFaults:
    """Does what a plan says to one server.

    Args:
        server: the server.
        clock: of its host.
        notes: the journal.
        schedule: ends the faults.
        step_seconds: how far the clock steps.
    """

    def __init__(
        self, server: RedisServer, clock: Clock, notes: Path, *, schedule: Schedule, step_seconds: int
    ) -> None:
        self.server = server
        self.clock = clock
        self.notes = notes
        self.schedule = schedule
        self.step_seconds = step_seconds
        self.is_side_queue_broken = False
        self._away_since: float | None = None

    @property
    def is_away(self) -> bool:
        """Whether a fault is in effect because of which calls fail."""
        return self._away_since is not None

    def disturb(self, fault: Fault, meanwhile: Callable[[], object] | None = None) -> None:
        """Begin a fault of the server, and end it after its seconds.

        Args:
            fault: one whose target is Redis.
            meanwhile: called once the fault has begun.
        """
        self._away_since = time.monotonic()
        bring = self._begin(fault)
        if meanwhile is not None:
            meanwhile()
        self.schedule.after(fault.seconds, lambda: self._is_back(bring))

    def step_clock(self, fault: Fault) -> None:
        """Let the server's clock jump by more than a lease, and back."""
        if self.clock.seconds:
            return
        self._step(self.step_seconds if fault.choice < 0.5 else -self.step_seconds)
        self.schedule.after(fault.seconds, lambda: self._step(0))

    def settle_clock(self) -> None:
        """Let the server's clock be right again."""
        if self.clock.seconds:
            self._step(0)

    def break_side_queue(self, fault: Fault) -> None:
        """Replace a queue's list by a text, and put the list back after the fault's seconds."""
        if self.is_side_queue_broken:
            return
        self.is_side_queue_broken = True
        self.server.client.eval(_BREAK, 2, SIDE_QUEUE, f"kept:{SIDE_QUEUE}")
        self.schedule.after(fault.seconds, self.mend_side_queue)

    def mend_side_queue(self) -> None:
        """Put the list back; again later where Redis is away."""
        if not self.is_side_queue_broken:
            return
        if self.is_away:
            self.schedule.after(0.5, self.mend_side_queue)
            return
        self.server.client.eval(_MEND, 2, SIDE_QUEUE, f"kept:{SIDE_QUEUE}")
        self.is_side_queue_broken = False

    def _step(self, seconds: int) -> None:
        journal.note(self.notes, "clock", host="redis", by=seconds - self.clock.seconds)
        self.clock.step_to(seconds)

    def _is_back(self, bring: Callable[[], object]) -> None:
        bring()
        journal.note(self.notes, "away", since=self._away_since)
        self._away_since = None

    def _begin(self, fault: Fault) -> Callable[[], object]:
        """Begin a fault; how to end it."""
        if fault.kind is Kind.PAUSE_REDIS:
            self.server.pause()
            return self.server.resume
        if fault.kind in {Kind.KILL_REDIS, Kind.OUTAGE, Kind.RESTART_REDIS, Kind.RUSH_AWAY}:
            end = self.server.stop if fault.kind is Kind.RESTART_REDIS else self.server.kill
            end()
            return self.server.start
        control = self.server.client  # its connection stays open, so that what it sets can be taken back
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


def _kill_clients(control: Any) -> None:
    for kind in ("normal", "pubsub"):
        control.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
