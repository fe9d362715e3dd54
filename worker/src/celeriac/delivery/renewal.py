"""How does a process keep the leases of what it holds, and who puts back what a dead worker has left?

A thread renews the leases well before they run out, through a connection of its own. The same thread puts back messages
of other workers whose leases have run out, settles what Redis was not reached for, and tells the autoscaler what this
worker does.

**An outage of Redis** takes nothing from a worker that is alive, however long it lasts: once it is over, owners get
half a lease to renew before anything counts as run out (see the script). A renewal that failed is therefore tried again
much sooner than the next one is due.

**Limit.** A thread cannot renew while other code holds Python's global lock for longer than the lease.
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
"""Expired messages of one queue put back in one round: bounds the size of an answer."""


RENEWED_AT_ONCE: Final = 1000
"""Leases renewed by one call of the script: bounds how long it keeps the server."""
SOONEST_RETRY_SECONDS: Final = 0.5
RETRIES_PER_INTERVAL: Final = 8
"""Attempts within the time between two renewals, while they fail: well within the grace after an outage."""


@dataclass(slots=True)
class Round:
    """What one pass of the renewal did; returned for logs and tests."""

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
        # The first round is for the autoscaler, which is notified at once that there is a worker.
        self._loop = Loop(self._round, name="leases", seconds=self._pause_seconds, begins_at_once=True)
        self._has_said_refused = False

    def begin_anew(self) -> None:
        """Renew nothing yet; called in a process that was forked off, which has none of its parent's threads."""
        self._begin()

    @property
    def interval_seconds(self) -> float:
        """Seconds between two renewals."""
        return self.holdings.lease_seconds / RENEWALS_PER_LEASE

    def start(self) -> None:
        """Start renewing; a second call changes nothing."""
        self._loop.start()

    def stop(self) -> None:
        """Stop renewing. The leases of what is still held then run out."""
        self._loop.stop()

    def leave(self) -> None:
        """Stop renewing, settle what is left, and be counted among the pool's workers no more.

        Without Redis the last takes two leases.
        """
        has_reported = self._loop.is_running
        self._loop.stop(wait_seconds=1)  # else its last report might be written after this one
        holdings = self.holdings
        with contextlib.suppress(OSError, RedisError):
            holdings.catch_up()  # nobody will do it later
        if holdings.figures is not None and has_reported and not self._is_failing:
            with contextlib.suppress(OSError, RedisError):
                holdings.client.hdel(holdings.figures.workers_key, holdings.identity)

    def run_once(self) -> Round:
        """Renew every lease once, put back what has expired, give back what was to be given back by now."""
        holdings = self.holdings
        holdings.catch_up()
        ids = holdings.by_queue()
        queues = list(ids)
        done = Round(renewed=sum(map(len, ids.values())))
        if not queues:
            return done
        failed: dict[str, str] = {}
        # Leases that have run out are looked for in the last call, when all own ones are renewed.
        *parts, last = _slices(ids)
        for part in parts:
            self._renew(list(part), part, looks=False, done=done, failed=failed)
        expired = self._renew(queues, last, looks=True, done=done, failed=failed)
        counts.LEASES_RENEWED.add(amount=max(0, done.renewed - len(done.lost)))
        for queue, delivery, due, value in expired:
            done.expired += self._put_back(queue, delivery, due, value)
        if done.expired:
            logger.warning("put %d message(s) back whose worker is gone", done.expired)
        if failed:
            queue, why = next(iter(failed.items()))
            raise RedisError(f"{why} (queue {queue!r}{f', and {len(failed) - 1} more' if len(failed) > 1 else ''})")
        return done

    def _renew(
        self, queues: list[str], ids: dict[str, list[str]], *, looks: bool, done: Round, failed: dict[str, str]
    ) -> list[tuple[str, str, str, bytes]]:
        """Call the script once; queue, id, end of the lease and value of each delivery whose lease has run out."""
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
        # What was settled while the script ran is not lost.
        still_held = [delivery for item in lost if (delivery := text(item)) in holdings]
        holdings.note_lost(still_held)
        done.lost += still_held
        failed.update((queues[index], text(why)) for index, why in zip(errors[::2], errors[1::2], strict=True))
        fours = zip(expired[::4], expired[1::4], expired[2::4], expired[3::4], strict=True)
        return [(queues[index], text(delivery), text(due), value) for index, delivery, due, value in fours]

    def _put_back(self, queue: str, delivery: str, due: str, value: bytes) -> bool:
        """Put back a message of another worker whose lease has run out at `due`; whether it was still held.

        One that Redis refuses to move, for instance because its list's key has another type, stays where it is. The
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
        """What the script writes down for the autoscaler."""
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
        except Exception as error:  # whatever it was, the next round may succeed, and the thread must not end
            return error
        return None


def _slices(ids: dict[str, list[str]]) -> list[dict[str, list[str]]]:
    """Cut what is to be renewed into parts of at most `RENEWED_AT_ONCE`; at least one part."""
    flat = [(queue, delivery) for queue, deliveries in ids.items() for delivery in deliveries]
    parts = []
    for at in range(0, max(1, len(flat)), RENEWED_AT_ONCE):
        part: dict[str, list[str]] = {}
        for queue, delivery in flat[at : at + RENEWED_AT_ONCE]:
            part.setdefault(queue, []).append(delivery)
        parts.append(part)
    return parts
