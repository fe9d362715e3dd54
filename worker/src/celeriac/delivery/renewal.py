"""How does a process keep the leases of what it holds, and who puts back what a dead worker has left?

A thread renews the leases well before they run out, through a connection of its own. The same thread puts back messages
of other workers whose leases have run out, settles what Redis was not reached for, and tells the autoscaler what this
worker does.

**Limit.** A thread cannot renew while other code holds Python's global lock for longer than the lease.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import dataclass, field
from typing import Any, Final

from redis.exceptions import RedisError

from celeriac import counts
from celeriac.delivery import scripts
from celeriac.delivery.holdings import Holdings
from celeriac.store import keys
from celeriac.store.replies import text

logger = logging.getLogger(__name__)

RENEWALS_PER_LEASE: Final = 4
"""Three renewals in a row may fail before a lease is lost."""
EXPIRED_AT_ONCE: Final = 100
"""Expired messages of one queue put back in one round: bounds the size of an answer."""


@dataclass(slots=True)
class Round:
    """What one pass of the renewal did; returned for logs and tests."""

    renewed: int = 0
    lost: list[str] = field(default_factory=list)
    expired: int = 0
    """Messages of other workers that were put back."""


class Renewal:
    """The renewal of one process's leases. All methods may be called from any thread.

    Args:
        holdings: what the process holds.
    """

    def __init__(self, holdings: Holdings) -> None:
        self.holdings = holdings
        self._starting = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_failing = False
        self._has_said_refused = False

    @property
    def interval_seconds(self) -> float:
        """Seconds between two renewals."""
        return self.holdings.lease_seconds / RENEWALS_PER_LEASE

    def start(self) -> None:
        """Start renewing; a second call changes nothing."""
        with self._starting:
            if self._thread is not None and self._thread.is_alive():
                return
            self._stopped.clear()
            self._thread = threading.Thread(target=self._run, name="celeriac-leases", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop renewing. The leases of what is still held then run out."""
        self._stopped.set()

    def leave(self) -> None:
        """Stop renewing, and be counted among the pool's workers no more. Without Redis that takes two leases."""
        self.stop()
        if self._thread is not None:
            self._thread.join(1)  # else its last report might be written after this one
        holdings = self.holdings
        if holdings.figures is not None and self._thread is not None and not self._is_failing:
            with contextlib.suppress(OSError, RedisError):
                holdings.client.hdel(holdings.figures.workers_key, holdings.identity)

    def run_once(self) -> Round:
        """Renew every lease once, put back what has expired, give back what was to be given back by now."""
        holdings = self.holdings
        holdings.settle_rest()
        ids = holdings.by_queue()
        queues = list(ids)
        done = Round(renewed=sum(map(len, ids.values())))
        if not queues:
            return done
        args: list[Any] = [int(holdings.lease_seconds * 1000), EXPIRED_AT_ONCE, *self._says()]
        for queue in queues:
            args += [len(ids[queue]), *ids[queue]]
        names = holdings.pairs(queues) + [keys.line(queue, prefix=holdings.prefix) for queue in queues]
        lost, expired, refused = scripts.RENEW.run(holdings.client, names, args)
        self._note_refused(text(refused))
        # What was settled while the script ran is not lost.
        done.lost = [delivery for item in lost if (delivery := text(item)) in holdings]
        holdings.note_lost(done.lost)
        counts.LEASES_RENEWED.add(amount=max(0, done.renewed - len(done.lost)))
        for index, delivery, value in zip(expired[::3], expired[1::3], expired[2::3], strict=True):
            if holdings.put_back_expired(queues[index], text(delivery), value):
                done.expired += 1
        if done.expired:
            logger.warning("put %d message(s) back whose worker is gone", done.expired)
        holdings.give_back_delayed()
        return done

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

    def _run(self) -> None:
        # The first round is for the autoscaler, which is notified at once that there is a worker.
        while not self._stopped.is_set():
            error = self._attempt()
            if error is not None and not self._is_failing:
                logger.warning("cannot renew leases: %s; trying again", error)
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
