"""N waiters, each in its own process, acquire a lock once and release it: how long until all are served?

The clock starts when the lock, held until then by this process, is released with everybody in the line, and stops
when the last waiter has let go. Besides: commands that Redis gets while 16 waiters wait, and the order of service.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from typing import Any

import redis
from harness import Comparison, a_redis, alternate, eventually, report
from redis.lock import Lock as RedisLock

from celeriac.locks.lock import Lock

CLASSES: dict[bool, Any] = {True: Lock, False: RedisLock}


def wait_in_line(url: str, ours: bool, number: int, started: Any, served: Any, all_served: Any) -> None:
    with redis.Redis.from_url(url) as client:
        with CLASSES[ours](client, f"warm-{number}", timeout=60):
            pass  # a process just forked runs everything slowly the first time
        lock = CLASSES[ours](client, "line", timeout=60)
        started.put(number)
        with lock:
            began = time.monotonic()
        served.put((number, began, time.monotonic()))
        all_served.wait()  # a process that ends takes processor time from those who still wait


def measure(url: str, ours: bool, waiters: int, wait_seconds: float = 0) -> tuple[float, float, int]:
    """Milliseconds until all are served, commands a second meanwhile waiting, and waiters served out of turn."""
    context = multiprocessing.get_context("fork")
    started, served, all_served = context.SimpleQueue(), context.SimpleQueue(), context.Event()
    with redis.Redis.from_url(url) as client:
        client.flushall()
        owner = CLASSES[ours](client, "line", timeout=60)
        owner.acquire()
        processes = []
        for number in range(waiters):
            process = context.Process(target=wait_in_line, args=(url, ours, number, started, served, all_served))
            process.start()
            processes.append(process)
            started.get()
            if ours:
                eventually(lambda number=number: client.llen("celeriac:waiters:{line}") > number, every=0.002)
            else:
                time.sleep(0.005)  # it has asked once by then; where it stands cannot be seen
        if ours:
            eventually(lambda: client.info("clients")["blocked_clients"] == waiters, every=0.005)
        # At a random phase of the pollers' interval.
        time.sleep(max(wait_seconds, 0.05 + time.time() % 0.1))
        before = client.info("stats")["total_commands_processed"]
        if wait_seconds:
            time.sleep(wait_seconds)
        commands = client.info("stats")["total_commands_processed"] - before - 1
        begun = time.monotonic()
        owner.release()
        order = [served.get() for _ in range(waiters)]
        all_served.set()
        for process in processes:
            process.join()
    seconds = max(ended for _, _, ended in order) - begun
    by_time = [number for number, _, _ in sorted(order, key=lambda it: it[1])]
    return seconds * 1000, commands, sum(number != place for place, number in enumerate(by_time))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--wait-seconds", type=float, default=10)
    flags = parser.parse_args()
    comparisons = []
    out_of_turn = {"ours": 0, "peer": 0}
    with a_redis() as server:

        def timed(waiters: int, *, ours: bool) -> float:
            milliseconds, _, disorder = measure(server.url, ours, waiters)
            out_of_turn["ours" if ours else "peer"] += disorder
            return milliseconds

        for waiters in (16, 2, 64):
            name = "lock-contended" if waiters == 16 else f"N = {waiters}"
            comparison = Comparison(name, "ms until all are served", less_is_better=True)
            comparisons.append(
                alternate(
                    flags.repeats,
                    comparison,
                    lambda waiters=waiters: timed(waiters, ours=True),
                    lambda waiters=waiters: timed(waiters, ours=False),
                )
            )
        commands = {side: measure(server.url, side == "ours", 16, flags.wait_seconds)[1] for side in ("ours", "peer")}
    details = {
        f"commands while 16 waiters wait for {flags.wait_seconds:g} s": commands,
        "served out of turn": out_of_turn,
    }
    report(comparisons[0], details, comparisons[1:])


if __name__ == "__main__":
    main()
