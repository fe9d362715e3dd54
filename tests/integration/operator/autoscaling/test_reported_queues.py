"""The queues of a pool without autoscaling show in `kubectl get cwp`: a real Redis, messages of a real producer."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from tests.integration.operator.machine import Operator, Place
from tests.integration.worker.processes import RedisServer
from tests.waiting import eventually

from localcluster.controlplane import ControlPlane

WORKER_PYTHON = Path(__file__).parents[4] / ".venv" / "worker" / "bin" / "python"
PRODUCER = """
import sys
from celery import Celery
from celeriac.policies import published
published.install()
app = Celery(broker=sys.argv[1], set_as_current=False)
for number in range(int(sys.argv[2])):
    app.send_task("shop.mail", queue="mail", ignore_result=True)
"""


@pytest.mark.timeout(180)
def test_a_full_queue_is_seen_without_autoscaling(
    operator: Operator, place: Place, server: RedisServer, control_plane: ControlPlane
) -> None:
    place.pool(replicas=0, queues=["mail", "sms"], broker={"url": server.url})
    place.pool("no-queues", replicas=0, broker={"url": server.url})
    subprocess.run([WORKER_PYTHON, "-c", PRODUCER, server.url, "7"], check=True, timeout=60)

    def backlog() -> dict[str, object]:
        return (place.get("CeleryWorkerPool") or {}).get("status", {})  # type: ignore[no-any-return]

    status = eventually(backlog, lambda seen: seen.get("backlog") == 7, timeout=90, what="the backlog")
    assert status["queues"] == [{"name": "mail", "backlog": 7}, {"name": "sms", "backlog": 0}]
    assert "oldestMessageTime" in status
    assert "ScalingActive" not in place.reasons()
    labels = f'{{pool="emails",pool_namespace="{place.namespace}"}}'
    assert operator.metric(f"celeriac_operator_pool_backlog_messages{labels}") == 7
    assert operator.metric(f"celeriac_operator_pool_oldest_message_seconds{labels}") >= 0
    heads, *rows = control_plane.kubectl("get", "-n", place.namespace, "cwp").splitlines()
    cells = dict(zip(heads.split(), next(row for row in rows if row.startswith("emails")).split(), strict=True))
    assert cells["BACKLOG"] == "7"
    assert cells["OLDEST"].endswith(("s", "m"))
    named = json.dumps(place.get("CeleryWorkerPool", "no-queues"))
    assert "backlog" not in named
