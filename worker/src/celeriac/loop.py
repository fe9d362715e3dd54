"""How does the library repeat an action in the background of an application's tasks?

Every background thread that repeats an action is a `Loop`. **Promise.** `start` and `stop` may be called twice and in
any order. A forked child does not inherit threads, so a loop of the parent process can be started again in the child.
An error ends one round, not the thread; the first error of a series and the first success after it are logged.
`stop_all` stops every loop of this process. A worker calls it when Celery has ended.

The threads are daemon threads, so they do not keep alive an application that ends without stopping the loops.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable

logger = logging.getLogger(__name__)

_running: weakref.WeakSet[Loop] = weakref.WeakSet()


class Loop:
    """Calls a function at intervals, in a separate thread.

    Args:
        run_once: the function, which performs one round.
        name: the thread's name, without the prefix `celeriac-`.
        seconds: the pause between two rounds; a function is called before each pause.
        begins_at_once: whether the first round comes before the first pause.
    """

    def __init__(
        self,
        run_once: Callable[[], object],
        *,
        name: str,
        seconds: float | Callable[[], float],
        begins_at_once: bool = False,
    ) -> None:
        self.run_once = run_once
        self.name = name
        self._seconds = seconds
        self._begins_at_once = begins_at_once
        self._starting = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_failing = False

    @property
    def is_running(self) -> bool:
        """Whether the thread is alive, in this process."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread. A loop that already runs is not changed."""
        with self._starting:
            if self.is_running and not self._stopped.is_set():
                return
            # Each thread has its own event, so that a thread that was told to stop does not continue.
            self._stopped = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(self._stopped,), name=f"celeriac-{self.name}", daemon=True
            )
            self._thread.start()
            _running.add(self)

    def stop(self, wait_seconds: float = 0.0) -> bool:
        """Start no more rounds.

        Args:
            wait_seconds: how long to wait for the current round.

        Returns:
            True if no round is running any more.
        """
        self._stopped.set()
        _running.discard(self)
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(wait_seconds)
        return not thread.is_alive()

    def _run(self, stopped: threading.Event) -> None:
        if self._begins_at_once and not stopped.is_set():
            self._attempt()
        while not stopped.wait(self._seconds if isinstance(self._seconds, (int, float)) else self._seconds()):
            self._attempt()

    def _attempt(self) -> None:
        try:
            self.run_once()
        except Exception as error:  # the next round may succeed
            if not self._is_failing:
                logger.warning("%s: %r; trying again", self.name, error, exc_info=logger.isEnabledFor(logging.DEBUG))
            self._is_failing = True
            return
        if self._is_failing:
            logger.info("%s: works again", self.name)
        self._is_failing = False


def stop_all(wait_seconds: float = 1.0) -> list[str]:
    """Stop all loops of this process and wait for them. Returns the names of those that did not end in time."""
    loops = list(_running)
    for loop in loops:
        loop.stop()
    return [loop.name for loop in loops if not loop.stop(wait_seconds)]
