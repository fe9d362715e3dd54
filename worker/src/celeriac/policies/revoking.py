"""How do policies learn that a waiting call was revoked?

Celery tells workers which calls are revoked, and a worker drops a revoked message when it takes it, perhaps much later.
Until then the call would keep its claim, and new calls of its key would be dropped. So a worker that gets the command
records the revoked ids in Redis, where the policies' scripts check them.

The command `revoke` is wrapped in the registry of Celery's remote commands. Because commands run in the worker's event
loop, a separate thread writes to Redis.
"""

from __future__ import annotations

import functools
import logging
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from kombu.utils.functional import maybe_list

from celeriac.exceptions import PolicyError
from celeriac.policies.publishing import FAILURES
from celeriac.store import connections
from celeriac.store.keys import REVOKED_SECONDS

logger = logging.getLogger(__name__)

LONGEST_ID: Final = 500
"""Characters; longer ids are not recorded."""


class Writer:
    """Records which calls are revoked, in a thread that starts with the first one."""

    def __init__(self) -> None:
        self._given: queue.SimpleQueue[tuple[Any, list[str]]] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, app: Any, ids: list[str]) -> None:
        """Queue these ids to be recorded."""
        self._given.put((app, ids))
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="celeriac-revoked", daemon=True)
                self._thread.start()

    def run_once(self) -> None:
        """Wait for the next ids and record them."""
        app, ids = self._given.get()
        try:
            write(app, ids)
        except (*FAILURES, PolicyError) as error:
            logger.warning("cannot note that %d calls are revoked: %s", len(ids), error)

    def _run(self) -> None:
        while True:
            self.run_once()


def write(app: Any, ids: Iterable[str]) -> None:
    """Record that calls are revoked.

    Raises:
        PolicyError: the application has no Redis.
        kombu.exceptions.OperationalError, redis.exceptions.RedisError: Redis cannot be reached.
    """
    store = connections.store(app)
    if store.revoked_prefix:
        for task_id in ids:
            store.client.set(store.revoked_prefix + task_id, "", ex=REVOKED_SECONDS)


writer: Final = Writer()


def listen(**_: Any) -> None:
    """Record, from now on, the calls that this worker is told to revoke; a receiver of `worker_ready`."""
    from celery.worker.control import Panel

    command = Panel.data["revoke"]
    if not hasattr(command, "celeriac_wraps"):
        Panel.data["revoke"] = _noting(command)


def _noting(command: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(command)
    def revoke(state: Any, task_id: Any, *args: Any, **kwargs: Any) -> Any:
        ids = [it for it in maybe_list(task_id) or [] if isinstance(it, str) and len(it) <= LONGEST_ID]
        writer.add(state.app, ids)
        return command(state, task_id, *args, **kwargs)

    revoke.celeriac_wraps = True  # type: ignore[attr-defined]  # avoids wrapping it twice
    return revoke
