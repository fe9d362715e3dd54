"""Celery's Redis result backend, asked for results instead of subscribed to them.

A subscription does not survive a server that is stopped and started under it; a question asked again does.
"""

from __future__ import annotations

from typing import Any

from celery.backends.base import SyncBackendMixin
from celery.backends.redis import RedisBackend

POLL_SECONDS = 0.05


class PollingRedisBackend(SyncBackendMixin, RedisBackend):  # type: ignore[misc]  # as Celery's own classes are put together
    """Reads a result again and again until it is there."""

    def wait_for(self, task_id: str, timeout: float | None = None, **_: Any) -> Any:
        return SyncBackendMixin.wait_for(self, task_id, timeout=timeout, interval=POLL_SECONDS)  # type: ignore[attr-defined]  # missing from the stubs

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Nothing to subscribe to."""


BACKEND = f"{__name__}:{PollingRedisBackend.__name__}"
