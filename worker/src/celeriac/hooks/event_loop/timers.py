"""How long may the loop sleep, when timers are due?

kombu's loop fires ten timers in a turn, and sleeps for a second then though an eleventh is due. Celery sets one for
each rate-limited message that waits, so with more than ten of them a limit of a hundred tasks a second becomes one a
second (5.7, measured: fifty tasks in 22 to 45 s); and of messages whose time has come at the same moment, ten begin.
"""

from __future__ import annotations

import time
from typing import Any


def stay_awake(hub: Any) -> None:
    """Let a loop that has a timer due look at its sockets, and go on at once."""
    if "fire_timers" in vars(hub):
        return  # the loop of an earlier connection
    fire_timers = hub.fire_timers

    def fire(**options: Any) -> float:
        seconds: float = fire_timers(**options)
        waiting = hub.timer._queue if hub.timer else ()
        return 0 if waiting and waiting[0].eta <= time.monotonic() else seconds

    hub.fire_timers = fire
