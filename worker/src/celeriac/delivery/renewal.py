"""Renews the leases of held messages, and puts back the messages of dead workers.

One thread renews the leases well before they expire, through its own connection. The same thread puts back messages of
other workers whose leases have expired, settles deliveries that could not be settled while Redis was unavailable, and
reports this worker to the autoscaler.

**An outage of Redis** never costs a living worker its messages, however long the outage lasts: after it, owners have
half a lease to renew before a lease counts as expired (see the script). A failed renewal is therefore repeated much
sooner than the next one is due.

**Limit.** The thread cannot renew while other code holds the GIL for longer than the lease.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field
from typing import Any, Final

from redis.exceptions import RedisError, ResponseError

from celeriac import counts
from celeriac.delivery import scripts
from celeriac.delivery.holdings import AWAY, Holdings
from celeriac.delivery.values.outcomes import Outcome
from celeriac.loop import Loop
from celeriac.printable import printable
from celeriac.store import keys
from celeriac.store.replies import text

logger = logging.getLogger(__name__)

RENEWALS_PER_LEASE: Final = 4
"""Three renewals in a row may fail before a lease is lost."""
EXPIRED_AT_ONCE: Final = 100
"""Expired messages of one queue put back in one round; bounds the size of a reply."""


RENEWED_AT_ONCE: Final = 1000
"""Leases renewed by one call of the script; bounds how long the call blocks the server."""
SOONEST_RETRY_SECONDS: Final = 0.5
RETRIES_PER_INTERVAL: Final = 8
"""Attempts in the time between two renewals while they fail; well within the grace period after an outage."""


@dataclass(slots=True)
class Round:
    """The result of one round of the renewal; for logs and tests."""

    renewed: int = 0
    lost: list[str] = field(default_factory=list)
    expired: int = 0
    """Messages of other workers that were put back."""


class LeaseRenewal:
    """The renewal of one process's leases. All methods may be called from any thread.

    Args:
        holdings: what the process holds.
    """

    def __init__(self, holdings: Holdings) -> None:
        self.holdings = holdings
        self._begin()

    def _begin(self) -> None:
        self._is_failing = False
        # The first round runs at once, so that the autoscaler learns immediately that there is a worker.
        self._loop = Loop(self._round, name="leases", seconds=self._pause_seconds, begins_at_once=True)
        self._has_said_refused = False

    def begin_anew(self) -> None:
        """Start again without a thread; called in a forked process, which has none of its parent's threads."""
        self._begin()

    @property
    def interval_seconds(self) -> float:
        """Return the seconds between two renewals."""
        return self.holdings.lease_seconds / RENEWALS_PER_LEASE

    def start(self) -> None:
        """Start renewing; a second call has no effect."""
        self._loop.start()

    def stop(self) -> None:
        """Stop renewing. The leases of messages that are still held then expire."""
        self._loop.stop()

    def leave(self) -> None:
        """Stop renewing, settle the remaining deliveries, and remove this worker from the pool's workers.

        If Redis is unavailable, the worker's entry expires after two leases.
        """
        has_reported = self._loop.is_running
        self._loop.stop(wait_seconds=1)  # otherwise its last report might be written after this one
        holdings = self.holdings
        with contextlib.suppress(OSError, RedisError):
            holdings.catch_up()  # there is no later round that would do it
        if holdings.figures is not None and has_reported and not self._is_failing:
            with contextlib.suppress(OSError, RedisError):
                holdings.client.hdel(holdings.figures.workers_key, holdings.identity)

    def run_once(self) -> Round:
        """Renew every lease once, put back expired messages, and give back the delayed ones that are due."""
        holdings = self.holdings
        holdings.catch_up()
        ids = holdings.by_queue()
        queues = list(ids)
        done = Round(renewed=sum(map(len, ids.values())))
        if not queues:
            return done
        failed: dict[str, str] = {}
        # Only the last call looks for expired leases: all leases of this process are renewed by then.
        *parts, last = _slices(ids)
        for part in parts:
            self._renew(list(part), part, looks=False, done=done, failed=failed)
        expired = self._renew(queues, last, looks=True, done=done, failed=failed)
        counts.LEASES_RENEWED.add(amount=max(0, done.renewed - len(done.lost)))
        for queue, delivery, due, value in expired:
            done.expired += self._put_back(queue, delivery, due, value)
        if done.expired:
            logger.warning("gave back %d message(s) of dead workers", done.expired)
        if failed:
            queue, why = next(iter(failed.items()))
            raise RedisError(f"{why} (queue {queue!r}{f', and {len(failed) - 1} more' if len(failed) > 1 else ''})")
        return done

    def _renew(
        self, queues: list[str], ids: dict[str, list[str]], *, looks: bool, done: Round, failed: dict[str, str]
    ) -> list[tuple[str, str, str, bytes]]:
        """Call the script once; return queue, id, end of the lease and value of each delivery with an expired lease."""
        holdings = self.holdings
        says = self._says() if looks else [""] * 6
        args: list[Any] = [int(holdings.lease_seconds * 1000), EXPIRED_AT_ONCE if looks else 0, *says]
        for queue in queues:
            args += [len(ids.get(queue, ())), *ids.get(queue, ())]
        names = holdings.pairs(queues)
        names += [keys.line(queue, prefix=holdings.prefix) for queue in queues]
        names += [keys.renewed(queue, prefix=holdings.prefix) for queue in queues]
        lost, expired, refused, errors = scripts.RENEW.run(holdings.client, names, args)
        self._note_refused(text(refused))
        # A delivery that was settled while the script ran is not lost.
        still_held = [delivery for item in lost if (delivery := text(item)) in holdings]
        holdings.note_lost(still_held)
        done.lost += still_held
        failed.update((queues[index], text(why)) for index, why in zip(errors[::2], errors[1::2], strict=True))
        fours = zip(expired[::4], expired[1::4], expired[2::4], expired[3::4], strict=True)
        return [(queues[index], text(delivery), text(due), value) for index, delivery, due, value in fours]

    def _put_back(self, queue: str, delivery: str, due: str, value: bytes) -> bool:
        """Put back a message of another worker whose lease expired at `due`; return whether it was still held.

        A message that Redis refuses to move, for instance because its list's key has another type, stays held. The
        other messages of the round are put back.
        """
        why = f"its worker stopped renewing the lease of {self.holdings.lease_seconds:g} s"
        try:
            call = self.holdings.put_back_call(queue, delivery, value, Outcome.EXPIRED, why)
            if call is None:
                return False
            names, args = call
            return bool(scripts.GIVE_BACK_EXPIRED.run(self.holdings.client, names, [*args, due]))
        except ResponseError as error:
            if isinstance(error, AWAY):
                raise
            logger.warning("cannot put message %s of queue %s back: %s", delivery, printable(queue), error)
            return False

    def _says(self) -> list[Any]:
        """Return what the script writes for the autoscaler."""
        figures = self.holdings.figures
        if figures is None:
            return [""] * 6
        figures.note_runtimes()
        key, number, entry = figures.say()
        return [key, self.holdings.identity, number, entry, figures.layout_key, figures.layout]

    def _note_refused(self, why: str) -> None:
        if why and not self._has_said_refused:
            self._has_said_refused = True
            logger.warning("Redis refuses this worker's report to the autoscaler, which does not see it (%s)", why)

    def _round(self) -> None:
        error = self._attempt()
        if error is not None and not self._is_failing:
            logger.warning("cannot renew leases: %s; trying again", error)
        elif error is None and self._is_failing:
            logger.info("leases are renewed again")
        self._is_failing = error is not None

    def _pause_seconds(self) -> float:
        if not self._is_failing:
            return self.interval_seconds
        return min(self.interval_seconds, max(SOONEST_RETRY_SECONDS, self.interval_seconds / RETRIES_PER_INTERVAL))

    def _attempt(self) -> Exception | None:
        try:
            self.run_once()
        except Exception as error:  # the thread must not end on any error: the next round may succeed
            return error
        return None


def _slices(ids: dict[str, list[str]]) -> list[dict[str, list[str]]]:
    """Split the leases into parts of at most `RENEWED_AT_ONCE`; at least one part."""
    flat = [(queue, delivery) for queue, deliveries in ids.items() for delivery in deliveries]
    parts = []
    for at in range(0, max(1, len(flat)), RENEWED_AT_ONCE):
        part: dict[str, list[str]] = {}
        for queue, delivery in flat[at : at + RENEWED_AT_ONCE]:
            part.setdefault(queue, []).append(delivery)
        parts.append(part)
    return parts
