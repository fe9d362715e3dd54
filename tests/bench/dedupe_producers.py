"""32 producers of one side, some of which are killed; run by the benchmark `dedupe` in the side's own environment.

One process imports everything and forks the producers, so that a killed one is replaced at once. All producers call
with the key of the moment, which changes every few milliseconds, so that they meet. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery

# ruff: noqa: PLC0415 - each environment has the packages of its own side alone


def caller(side: str, url: str) -> Callable[[str], Any]:
    """What calls the side's task with a key; without connections yet."""
    app = Celery("dedupe", broker=url, set_as_current=False)
    app.conf.task_ignore_result = True
    if side == "ours":
        import celeriac

        @app.task(base=celeriac.Task, policy=celeriac.Unique(key="key"), name="work")
        def ours(key: str) -> None:
            """Never runs here."""

        return ours.delay
    if side == "celery-once":
        from celery_once import QueueOnce

        app.conf.ONCE = {
            "backend": "celery_once.backends.Redis",
            "settings": {"url": url, "default_timeout": 3600},
        }

        @app.task(base=QueueOnce, once={"graceful": True}, name="work")
        def once(key: str) -> None:
            """Never runs here."""

        return once.delay
    from celery_singleton import Singleton

    app.conf.singleton_backend_url = url

    @app.task(base=Singleton, name="work")
    def singleton(key: str) -> None:
        """Never runs here."""

    return singleton.delay


def produce(call: Callable[[str], Any], began: float, until: float, every: float, count: int) -> None:
    """Call until the time is up, and note the number of the key of each call that returned."""
    while (now := time.time()) < until:
        number = int((now - began) / every)
        call(f"key-{number}")
        os.write(count, b"%8d" % number)


def main() -> None:
    side, url, seconds, kills, seed = sys.argv[1:]
    chance = random.Random(int(seed))  # noqa: S311 - a plan that can be repeated
    call = caller(side, url)
    call("warm-up")  # loads what is loaded on first use; redis-py makes new connections after a fork
    every = 0.002
    with tempfile.NamedTemporaryFile() as calls:
        count = os.open(calls.name, os.O_WRONLY | os.O_APPEND)
        began = time.time()
        until = began + float(seconds)

        def start() -> int:
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    produce(call, began, until, every, count)
                    status = 0
                finally:
                    os._exit(status)
            return pid

        producers = [start() for _ in range(32)]
        for moment in sorted(chance.uniform(0, float(seconds) * 0.95) for _ in range(int(kills))):
            time.sleep(max(0.0, began + moment - time.time()))
            victim = chance.randrange(len(producers))
            os.kill(producers[victim], signal.SIGKILL)
            os.waitpid(producers[victim], 0)
            producers[victim] = start()
        failed = sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0 for pid in producers)
        noted = Path(calls.name).read_bytes()
    numbers = [int(noted[at : at + 8]) for at in range(0, len(noted), 8)]
    print(json.dumps({"calls": len(numbers), "failed": failed, "keys": sorted(set(numbers))}))


if __name__ == "__main__":
    main()
