"""Children that are started anew (Celery 5.7's `worker_pool_start_method`) are set up as forked ones are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import celery
import pytest
from celery import Celery
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.observability.test_sentry import Sentry
from tests.waiting import eventually

from celeriac.exits import Exit

pytestmark = pytest.mark.skipif(
    not hasattr(Celery("defaults", set_as_current=False).conf, "worker_pool_start_method"),
    reason=f"Celery {celery.__version__} only forks",
)


@pytest.fixture
def sentry(tmp_path: Path) -> Iterator[Sentry]:
    sentry = Sentry(tmp_path / "dsn")
    sentry.point_here()
    yield sentry
    sentry.close()


def test_a_child_that_was_not_forked_logs_reports_and_drains_like_one_that_was(
    start_worker: StartWorker, producer: Celery, sentry: Sentry
) -> None:
    worker = start_worker(
        "spawned:app", worker={"pool": "prefork", "concurrency": 2}, sentry=sentry.settings()
    ).until_ready(timeout=120)
    spoken = producer.send_task("spawned.speak")
    assert spoken.get(timeout=60)[1] == "1"
    worker.until_logged(rf":INFO\] Task spawned\.speak\[{spoken.id}\]: by self\.logger$")
    worker.until_logged(r":WARNING\] \[spawned\.speak\] by a library$")
    failed, left = producer.send_task("spawned.fail"), producer.send_task("spawned.leave")
    with pytest.raises(ValueError, match="on purpose"):
        failed.get(timeout=60)
    with pytest.raises(Exception, match="the task raised SystemExit: 3"):
        left.get(timeout=60)
    events = eventually(lambda: sentry.events, lambda it: len(it) >= 2, what="both failures are reported")
    assert sorted(event["tags"]["celery_task_id"] for event in events) == sorted([failed.id, left.id])
    worker.terminate()
    assert worker.wait() == Exit.OK
