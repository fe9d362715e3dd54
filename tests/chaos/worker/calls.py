"""The calls of a campaign: one at a time, from 64 threads at once, and enough to take every green slot.

Each call is noted in the journal with what its caller knows: `published` is true, false (a policy dropped it), or null
where the caller cannot know, because Redis went away before it answered.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from kombu.exceptions import OperationalError
from tests.chaos.worker import journal
from tests.chaos.worker.redis_faults import SIDE_QUEUE

TASKS = ("plain",) * 7 + ("exclusive", "waiting", "throttled")
LATER = 0.1
"""How many of the plain tasks have an ETA."""
SIDE = 0.15
"""How many of the plain tasks go to the queue whose key has a wrong type now and then."""
THREADS = 64
GREEN_QUEUE = "green"
"""Only the gevent and eventlet workers consume it."""
RESENT = 100
"""More attempts than a pool has connections that a restart of Redis can have broken."""


class Calls:
    """Sends calls and notes them.

    Args:
        application: the module of the tasks.
        notes: the journal.
        chance: of the choices.
    """

    def __init__(self, application: Any, notes: Path, chance: random.Random) -> None:
        self.application = application
        self.notes = notes
        self.chance = chance
        self.sent = 0
        self._numbers = itertools.count(1)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="producer")

    def send(self, *, with_side_queue: bool = True) -> None:
        """Call one task; a first few of a key at a time, so that policies have something to decide."""
        name = self.chance.choice(TASKS)
        seconds = self.chance.choice((0, 0, 0.01, 0.05, 0.2)) if name != "plain" else self._work_seconds()
        options: dict[str, Any] = {}
        if name == "plain" and self.chance.random() < LATER:
            options["countdown"] = self.chance.uniform(0.5, 6)
        if name == "plain" and self.chance.random() < SIDE and with_side_queue:
            options["queue"] = SIDE_QUEUE
        self._call(name, f"key-{self.chance.randrange(6)}", seconds, **options)

    def rush(self) -> None:
        """Call one task from 64 threads at once; one time in two with one key for all, of which Throttle takes one."""
        name = self.chance.choice(("plain", "plain", "throttled", "exclusive"))
        key = f"key-{self.chance.randrange(6)}"
        wait([self._threads.submit(self._call, name, key, 0) for _ in range(THREADS)])

    def rush_away(self) -> None:
        """Call a task from 64 threads while Redis goes away and comes back; with Celery's own retries."""
        for _ in range(THREADS):
            self._threads.submit(self._call, "plain", "any", 0, is_certain=False)

    def fill_green(self, slots: int) -> None:
        """Send twice as many calls as the green workers have slots, each of some seconds."""
        for _ in range(slots * 2):
            self._call("plain", "any", self.chance.uniform(2, 4), queue=GREEN_QUEUE)

    def finish(self) -> None:
        """Wait for the threads."""
        self._threads.shutdown(wait=True)

    def clean_up(self) -> None:
        """Forget what has not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _work_seconds(self) -> float:
        return self.chance.choice((0, 0, 0, 0.01, 0.02, 0.1, 0.5)) if self.chance.random() < 0.98 else 5.0

    def _call(self, name: str, key: str, seconds: float, *, is_certain: bool = True, **options: Any) -> None:
        number = next(self._numbers)
        self.sent += 1
        task_id = f"{name}-{number}"
        kwargs = {"number": number, "key": key, "seconds": seconds}
        asked = time.monotonic()
        published: bool | None
        if is_certain:
            published = self._publish(name, kwargs, task_id, options) == task_id
        else:
            published = None
            with contextlib.suppress(OperationalError):
                getattr(self.application, name).apply_async(kwargs=kwargs, task_id=task_id)
                published = True
        journal.note(
            self.notes,
            "sent",
            number=number,
            task=name,
            key=key,
            asked=asked,
            published=published,
            countdown=options.get("countdown", 0),
        )

    def _publish(self, name: str, kwargs: dict[str, Any], task_id: str, options: dict[str, Any]) -> str:
        """The id of the call that runs. A connection that Redis' restart has broken carried nothing: send again."""
        for _ in range(RESENT):
            with contextlib.suppress(OperationalError):
                task = getattr(self.application, name)
                return str(task.apply_async(kwargs=kwargs, task_id=task_id, retry=False, **options).id)
        raise RuntimeError("tasks cannot be sent, although Redis answers")
