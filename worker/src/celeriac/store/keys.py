"""(pure) Which keys does the library have in Redis?

Every key is built here and nowhere else. Braces make a hash tag, so that all keys of one script are in one slot of a
Redis Cluster. `{queue}` below stands for the queue's name as the application spells it. Keys of the delivery begin with
the application's `global_keyprefix`, as the transport's own keys do. Keys of a pool have no prefix: the operator reads
them to learn the prefix.

| key | type | what | expiry |
|---|---|---|---|
| `celeriac:held:{queue}` | hash | delivery id -> `<length of list name>:<list name><message>` | when settled |
| `celeriac:leases:{queue}` | sorted set | delivery id -> end of its lease, ms, server time | when settled |
| `celeriac:renewed:{queue}` | hash | lease, ms -> last renewal, ms; `grace` -> its end | an hour and four leases |
| `celeriac:line:{queue}` | sorted set | waiting workers, by when they began to wait | a minute each; all after five |
| `celeriac:dead:{queue}` | stream | the dead-letter queue | none; a person decides |
| `celeriac:workers:{namespace/pool}` | hash | identity -> `<end, ms>:<number>:<figures>` | entries: two leases |
| `celeriac:layout:{namespace/pool}` | string | JSON: how the transport names its lists | a year, renewed |
| lock's name | string | the owner's token | the lock's timeout |
| `celeriac:fence:{name}` | string | the last fence given out | a week after it began |
| `celeriac:waiters:{name}` | list | waiting clients, first come first | an hour after the last one joined |
| `celeriac:inbox:{name}:token` | list | the hand-over to one waiter: one entry | as the lock, usually taken at once |
| `celeriac:over:<delivery id>` | string | a delivery was given back: locks that its task took are free | a day |
| `celeriac:throttle:{task/key}` | string | id of the call that has the window | the window |
| `celeriac:unique:{task/key}` | string | `q:` (waits) or `r:` (runs), id of the call | its claim, renewed in a run |
| `celeriac:unique:{task/key}:queued` | set | ids of messages that were published and have not begun | a day |
| `celeriac:revoked:<id of a call>` | string | a worker was told that the call is revoked | three hours |
| `celeriac:unique:{task/key}:covered` | set | ids of messages whose work another one has taken on | a day |
| `celeriac:debounce:{task/key}` | hash | the burst: id, due time, newest message | when it fires; a week after a call |
| `celeriac:coalesce:{task/key}` | hash | what waits: id, newest message | when it starts; a week after a call |
| `celeriac:coalesce:{task/key}:running` | string | id of the call that runs | half a minute, renewed in a run |
| `celeriac:exclusive:{task/key}` | string | a lock, as above | its timeout, renewed while the task runs |
"""

from __future__ import annotations

import hashlib
from typing import Final

FENCE_SECONDS: Final = 7 * 86_400
BURST_SECONDS: Final = 7 * 86_400
COVERED_SECONDS: Final = 86_400
WAITERS_SECONDS: Final = 3_600
OVER_SECONDS: Final = 86_400
REVOKED_SECONDS: Final = 10_800
"""Celery's workers remember a revoked call for the same time."""
WORKERS_SECONDS: Final = 3_600
RENEWED_SECONDS: Final = 3_600
LINE_SECONDS: Final = 300
"""A waiting worker joins the line again after at most a minute."""
LAYOUT_SECONDS: Final = 365 * 86_400
"""A pool may have no worker for a long time; the operator must still find its lists when the first message comes."""

OVER_PREFIX: Final = "celeriac:over:"
_LONGEST_NAME: Final = 200


def held(queue: str, *, prefix: str = "") -> str:
    """Messages of a queue that were delivered and are not settled."""
    return f"{prefix}celeriac:held:{_tag(queue)}"


def leases(queue: str, *, prefix: str = "") -> str:
    """When the lease of each held message of a queue ends."""
    return f"{prefix}celeriac:leases:{_tag(queue)}"


def renewed(queue: str, *, prefix: str = "") -> str:
    """When leases of a queue were last renewed by any worker."""
    return f"{prefix}celeriac:renewed:{_tag(queue)}"


def line(queue: str, *, prefix: str = "") -> str:
    """Waiting workers; `queue` is the first, by name, of the queues that they consume."""
    return f"{prefix}celeriac:line:{_tag(queue)}"


def dead(queue: str, *, prefix: str = "") -> str:
    """Dead-lettered messages of a queue."""
    return f"{prefix}celeriac:dead:{_tag(queue)}"


def dead_pattern(*, prefix: str = "") -> str:
    """A pattern for SCAN that finds every dead-letter queue."""
    return f"{prefix}celeriac:dead:*"


def workers(pool: str) -> str:
    """The reports of the workers of a pool (`namespace/name`)."""
    return f"celeriac:workers:{_tag(pool)}"


def layout(pool: str) -> str:
    """How the application of a pool (`namespace/name`) names its lists."""
    return f"celeriac:layout:{_tag(pool)}"


def fence(lock: str) -> str:
    """The counter of a lock's acquisitions."""
    return f"celeriac:fence:{_tag(lock)}"


def waiters(lock: str) -> str:
    """The line in front of a lock."""
    return f"celeriac:waiters:{_tag(lock)}"


def inbox_prefix(lock: str) -> str:
    """The prefix of every waiter's inbox; the waiter's token follows."""
    return f"celeriac:inbox:{_tag(lock)}:"


def over(delivery: str) -> str:
    """The note that a delivery was given back. The delivery's id is unique, and locks do not know a prefix."""
    return f"{OVER_PREFIX}{delivery}"


def throttle(task: str, key: str, *, prefix: str = "") -> str:
    """The window of a throttled task and key."""
    return f"{prefix}celeriac:throttle:{{{_safe(f'{task}/{key}')}}}"


def unique(task: str, key: str, *, prefix: str = "") -> str:
    """Who has the claim of a unique task and key."""
    return f"{prefix}celeriac:unique:{{{_safe(f'{task}/{key}')}}}"


def queued(unique: str) -> str:
    """Messages of a unique task and key that were published and have not begun."""
    return f"{unique}:queued"


def revoked_prefix(*, prefix: str = "") -> str:
    """The prefix of a key that marks one call as revoked; the call's id follows."""
    return f"{prefix}celeriac:revoked:"


def covered(unique: str) -> str:
    """Messages of a unique task and key that do not need to run any more."""
    return f"{unique}:covered"


def debounce(task: str, key: str, *, prefix: str = "") -> str:
    """The burst of a debounced task and key."""
    return f"{prefix}celeriac:debounce:{{{_safe(f'{task}/{key}')}}}"


def coalesce(task: str, key: str, *, prefix: str = "") -> str:
    """The waiting call of a coalesced task and key."""
    return f"{prefix}celeriac:coalesce:{{{_safe(f'{task}/{key}')}}}"


def running(coalesce: str) -> str:
    """Which call of a coalesced task and key runs."""
    return f"{coalesce}:running"


def exclusive(task: str, key: str, *, prefix: str = "") -> str:
    """The lock of an exclusive task and key."""
    return f"{prefix}celeriac:exclusive:{{{_safe(f'{task}/{key}')}}}"


def _tag(name: str) -> str:
    """Write a name so that a key with it hashes to the same slot as the name alone.

    A name with its own hash tag (`lock:{42}`) is not changed: the first braces of the key are then those of the name.
    Redis hashes a name with an empty or unclosed tag as a whole, and a longer key cannot have the same hash. Such names
    do not work on a Cluster; elsewhere they do.
    """
    return name if "{" in name else f"{{{name}}}"


def _safe(name: str) -> str:
    """Return a name that can be used inside a hash tag: without braces, and short."""
    if "{" in name or "}" in name or len(name) > _LONGEST_NAME:
        return f"sha256-{hashlib.sha256(name.encode()).hexdigest()}"
    return name
