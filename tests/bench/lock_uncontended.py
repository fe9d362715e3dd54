"""How long does it take to acquire and release a lock that nobody else wants?"""

from __future__ import annotations

import argparse
import time
from typing import Any

import redis
from harness import Comparison, a_redis, alternate, report
from redis.lock import Lock as RedisLock

from celeriac.locks.lock import Lock


def measure(client: Any, kind: Any, count: int) -> float:
    """Microseconds for each acquisition and release, the object made anew each time as code does."""
    begun = time.perf_counter()
    for _ in range(count):
        with kind(client, "x", timeout=30):
            pass
    return (time.perf_counter() - begun) / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    # Short turns: a small machine changes its pace within a second, by more than is to be told apart here.
    parser.add_argument("--repeats", type=int, default=601)
    parser.add_argument("--count", type=int, default=25)
    flags = parser.parse_args()
    with a_redis() as server, redis.Redis.from_url(server.url) as client:
        measure(client, Lock, 50)
        measure(client, RedisLock, 50)
        comparison = Comparison("lock-uncontended", "µs", less_is_better=True)
        alternate(
            flags.repeats,
            comparison,
            lambda: measure(client, Lock, flags.count),
            lambda: measure(client, RedisLock, flags.count),
        )
    report(comparison)


if __name__ == "__main__":
    main()
