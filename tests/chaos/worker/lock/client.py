"""One client of the lock campaign: takes the lock, writes to the store, lets go, until it is killed."""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import redis
from redis.exceptions import LockError, RedisError
from tests.chaos.worker import journal
from tests.chaos.worker.lock.broken_locks import KINDS
from tests.chaos.worker.lock.fenced_store import FencedStore

from celeriac.locks.lock import Lock

NAME = "contended"
TIMEOUT_SECONDS = 1.0


def hold(lock: Lock, client: str, asked: float, store: FencedStore, notes: Path, seconds: float) -> None:
    """What is done under the lock, from having it to letting go."""
    fence = lock.fence or 0
    store.write(client, fence)
    # A lock that was handed over began to run out at an unknown moment: begin its time anew, and hold it for certain.
    confirmed = time.monotonic()
    lock.reacquire()
    had = time.monotonic()
    time.sleep(seconds)
    store.write(client, fence)
    leaving = time.monotonic()
    # Redis counts in milliseconds.
    until = min(leaving, confirmed + TIMEOUT_SECONDS - 0.005)
    journal.note(notes, "held", client=client, fence=fence, asked=asked, had=had, until=until)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--client", required=True)
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--late", type=float, required=True, help="share of owners that outlive their time")
    flags = parser.parse_args()
    chance = random.Random(flags.seed)  # noqa: S311 - a plan that can be repeated
    notes = flags.directory / "journal"
    store = FencedStore(flags.directory / "store")
    with redis.Redis.from_url(flags.url) as client:
        while True:
            lock = KINDS[flags.kind](client, NAME, timeout=TIMEOUT_SECONDS)
            asked = time.monotonic()
            try:
                if not lock.acquire(blocking_timeout=chance.choice((None, None, 0.05, 2))):
                    continue
                try:
                    late = chance.random() < flags.late
                    seconds = TIMEOUT_SECONDS * 1.3 if late else chance.uniform(0, 0.02)
                    hold(lock, flags.client, asked, store, notes, seconds)
                finally:
                    lock.release()
            except (LockError, RedisError, OSError):
                time.sleep(0.02)  # Redis away, or the lock lost: try again


if __name__ == "__main__":
    main()
