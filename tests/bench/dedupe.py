"""Which calls are published twice, and which are lost, when 32 producers call the same task and some are killed?

All call a task that may be queued once for each key, at the same time, with a key that changes every 2 ms; producers
are killed at random moments and replaced. No worker runs, so at the end there must be one message for each key that any
call has returned for. `ours` and `peer` count the keys that have another number of them: more than one is a duplicate;
none is a call that was lost because its producer died between taking the lock and publishing, after which every other
call of the key was dropped, for as long as the lock stands. The peers are celery-once and celery-singleton, `peer` is
the better of the two; they have an environment of their own, with the same versions of Celery and redis-py.
"""

from __future__ import annotations

import argparse
import collections
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness import a_redis, print_result, print_table
from tests.environments import python_of

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LOCK = HERE / "requirements.lock"
SIDES = ("ours", "celery-once", "celery-singleton")


def run(side: str, flags: argparse.Namespace, seed: int) -> dict[str, Any]:
    with a_redis() as server:
        python = sys.executable if side == "ours" else python_of("bench", LOCK)
        command = [python, HERE / "dedupe_producers.py", side, server.url, flags.seconds, flags.kills, seed]
        done = subprocess.run([str(it) for it in command], check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout)
        messages = collections.Counter(
            json.loads(message)["headers"]["argsrepr"] for message in server.client.lrange("celery", 0, -1)
        )
    keys = [f"('key-{number}',)" for number in found["keys"]]
    return {
        "duplicates": sum(messages[key] > 1 for key in keys),
        "lost": sum(messages[key] == 0 for key in keys),
        "keys": len(keys),
        "calls a second": round(found["calls"] / float(flags.seconds), 1),
        "producers that failed": found["failed"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--kills", type=int, default=300, help="in each repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    flags = parser.parse_args()
    print(f"seed {flags.seed}")
    python_of("bench", LOCK)
    totals: dict[str, dict[str, Any]] = {side: collections.Counter() for side in SIDES}
    for repeat in range(flags.repeats):
        for side in SIDES if repeat % 2 else SIDES[::-1]:
            totals[side].update(run(side, flags, flags.seed + repeat))
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for figures in totals.values():
        figures["calls a second"] = round(figures["calls a second"] / flags.repeats, 1)
    print_table(["side", *totals["ours"]], [[side, *map(str, figures.values())] for side, figures in totals.items()])
    wrong = {side: figures["duplicates"] + figures["lost"] for side, figures in totals.items()}
    peer = min(wrong[side] for side in SIDES[1:])
    details = {**totals, "kills": flags.kills * flags.repeats, "producers": 32, "seed": flags.seed}
    ratio = (peer + 1) / (wrong["ours"] + 1)
    print_result("dedupe", wrong["ours"], peer, ratio, "keys doubled or lost", details)


if __name__ == "__main__":
    main()
