"""How late does a debounced task start, with 100 keys per second and three calls for each?

The moment is one second after the key's last call, by the clock of this machine. The peer is what people write by hand
in plain Celery: each call puts a token into a cache and publishes a message with a countdown; the message whose token
is still there runs. It takes no second trip through the queue, so it ought to be nearer to the moment. What it pays: a
message for each call, a call lost when the producer dies between its two steps, no bound (`max_wait`), and nothing for
an hour when the worker that holds the message is killed. `ours` and `peer` are the 99th percentile in ms.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import APPS, Comparison, Worker, a_redis, alternate, eventually, report

sys.path.insert(0, str(APPS))

SPREAD_SECONDS = (0.0, 0.15, 0.3)
"""When the calls of a key come, after its first."""


def call_at_rate(call: Callable[[str, float], object], keys: int, rate: float) -> dict[str, float]:
    """Make the calls of all keys at their moments; when the last call of each key was made."""
    plan = sorted((key / rate + after, key) for key in range(keys) for after in SPREAD_SECONDS)
    last: dict[str, float] = {}
    began = time.time()
    for moment, key in plan:
        time.sleep(max(0.0, began + moment - time.time()))
        last[str(key)] = called_at = time.time()
        call(str(key), called_at)
    return last


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def run(side: str, flags: argparse.Namespace, sides: dict[str, dict[str, Any]]) -> float:
    keys, found, is_ours = flags.keys, sides[side], side == "ours"
    with tempfile.NamedTemporaryFile() as notes, a_redis() as server:
        os.environ.update(BENCH_NOTES=notes.name, BENCH_URL=server.url)
        sys.modules.pop("debounce_app", None)
        app: Any = importlib.import_module("debounce_app")
        worker = Worker(server.url, ours=is_ours, pool="threads", concurrency=4, prefetch=1000, app="debounce_app:app")
        call = app.ours.delay if is_ours else app.call_by_hand

        def lines() -> list[list[str]]:
            return [line.split() for line in Path(notes.name).read_text().splitlines()]

        try:
            call("warm-up", time.time())
            eventually(lines, timeout=60)
            last = call_at_rate(call, keys, flags.rate)
            eventually(lines, lambda it: len(it) > keys, timeout=60, every=0.1)
        finally:
            worker.kill()
            app.app.close()
        runs = [it for it in lines() if it[0] != "warm-up"]
    errors = [abs(float(ran) - float(called) - app.QUIET_SECONDS) * 1000 for _, called, ran in runs]
    with_last = {key for key, called, _ in runs if float(called) == last[key]}
    found["runs"] += len(runs)
    found["keys"] += keys
    found["keys that did not run with their last call"] += keys - len(with_last)
    first = min(float(ran) - float(called) - app.QUIET_SECONDS for _, called, ran in runs) * 1000
    found["earliest ms"] = min(found["earliest ms"], round(first, 2))
    found["p50 ms"].append(round(percentile(errors, 0.5), 2))
    found["worst ms"].append(round(max(errors), 2))
    return percentile(errors, 0.99)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1500, help="in each repeat")
    parser.add_argument("--rate", type=float, default=100.0, help="keys a second")
    parser.add_argument("--repeats", type=int, default=3)
    flags = parser.parse_args()
    sides: dict[str, dict[str, Any]] = {}
    for side in ("ours", "by hand"):
        sides[side] = {"runs": 0, "keys": 0, "keys that did not run with their last call": 0, "earliest ms": 1e9}
        sides[side] |= {"p50 ms": [], "worst ms": []}
    comparison = alternate(
        flags.repeats,
        Comparison("debounce", "ms late at p99", less_is_better=True),
        lambda: run("ours", flags, sides),
        lambda: run("by hand", flags, sides),
    )
    details = {**sides, "p99 of each repeat": {"ours": comparison.ours, "by hand": comparison.peer}}
    report(comparison, {**details, "messages for each call": {"ours": "1/3, and one more to run", "by hand": "1"}})


if __name__ == "__main__":
    main()
