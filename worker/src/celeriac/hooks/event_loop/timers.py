"""How long may the event loop sleep while timers are due?

kombu's loop fires at most ten timers in each turn, and then sleeps for a second even if an eleventh is due. Celery sets
one timer for each rate-limited message that waits. With more than ten of them, a limit of a hundred tasks a second
becomes one task a second (measured with Celery 5.7: 50 tasks took 22 to 45 s). Of messages whose ETA is the same
moment, only ten start at once.
"""

from __future__ import annotations

import time
from typing import Any


def stay_awake(hub: Any) -> None:
    """If a timer is due, let the loop check its sockets without sleeping."""
    if "fire_timers" in vars(hub):
        return  # the loop belongs to an earlier connection, and is patched already
    fire_timers = hub.fire_timers

    def fire(**options: Any) -> float:
        seconds: float = fire_timers(**options)
        waiting = hub.timer._queue if hub.timer else ()
        return 0 if waiting and waiting[0].eta <= time.monotonic() else seconds

    hub.fire_timers = fire
