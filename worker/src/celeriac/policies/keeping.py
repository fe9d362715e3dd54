"""Renews the claims of this process while their tasks run.

One thread renews all claims; it starts with the first claim. A process that dies or is paused stops renewing, and its
claims are free at most `RUN_SECONDS` later.
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
"""Renewals within `RUN_SECONDS`."""


class Keeper:
    """Renews claims. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._claims: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()
        self._loop = Loop(self.run_once, name="claims", seconds=RUN_SECONDS / RENEWALS)
        self._pid = os.getpid()

    def keep(self, client: Any, name: str, value: str) -> None:
        """Renew the claim `name` while its value is `value`, until `drop` is called."""
        if self._pid != os.getpid():  # a forked child has neither the thread nor the tasks of its parent
            self.__init__()  # type: ignore[misc]  # no other thread of the child uses this object yet
        with self._lock:
            self._claims[name, value] = client
            self._loop.start()

    def drop(self, name: str, value: str) -> None:
        """Stop renewing a claim; a renewal in progress has ended when this returns."""
        with self._lock:
            self._claims.pop((name, value), None)

    def run_once(self) -> tuple[int, int]:
        """Renew every claim once; return how many were renewed and how many were lost."""
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
