"""What Celery's prefork pool knows of its tasks when its consumer has closed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from celeriac.hooks import prefork


class Job:
    def __init__(self, *, accepted: bool) -> None:
        self._accepted = accepted
        self.is_ready = False

    def ready(self) -> bool:
        return self.is_ready


@pytest.mark.parametrize("forgets", ["everything, as Celery 5.4 does", "what has not begun, as Celery 5.7 does"])
def test_what_has_begun_is_known_afterwards(forgets: str) -> None:
    jobs = {1: Job(accepted=True), 2: Job(accepted=False), 3: Job(accepted=True)}
    running, _, ending = jobs.values()
    with prefork.remembering(SimpleNamespace(_pool=SimpleNamespace(_cache=jobs))):
        ending.is_ready = True  # meanwhile
        del jobs[3]
        jobs.pop(2)
        if forgets.startswith("everything"):
            jobs.clear()
    assert jobs == {1: running}


@pytest.mark.parametrize("pool", [SimpleNamespace(), SimpleNamespace(_pool=None), SimpleNamespace(_pool=object())])
def test_other_pools_remember_by_themselves(pool: Any) -> None:
    with prefork.remembering(pool):
        pass
