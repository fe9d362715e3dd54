"""Which messages does this process hold, and until when?

A held message was delivered to this process and is not settled yet: it runs, it waits for a slot, or it waits for its
ETA. Each message is held under a lease, which is renewed well before it expires.

**Promise.** A message is in its queue's lists or held under a lease at every moment. If its worker fails, the message
is delivered again at most `lease_seconds` plus a quarter of that after the last renewal. While the process lives and
reaches Redis, no other worker gets the messages that it holds, however long a task runs.

**Limit.** A process that is paused, or cut off from Redis, for longer than the lease loses its leases: the messages
are delivered to other workers while their tasks may still run here. The next renewal or acknowledgement detects this;
it is logged and counted. A late acknowledgement has no effect.

Delivery ids are `<identity>:<number>`. Each process has a new identity, so a container that restarts under the same
name is not mistaken for its predecessor.
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
"""What a redis-py client raises when Redis cannot be reached or temporarily refuses commands."""
GIVEN_BACK_AT_ONCE: Final = 100
"""Messages read and given back in one round trip; bounds the size of the request."""
SETTLED_AT_ONCE: Final = 500
"""Messages settled in one script call; bounds how long the call blocks the server."""


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
        """Start without messages; does not access the network.

        Args:
            connect: makes a redis-py client; called once, on first use.
            lease_seconds: seconds that this process keeps a message without a renewal.
            prefix: the transport's `global_keyprefix`.
            where: names this worker (namespace/pod) in a message's history.
            max_deliveries: number of unfinished deliveries after which a message is dead-lettered; `None`: never.
        """
        self.lease_seconds = lease_seconds
        self.prefix = prefix
        self.where = where
        self.max_deliveries = max_deliveries
        self.on_dead_letter: Callable[[DeadEntry, DeadLetterError], object] | None = None
        """Is notified of each message that goes to the dead-letter queue."""
        self.on_watch: Callable[[], object] = lambda: None
        """Is notified when there are queues to watch."""
        self.keeps: Callable[[str], bool] = lambda _: False
        """Whether an unfinished delivery is kept when its connection ends: its task runs on during the reconnect."""
        self.is_leaving: Callable[[], bool] = lambda: False
        """Whether this worker starts no more tasks."""
        self.figures: AutoscalingReport | None = None
        """The report to the autoscaler, sent with each renewal; `None`: no report."""
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
        """Start again without messages, under a new identity and without reports; for a forked process."""
        self._begin()
        self.figures = None
        self.on_dead_letter = None

    # --- what is held

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, delivery: str) -> bool:
        return delivery in self._held

    def ids(self) -> list[str]:
        """Return the ids of all held deliveries, oldest first."""
        with self._lock:
            return list(self._held)

    def queue_of(self, delivery: str) -> str | None:
        """Return the queue that a held delivery came from; `None` if it is not held."""
        holding = self._held.get(delivery)
        return holding.queue if holding else None

    def numbers(self, count: int) -> int:
        """Reserve ids for up to `count` deliveries; return the first number."""
        with self._lock:
            first = self._number
            self._number += count
            return first

    def id_of(self, number: int) -> str:
        """Return the id of the delivery with this number."""
        return f"{self.identity}:{number}"

    def add(self, delivery: str, queue: str) -> None:
        """Record a delivery that the script has taken."""
        with self._lock:
            self._held[delivery] = Holding(queue)
            self._queues.add(queue)

    @property
    def kept_count(self) -> int:
        """Return how many deliveries of closed connections still run; they count towards what this process may hold."""
        return self._kept_count

    def note_kept(self, deliveries: Iterable[str]) -> None:
        """Note that the tasks of these deliveries run on after their connection was closed."""
        with self._lock:
            for delivery in deliveries:
                holding = self._held.get(delivery)
                if holding is not None and not holding.kept:
                    holding.kept = True
                    self._kept_count += 1

    def mark_ended(self, delivery: str) -> None:
        """Note that a delivery's task has ended: it will be settled soon and must not be given back until then."""
        holding = self._held.get(delivery)
        if holding is not None:
            holding.ended = True

    def has_ended(self, delivery: str) -> bool:
        """Return whether a held delivery's task has ended."""
        holding = self._held.get(delivery)
        return holding is not None and holding.ended

    def forget(self, delivery: str) -> str | None:
        """Remove a delivery that will be settled; return its queue, or `None` if it is not held (any more)."""
        with self._lock:
            holding = self._held.pop(delivery, None)
            if holding is not None and holding.kept:
                self._kept_count -= 1
        return holding.queue if holding else None

    def watch(self, queues: Iterable[str]) -> None:
        """Recover the expired messages of these queues from now on."""
        with self._lock:
            self._queues.update(queues)
        self.on_watch()

    # --- how deliveries end

    @property
    def client(self) -> Any:
        """Return the redis-py client that is used for everything except the fetch."""
        if self._client is None:
            self._client = self._connect()
        return self._client

    def settle(self, deliveries: Iterable[tuple[str, str]]) -> None:
        """Settle (id, queue) pairs now, in one round trip.

        If Redis is unavailable, they stay held, their leases are renewed, and they are settled with the next renewal,
        because the work is done and must not be repeated.
        """
        pairs = list(deliveries)
        if self._unsettled and not self.is_leaving():
            # Redis did not answer last time, and each attempt may take seconds; leave the next attempt to the renewal.
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
        """Put held messages back into their queues; return how many were still held.

        A message that is not held any more, by this process or in Redis, is not touched. If Redis is unavailable, the
        messages stay held, their leases are renewed, and they are given back with the same outcome as soon as Redis is
        available again. So the outage does not count as a delivery for a message that has not started.

        Raises:
            OSError, redis.exceptions.RedisError: Redis is unavailable, and this worker is leaving and cannot retry.
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
                # From the newest to the oldest: each is put at the front, so their order stays the same.
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
        # On a retry, the first attempt may have succeeded although its reply was lost.
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
        """Return keys and arguments of the script that puts a message back; an unreadable one is dead-lettered.

        Whatever the value contains, the other messages of the round are not affected.
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
        """Keep holding a message, and give it back after a delay (or at once when the worker leaves)."""
        if delivery in self._held:
            self._delayed[delivery] = Delayed(time.monotonic() + seconds, outcome, why)

    def note_unanswered(self, first: int, most: int, queues: Iterable[str]) -> None:
        """After a take whose reply was lost, look for the messages that it took, as soon as Redis is available.

        Args:
            first: number of the first delivery of the take.
            most: largest number of deliveries of the take.
            queues: the queues that it was to take from.
        """
        if most:
            ids = [self.id_of(number) for number in range(first, first + most)]
            self._unanswered.add(ids, queues)

    def dead_letter(self, delivery: str, queue: str, message: bytes, why: str) -> bool:
        """Move a held message to the dead-letter queue; return whether it was still held."""
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
            except Exception:  # raised by a reporter: it must not end the round or the fetch that called this
                logger.exception("could not report a dead letter")
        return True

    def note_lost(self, deliveries: list[str]) -> None:
        """Remove deliveries whose lease was lost: another worker has the message now."""
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
        """Return the held deliveries' ids for each watched queue, oldest first; queues in order."""
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
