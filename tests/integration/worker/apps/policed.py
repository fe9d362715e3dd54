"""An application whose tasks carry policies. Runs are noted in files: `NAME-began`, `NAME-ended`."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path

from celery import Celery

import celeriac

app = Celery("policies", set_as_current=False)
app.conf.update(task_ignore_result=False, broker_connection_retry_on_startup=True)
# Not shared with other applications in the process: each test makes one.
task = functools.partial(app.task, shared=False, base=celeriac.Task)
DIRECTORY = Path(os.environ.get("TEST_DIRECTORY", "."))


def note(file: str, line: object) -> None:
    with (DIRECTORY / file).open("a") as notes:
        notes.write(f"{line}\n")


@task(policy=celeriac.Throttle(key="user", seconds=2))
def notify(user: str, text: str = "") -> str:
    note("notify-began", user)
    return user


@task(bind=True, policy=celeriac.Throttle(key="user", seconds=60))
def flaky(self: celeriac.Task, user: str) -> int:
    note("flaky-began", self.request.retries)
    if self.request.retries < 2:
        raise self.retry(countdown=0.05)
    return int(self.request.retries)


def run_exclusively(running: celeriac.Task, name: str, key: str, seconds: float) -> int | None:
    note(f"{name}-began", f"{time.monotonic()} {key} {running.fence}")
    time.sleep(seconds)
    note(f"{name}-ended", f"{time.monotonic()} {key}")
    return running.fence


@task(bind=True, policy=celeriac.Exclusive(key="site", backoff_seconds=(0.1, 0.5), lock_seconds=3))
def crawl(self: celeriac.Task, site: str, seconds: float = 0.3) -> int | None:
    return run_exclusively(self, "crawl", site, seconds)


@task(bind=True, policy=celeriac.Exclusive(key="site", on_conflict="wait"))
def queue_up(self: celeriac.Task, site: str, seconds: float = 0.3) -> int | None:
    return run_exclusively(self, "queue_up", site, seconds)


@task(bind=True, policy=celeriac.Exclusive(key="site", on_conflict="skip"))
def refresh(self: celeriac.Task, site: str, seconds: float = 0.3) -> int | None:
    return run_exclusively(self, "refresh", site, seconds)


def run_and_note(name: str, key: str, value: int) -> int:
    note(f"{name}-began", f"{key} {value}")
    time.sleep(float(os.environ.get("HOLD_SECONDS", "0")))  # in a worker that is to be killed
    note(f"{name}-ended", f"{key} {value}")
    return value


@task(policy=celeriac.Throttle(key="key", seconds=600))
def throttled(key: str, value: int) -> int:
    return run_and_note("throttled", key, value)


@task(policy=celeriac.Unique(key="key"))
def unique(key: str, value: int) -> int:
    return run_and_note("unique", key, value)


@task(policy=celeriac.Debounce(key="key", seconds=1))
def debounced(key: str, value: int) -> int:
    return run_and_note("debounced", key, value)


@task(policy=celeriac.Debounce(key="key", seconds=10))
def debounced_slowly(key: str, value: int) -> int:
    return run_and_note("debounced_slowly", key, value)


@task(policy=celeriac.Coalesce(key="key"))
def coalesced(key: str, value: int) -> int:
    return run_and_note("coalesced", key, value)


@task(bind=True, policy=celeriac.Unique(key="key"))
def turning(self: celeriac.Task, key: str) -> str:
    if key == "ann":
        raise self.retry(args=("bob",), countdown=0.1)
    return key
