"""Which claims does this process renew while their tasks run?

One thread for all of them, started with the first. A process that dies or is paused stops renewing, and what it had
claimed is free `RUN_SECONDS` later at most.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Any, Final

from celeriac.loop import Loop
from celeriac.policies import scripts
from celeriac.policies.publishing import FAILURES, milliseconds

logger = logging.getLogger(__name__)

RUN_SECONDS: Final = 30.0
"""How long the claim of a run lasts without renewal."""
RENEWALS: Final = 3
"""Renewals in that time."""


class Keeper:
    """Renews claims. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._claims: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()
        self._loop = Loop(self.run_once, name="claims", seconds=RUN_SECONDS / RENEWALS)
        self._pid = os.getpid()

    def keep(self, client: Any, name: str, value: str) -> None:
        """Renew the claim `name` as long as it holds `value`, until it is dropped."""
        if self._pid != os.getpid():  # a child of the process that began: its thread is not here, nor are its tasks
            self.__init__()  # type: ignore[misc]  # the one who calls is the only one to have this object yet
        with self._lock:
            self._claims[name, value] = client
            self._loop.start()

    def drop(self, name: str, value: str) -> None:
        """Renew it no more; a renewal that is under way has ended when this returns."""
        with self._lock:
            self._claims.pop((name, value), None)

    def run_once(self) -> tuple[int, int]:
        """Renew every claim once; how many were renewed and how many are lost."""
        renewed = lost = 0
        for (name, value), client in list(self._claims.items()):
            with self._lock:
                if (name, value) not in self._claims:
                    continue
                try:
                    is_ours = scripts.RENEW.run(client, [name], [value, milliseconds(RUN_SECONDS)])
                except FAILURES as error:
                    logger.debug("cannot renew %s now: %s", name, error)
                    continue
                if is_ours:
                    renewed += 1
                    continue
                del self._claims[name, value]
            lost += 1
            logger.warning("the claim %s was lost while its task ran: calls of its key are not held back", name)
        return renewed, lost


keeper: Final = Keeper()
