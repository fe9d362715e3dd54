"""Which messages does this process hold, and how long are they still its own?

A held message is one that was delivered to this process and is not settled: it runs, it waits for a slot, or it waits
for its ETA. Each is held under a lease that a thread here renews, well before it runs out, through a connection of its
own. The same thread puts back what others left behind: messages whose lease has run out.

**Promise.** A message is in its queue's lists or held under a lease at every moment, so whatever happens to a worker,
it is delivered again at most `lease_seconds` plus a quarter of it after the last renewal. As long as the process lives
and reaches Redis, nobody else gets what it holds, however long a task runs.

**Limit.** A process that is paused, or cut off from Redis, for longer than the lease loses its leases: the messages
are delivered elsewhere while their tasks may still run here. That is noticed at the next renewal or acknowledgement,
logged and counted; a late acknowledgement changes nothing any more. A thread cannot renew while
other code holds Python's global lock for longer than the lease.

Delivery ids are `<identity>:<number>`; the identity is new for each process, so that a container restarted under
the same name is never taken for its predecessor.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from celeriac import counts
from celeriac.delivery import messages, outcomes, scripts, taking
from celeriac.delivery.outcomes import Outcome
from celeriac.store import keys
from celeriac.store.replies import text
from celeriac.store.script import Script

if TYPE_CHECKING:
    from celeriac.delivery.autoscaling_report import Figures

logger = logging.getLogger(__name__)

RENEWALS_PER_LEASE: Final = 4
"""Three renewals in a row may fail before a lease is lost."""
EXPIRED_AT_ONCE: Final = 100
"""Expired messages of one queue put back in one round: bounds the size of an answer."""


@dataclass(slots=True)
class Holding:
    """One held message."""

    queue: str
    ended: bool = False
    """Its task has ended, and it is about to be settled."""


@dataclass(slots=True)
class Round:
    """What one pass of the renewal did; returned for logs and tests."""

    renewed: int = 0
    lost: list[str] = field(default_factory=list)
    expired: int = 0
    """Messages of others that were put back."""


class Holdings:
    """The held messages of one worker process. All methods may be called from any thread."""

    def __init__(
        self,
        connect: Callable[[], Any],
        *,
        lease_seconds: float,
        prefix: str = "",
        where: str = "",
        max_deliveries: int | None = None,
    ) -> None:
        """Hold nothing yet, and touch no network.

        Args:
            connect: makes a redis-py client; called once, on first use.
            lease_seconds: how long a message stays this process's own without a renewal.
            prefix: the transport's `global_keyprefix`.
            where: names this worker (namespace/pod) in a message's history.
            max_deliveries: after so many deliveries without an end a message is dead-lettered; `None`: never.
        """
        self.identity = uuid.uuid4().hex[:12]
        self.lease_seconds = lease_seconds
        self.prefix = prefix
        self.where = where
        self.max_deliveries = max_deliveries
        self.on_dead_letter: Callable[[str, dict[str, Any] | None, str], None] | None = None
        """Told queue, message and reason of each message that goes to the dead-letter queue."""
        self.keeps: Callable[[str], bool] = lambda _: False
        """Whether a delivery that has not ended outlives its connection: its task runs on during the reconnect."""
        self.is_leaving: Callable[[], bool] = lambda: False
        """Whether this worker starts no more tasks."""
        self.figures: Figures | None = None
        """What is told the autoscaler with each renewal; `None`: nothing."""
        self.lost_count = 0
        self._connect = connect
        self._client: Any = None
        self._number = 0
        self._held: dict[str, Holding] = {}
        self._unsettled: dict[str, str] = {}
        self._queues: set[str] = set()
        self._delayed: dict[str, tuple[float, Outcome, str]] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_failing = False
        self._has_said_refused = False

    # --- what is held

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, delivery: str) -> bool:
        return delivery in self._held

    def ids(self) -> list[str]:
        """The ids of all held deliveries, oldest first."""
        with self._lock:
            return list(self._held)

    def queue_of(self, delivery: str) -> str | None:
        """The queue a held delivery came from; `None` when it is not held."""
        holding = self._held.get(delivery)
        return holding.queue if holding else None

    def numbers(self, count: int) -> int:
        """Set aside ids for up to `count` deliveries; the first number."""
        with self._lock:
            first = self._number
            self._number += count
            return first

    def id_of(self, number: int) -> str:
        """The id that the script gave to the delivery with this number."""
        return f"{self.identity}:{number}"

    def add(self, delivery: str, queue: str) -> None:
        """Remember a delivery that the script has taken."""
        with self._lock:
            self._held[delivery] = Holding(queue)
            self._queues.add(queue)

    def mark_ended(self, delivery: str) -> None:
        """Note that a delivery's task has ended: it is about to be settled, and must not be given back meanwhile."""
        holding = self._held.get(delivery)
        if holding is not None:
            holding.ended = True

    def has_ended(self, delivery: str) -> bool:
        """Whether a held delivery's task has ended."""
        holding = self._held.get(delivery)
        return holding is not None and holding.ended

    def forget(self, delivery: str) -> str | None:
        """Drop a delivery that is about to be settled; its queue, or `None` when it is not held (any more)."""
        with self._lock:
            holding = self._held.pop(delivery, None)
        return holding.queue if holding else None

    def watch(self, queues: Iterable[str]) -> None:
        """Look after the expired messages of these queues from now on."""
        with self._lock:
            self._queues.update(queues)

    # --- how deliveries end

    @property
    def client(self) -> Any:
        """The redis-py client that everything but the fetch itself goes through."""
        if self._client is None:
            self._client = self._connect()
        return self._client

    def settle(self, deliveries: Iterable[tuple[str, str]]) -> None:
        """Settle (id, queue) pairs now, in one round trip.

        While Redis is away they stay held, their leases are renewed, and they are settled with the next renewal: the
        work is done and must not be done again.
        """
        pairs = list(deliveries)
        if not pairs:
            return
        try:
            self._settle(pairs)
        except (OSError, RedisConnectionError, RedisTimeoutError) as error:
            logger.warning("cannot settle %d message(s) now: %s; trying again later", len(pairs), error)
            with self._lock:
                self._unsettled.update(pairs)
                self._held.update((delivery, Holding(queue)) for delivery, queue in pairs)

    def _settle(self, pairs: list[tuple[str, str]]) -> None:
        names, args = taking.Take(settle=pairs, prefix=self.prefix).build()
        self.note_lost(taking.read(scripts.TAKE.run(self.client, names, args)).lost)

    def give_back(self, deliveries: Iterable[str], outcome: Outcome, why: str) -> int:
        """Put held messages back into their queues; how many were still held.

        One that is not held any more, by this process or in Redis, is left alone.
        """
        by_queue: dict[str, list[str]] = {}
        for delivery in deliveries:
            queue = self.forget(delivery)
            if queue is not None:
                by_queue.setdefault(queue, []).append(delivery)
        return sum(self._give_back_one_queue(queue, ids, outcome, why) for queue, ids in by_queue.items())

    def _give_back_one_queue(self, queue: str, ids: list[str], outcome: Outcome, why: str) -> int:
        values = self.client.hmget(keys.held(queue, prefix=self.prefix), ids)
        given_back = 0
        # From the youngest to the oldest: put to the front, they stand in their old order again.
        for delivery, value in reversed(list(zip(ids, values, strict=True))):
            if value is None:
                self.note_lost([delivery])
            elif self._put_back(queue, delivery, value, outcome, why, scripts.GIVE_BACK):
                given_back += 1
        return given_back

    def _put_back(self, queue: str, delivery: str, value: bytes, outcome: Outcome, why: str, script: Script) -> bool:
        name, message = messages.split(value)
        payload = messages.read(message)
        if payload is None:
            return self.dead_letter(delivery, queue, message, f"unreadable message ({why})")
        payload = outcomes.given_back(payload, outcome, now=time.time(), where=self.where, why=why)
        pair = self._pairs([queue])
        side = "front" if outcome.goes_to_front else "back"
        return bool(script.run(self.client, [*pair, name], [delivery, side, messages.write(payload)]))

    def give_back_later(self, delivery: str, seconds: float, outcome: Outcome, why: str) -> None:
        """Go on holding a message, and give it back after a delay (or at once when the worker leaves)."""
        if delivery in self._held:
            self._delayed[delivery] = (time.monotonic() + seconds, outcome, why)

    def dead_letter(self, delivery: str, queue: str, message: bytes, why: str) -> bool:
        """Move a held message to the dead-letter queue; whether it was still held."""
        self.forget(delivery)
        payload = messages.read(message)
        headers = (payload or {}).get("headers") or {}
        entry = {
            "queue": queue,
            "task": str(headers.get("task") or ""),
            "id": str(headers.get("id") or ""),
            "why": why,
            "where": self.where,
            "at": f"{time.time():.3f}",
            "message": message,
        }
        fields: list[Any] = [part for pair in entry.items() for part in pair]
        dead = keys.dead(queue, prefix=self.prefix)
        if not scripts.DEAD_LETTER.run(self.client, [*self._pairs([queue]), dead], [delivery, *fields]):
            return False
        counts.DEAD_LETTERS.add(queue)
        logger.error("message of task %s[%s] is dead: %s", entry["task"] or "?", entry["id"] or "?", why)
        if self.on_dead_letter is not None:
            self.on_dead_letter(queue, payload, why)
        return True

    def note_lost(self, deliveries: list[str]) -> None:
        """Take note of deliveries whose lease was lost: somebody else has the message now."""
        for delivery in deliveries:
            self.forget(delivery)
        if not deliveries:
            return
        self.lost_count += len(deliveries)
        counts.LEASES_LOST.add(amount=len(deliveries))
        logger.warning(
            "lost the lease of %d message(s): this process did not reach Redis for %g s; their tasks run elsewhere too",
            len(deliveries),
            self.lease_seconds,
        )

    # --- renewal

    @property
    def interval_seconds(self) -> float:
        """Seconds between two renewals."""
        return self.lease_seconds / RENEWALS_PER_LEASE

    def start(self) -> None:
        """Start renewing; a second call changes nothing."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._stopped.clear()
            self._thread = threading.Thread(target=self._run, name="celeriac-leases", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop renewing. What is still held then expires."""
        self._stopped.set()

    def leave(self) -> None:
        """Stop renewing, and be counted among the pool's workers no more. Without Redis that takes two leases."""
        self.stop()
        if self._thread is not None:
            self._thread.join(1)  # else its last word might come after this one
        if self.figures is not None and not self._is_failing and self._client is not None:
            with contextlib.suppress(OSError, RedisError):
                self.client.hdel(self.figures.workers_key, self.identity)

    def run_once(self) -> Round:
        """Renew every lease once, put back what has expired, give back what was to be given back by now."""
        if self._unsettled:
            pairs = list(self._unsettled.items())
            self._settle(pairs)
            for delivery, _ in pairs:
                self.forget(delivery)
                self._unsettled.pop(delivery, None)
        with self._lock:
            queues = sorted(self._queues)
            ids: dict[str, list[str]] = {queue: [] for queue in queues}
            for delivery, holding in self._held.items():
                ids[holding.queue].append(delivery)
        done = Round(renewed=sum(map(len, ids.values())))
        if not queues:
            return done
        args: list[Any] = [int(self.lease_seconds * 1000), EXPIRED_AT_ONCE, *self._says()]
        for queue in queues:
            args += [len(ids[queue]), *ids[queue]]
        names = self._pairs(queues) + [keys.line(queue, prefix=self.prefix) for queue in queues]
        lost, expired, refused = scripts.RENEW.run(self.client, names, args)
        self._note_refused(text(refused))
        # What was settled while the script ran is not lost.
        done.lost = [delivery for item in lost if (delivery := text(item)) in self._held]
        self.note_lost(done.lost)
        counts.LEASES_RENEWED.add(amount=max(0, done.renewed - len(done.lost)))
        for index, delivery, value in zip(expired[::3], expired[1::3], expired[2::3], strict=True):
            why = f"its worker stopped renewing the lease of {self.lease_seconds:g} s"
            if self._put_back(queues[index], text(delivery), value, Outcome.EXPIRED, why, scripts.GIVE_BACK_EXPIRED):
                done.expired += 1
        if done.expired:
            logger.warning("put %d message(s) back whose worker is gone", done.expired)
        self.give_back_delayed()
        return done

    def _says(self) -> list[Any]:
        """What the script writes down for the autoscaler."""
        if self.figures is None:
            return [""] * 6
        self.figures.note_runtimes()
        key, number, entry = self.figures.say()
        return [key, self.identity, number, entry, self.figures.layout_key, self.figures.layout]

    def _note_refused(self, why: str) -> None:
        if why and not self._has_said_refused:
            self._has_said_refused = True
            logger.warning("Redis does not take this worker's figures: the autoscaler does not know them (%s)", why)

    def give_back_delayed(self, *, at_once: bool = False) -> None:
        """Give back what is due by `give_back_later`; with `at_once` all of it, for a worker that leaves."""
        now = time.monotonic()
        for delivery, (due, outcome, why) in list(self._delayed.items()):
            if at_once or due <= now:
                del self._delayed[delivery]
                self.give_back([delivery], outcome, why)

    def _run(self) -> None:
        # The first round is for the autoscaler, which learns at once that there is a worker.
        while not self._stopped.is_set():
            error = self._attempt()
            if error is not None and not self._is_failing:
                logger.warning("cannot renew leases: %s; trying on", error)
            elif error is None and self._is_failing:
                logger.info("leases are renewed again")
            self._is_failing = error is not None
            self._stopped.wait(self.interval_seconds)

    def _attempt(self) -> Exception | None:
        try:
            self.run_once()
        except Exception as error:  # whatever it was, the next round may succeed, and the thread must not end
            return error
        return None

    def _pairs(self, queues: list[str]) -> list[str]:
        return [
            key
            for queue in queues
            for key in (keys.held(queue, prefix=self.prefix), keys.leases(queue, prefix=self.prefix))
        ]
