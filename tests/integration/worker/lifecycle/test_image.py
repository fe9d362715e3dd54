"""An image whose packages do not go together gets a sentence instead of a traceback."""

from __future__ import annotations

import pytest
import redis
from celery import Celery
from kombu.exceptions import VersionMismatch
from tests.integration.worker.conftest import StartWorker

from celeriac.exits import Exit


def test_a_redis_py_that_kombu_does_not_take_is_one_sentence(
    start_worker: StartWorker, producer: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis, "VERSION", (3, 1, 0))
    with pytest.raises(VersionMismatch), producer.connection_for_read() as connection:  # what stock Celery ends with
        connection.connect()
    worker = start_worker("mismatched:app")
    assert worker.wait(150) == Exit.CONFIGURATION
    assert "which do not go together (Redis transport requires" in worker.termination_message()
    assert "Traceback" not in worker.logs()
