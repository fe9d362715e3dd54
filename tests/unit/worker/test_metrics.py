from __future__ import annotations

from celeriac.health.rules import Observed, Running
from celeriac.metrics import COUNTERS, GAUGES, WorkerMetrics

SEEN = Observed(
    uptime_seconds=12.5,
    slots=4,
    consuming=True,
    running=(Running(name="t", id="1", seconds=3.5, hard_limit_seconds=None),),
    prefetched=2,
    broker_losses=7,
)


def test_every_metric_has_a_description_and_a_value_for_the_pool() -> None:
    body, content_type = WorkerMetrics(lambda: SEEN, namespace="shop", pool="emails").render()
    text = body.decode()
    labels = '{namespace="shop",pool="emails"}'
    assert f"celeriac_worker_slots{labels} 4.0" in text
    assert f"celeriac_worker_busy_slots{labels} 1.0" in text
    assert f"celeriac_worker_oldest_task_seconds{labels} 3.5" in text
    assert f"celeriac_broker_losses_total{labels} 7.0" in text
    for name, description, _ in (*GAUGES, *COUNTERS):
        assert f"# HELP {name}" in text
        assert description.endswith(".")
    assert content_type.startswith("text/plain")
