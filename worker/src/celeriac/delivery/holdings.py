"""Which messages does this process hold, and how long are they still its own?

A held message is one that was delivered to this process and is not settled: it runs, it waits for a slot, or it waits
for its ETA. Each is held under a lease, which is renewed well before it runs out.

**Promise.** A message is in its queue's lists or held under a lease at every moment, so whatever happens to a worker,
it is delivered again at most `lease_seconds` plus a quarter of it after the last renewal. As long as the process lives
and reaches Redis, nobody else gets what it holds, however long a task runs.

**Limit.** A process that is paused, or cut off from Redis, for longer than the lease loses its leases: the messages
are delivered elsewhere while their tasks may still run here. That is noticed at the next renewal or acknowledgement,
logged and counted; a late acknowledgement changes nothing any more.

Delivery ids are `<identity>:<number>`; the identity is new for each process, so that a container restarted under
the same name is never taken for its predecessor.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from celeriac import counts
from celeriac.delivery import scripts
from celeriac.delivery.unanswered import UnansweredTakes
from celeriac.delivery.values import messages, outcomes, taking
from celeriac.delivery.values.dead_entry import DeadEntry
from celeriac.delivery.values.held import Delayed, Holding
from celeriac.delivery.values.outcomes import Outcome
from celeriac.exceptions import DeadLetterError
from celeriac.store import keys
from celeriac.store.replies import text

if TYPE_CHECKING:
    from celeriac.delivery.autoscaling_report import AutoscalingReport

logger = logging.getLogger(__name__)


AWAY: Final = (OSError, RedisConnectionError, RedisTimeoutError)
"""What a redis-py client raises when Redis cannot be reached, or refuses for the time being."""
GIVEN_BACK_AT_ONCE: Final = 100
"""Messages read and given back in one round trip: bounds its size."""
SETTLED_AT_ONCE: Final = 500
"""Messages settled in one script call: bounds how long it keeps the server."""


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
        self.lease_seconds = lease_seconds
        self.prefix = prefix
        self.where = where
        self.max_deliveries = max_deliveries
        self.on_dead_letter: Callable[[DeadEntry, DeadLetterError], object] | None = None
        """Is notified of each message that goes to the dead-letter queue."""
        self.on_watch: Callable[[], object] = lambda: None
        """Told that there are queues to look after."""
        self.keeps: Callable[[str], bool] = lambda _: False
        """Whether a delivery that has not ended outlives its connection: its task runs on during the reconnect."""
        self.is_leaving: Callable[[], bool] = lambda: False
        """Whether this worker starts no more tasks."""
        self.figures: AutoscalingReport | None = None
        """What is told the autoscaler with each renewal; `None`: nothing."""
        self._connect = connect
        self._begin()

    def _begin(self) -> None:
        self.identity = uuid.uuid4().hex[:12]
        self.lost_count = 0
        self._client: Any = None
        self._number = 0
        self._held: dict[str, Holding] = {}
        self._kept_count = 0
        self._unsettled: dict[str, str] = {}
        self._unanswered = UnansweredTakes()
        self._reclaiming = threading.Lock()
        self._queues: set[str] = set()
        self._delayed: dict[str, Delayed] = {}
        self._lock = threading.Lock()

    def begin_anew(self) -> None:
        """Hold nothing, under another identity: for a process that was forked off. It reports nothing to anybody."""
        self._begin()
        self.figures = None
        self.on_dead_letter = None

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
        """The id of the delivery with this number."""
        return f"{self.identity}:{number}"

    def add(self, delivery: str, queue: str) -> None:
        """Remember a delivery that the script has taken."""
        with self._lock:
            self._held[delivery] = Holding(queue)
            self._queues.add(queue)

    @property
    def kept_count(self) -> int:
        """Deliveries of connections that are gone whose tasks run on; part of what this process may hold."""
        return self._kept_count

    def note_kept(self, deliveries: Iterable[str]) -> None:
        """Note that these deliveries' tasks run on without the connection that they came by."""
        with self._lock:
            for delivery in deliveries:
                holding = self._held.get(delivery)
                if holding is not None and not holding.kept:
                    holding.kept = True
                    self._kept_count += 1

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
            if holding is not None and holding.kept:
                self._kept_count -= 1
        return holding.queue if holding else None

    def watch(self, queues: Iterable[str]) -> None:
        """Look after the expired messages of these queues from now on."""
        with self._lock:
            self._queues.update(queues)
        self.on_watch()

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
        if self._unsettled and not self.is_leaving():
            # Redis did not answer at the last time, and each attempt may take seconds: the renewal will find out.
            self._keep_unsettled(pairs)
            return
        try:
            while pairs:
                self._settle(pairs[:SETTLED_AT_ONCE])
                del pairs[:SETTLED_AT_ONCE]
        except AWAY as error:
            logger.warning("cannot settle %d message(s) now: %s; trying again later", len(pairs), error)
            self._keep_unsettled(pairs)

    def _keep_unsettled(self, pairs: list[tuple[str, str]]) -> None:
        with self._lock:
            self._unsettled.update(pairs)
            self._held.update((delivery, Holding(queue, ended=True)) for delivery, queue in pairs)

    def _settle(self, pairs: list[tuple[str, str]]) -> None:
        names, args = taking.Take(settle=pairs, prefix=self.prefix).build()
        self.note_lost(taking.read(scripts.TAKE.run(self.client, names, args)).lost)

    def give_back(self, deliveries: Iterable[str], outcome: Outcome, why: str) -> int:
        """Put held messages back into their queues; how many were still held.

        One that is not held any more, by this process or in Redis, is left alone. While Redis is away they stay held,
        their leases are renewed, and they are given back as soon as Redis is reached again, with the same outcome: a
        message that has not begun does not pay for the outage.

        Raises:
            OSError, redis.exceptions.RedisError: Redis is away, and this worker leaves: there is no later.
        """
        by_queue: dict[str, list[str]] = {}
        for delivery in deliveries:
            queue = self.forget(delivery)
            if queue is not None:
                by_queue.setdefault(queue, []).append(delivery)
        return self._give_back(by_queue, outcome, why)

    def _give_back(self, by_queue: dict[str, list[str]], outcome: Outcome, why: str, *, again: bool = False) -> int:
        given_back = 0
        try:
            for queue, ids in by_queue.items():
                # From the youngest to the oldest: put to the front, they stand in their old order again.
                while ids:
                    part = ids[-GIVEN_BACK_AT_ONCE:]
                    given_back += self._give_back_part(queue, part, outcome, why, again=again)
                    del ids[-GIVEN_BACK_AT_ONCE:]
        except AWAY as error:
            now = time.monotonic()
            with self._lock:
                for queue, ids in by_queue.items():
                    self._held.update((delivery, Holding(queue)) for delivery in ids)
                    self._delayed.update((delivery, Delayed(now, outcome, why, again=True)) for delivery in ids)
            if self.is_leaving():
                raise
            if not again:
                left = sum(map(len, by_queue.values()))
                logger.warning("cannot give %d message(s) back now: %s; trying again later", left, error)
        return given_back

    def _give_back_part(self, queue: str, ids: list[str], outcome: Outcome, why: str, *, again: bool) -> int:
        values = self.client.hmget(keys.held(queue, prefix=self.prefix), ids)
        # When it is tried again, the first try may have succeeded without an answer.
        if not again:
            self.note_lost([delivery for delivery, value in zip(ids, values, strict=True) if value is None])
        calls = []
        for delivery, value in reversed(list(zip(ids, values, strict=True))):
            call = None if value is None else self.put_back_call(queue, delivery, value, outcome, why)
            if call is not None:
                calls.append(call)
        return sum(map(int, scripts.GIVE_BACK.run_each(self.client, calls)))

    def put_back_call(
        self, queue: str, delivery: str, value: bytes, outcome: Outcome, why: str
    ) -> tuple[list[str], list[Any]] | None:
        """Keys and arguments of the script that puts a message back; one that cannot be read is dead-lettered instead.

        Whatever is in the value, no other message of the round is touched.
        """
        message, problem = value, "it cannot be read"
        try:
            name, message = messages.split(value)
            payload = messages.read(message)
            if payload is not None:
                payload = outcomes.given_back(payload, outcome, now=time.time(), where=self.where, why=why)
                side = "front" if outcome.goes_to_front else "back"
                return [*self.pairs([queue]), name], [delivery, side, messages.write(payload)]
        except (ValueError, RecursionError) as error:
            problem = f"it cannot be read and written again: {error}"
        self.dead_letter(delivery, queue, message, f"{problem} ({why})")
        return None

    def give_back_later(self, delivery: str, seconds: float, outcome: Outcome, why: str) -> None:
        """Go on holding a message, and give it back after a delay (or at once when the worker leaves)."""
        if delivery in self._held:
            self._delayed[delivery] = Delayed(time.monotonic() + seconds, outcome, why)

    def note_unanswered(self, first: int, most: int, queues: Iterable[str]) -> None:
        """Look, as soon as Redis is reached, for what a take has taken whose answer was not received.

        Args:
            first: the number of the first delivery that the take was to make.
            most: how many it was to make at most.
            queues: what it was to take from.
        """
        if most:
            ids = [self.id_of(number) for number in range(first, first + most)]
            self._unanswered.add(ids, queues)

    def dead_letter(self, delivery: str, queue: str, message: bytes, why: str) -> bool:
        """Move a held message to the dead-letter queue; whether it was still held."""
        self.forget(delivery)
        entry = DeadEntry.of(message, queue=queue, why=why, where=self.where, now=time.time())
        names = [*self.pairs([queue]), keys.dead(queue, prefix=self.prefix)]
        entry_id = scripts.DEAD_LETTER.run(self.client, names, [delivery, *entry.written()])
        if not entry_id:
            return False
        counts.DEAD_LETTERS.add(queue)
        logger.error("dead-lettered the message of task %s[%s]: %s", entry.task or "?", entry.id or "?", entry.why)
        if self.on_dead_letter is not None:
            try:
                self.on_dead_letter(entry, DeadLetterError(entry.sentence(text(entry_id))))
            except Exception:  # of a reporter, which must not end the round or the fetch that this is part of
                logger.exception("could not report a dead letter")
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

    # --- what the renewal asks for

    def by_queue(self) -> dict[str, list[str]]:
        """The ids of all held deliveries of each queue that is looked after, oldest first; queues in order."""
        with self._lock:
            ids: dict[str, list[str]] = {queue: [] for queue in sorted(self._queues)}
            for delivery, holding in self._held.items():
                ids[holding.queue].append(delivery)
        return ids

    def catch_up(self) -> None:
        """Do what Redis was not reached for: settle, give back, and look for what unanswered takes have taken.

        Called when a connection is there again, before it takes anything, and with each renewal.

        Raises:
            OSError, redis.exceptions.RedisError: Redis is not reached now either; all of it stays to be done.
        """
        while pairs := list(self._unsettled.items())[:SETTLED_AT_ONCE]:
            self._settle(pairs)
            for delivery, _ in pairs:
                self.forget(delivery)
                self._unsettled.pop(delivery, None)
        self._reclaim()
        self.give_back_delayed()

    def _reclaim(self) -> None:
        """Give back, uncounted, what was taken for this process without its knowledge."""
        with self._reclaiming:
            found = self._unanswered.find(
                self.client, prefix=self.prefix, known=self._held, now=time.monotonic(), seconds=self.lease_seconds
            )
            self._give_back(found, Outcome.RETURNED, "its worker lost the connection", again=True)

    def give_back_delayed(self, *, at_once: bool = False) -> None:
        """Give back what is due by `give_back_later`; with `at_once` all of it, for a worker that leaves."""
        now = time.monotonic()
        groups: dict[tuple[Outcome, str, bool], dict[str, list[str]]] = {}
        with self._lock:
            due = {delivery: it for delivery, it in self._delayed.items() if at_once or it.due <= now}
            for delivery, it in due.items():
                del self._delayed[delivery]
                holding = self._held.pop(delivery, None)
                if holding is not None:
                    group = groups.setdefault((it.outcome, it.why, it.again), {})
                    group.setdefault(holding.queue, []).append(delivery)
        for (outcome, why, again), by_queue in groups.items():
            self._give_back(by_queue, outcome, why, again=again)

    def pairs(self, queues: Iterable[str]) -> list[str]:
        return [
            key
            for queue in queues
            for key in (keys.held(queue, prefix=self.prefix), keys.leases(queue, prefix=self.prefix))
        ]
