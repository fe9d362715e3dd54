"""What does the reference page of the operator's metrics contain? It is built from the metrics themselves."""

from __future__ import annotations

from celeriac_operator.metrics import Metrics, QueueSample, ScalingSample, WorkSample

INTRODUCTION = """\
# Metrics of the operator

Every replica serves them at `/metrics` of the port `metrics` (`metrics.port` of the chart). Of several replicas only
the leader reconciles: look at `celeriac_operator_leader`, or sum over all of them. Pools and their conditions are
counted by every replica: take the maximum. The leader alone reads queues, asks workers and exports what it found.

| metric | type | labels | meaning |
|---|---|---|---|
"""

ADVICE = """
## What to watch
- `max(celeriac_operator_leader) == 0` for a minute: no replica leads. Workers keep running; changes wait.
- `celeriac_operator_queue_oldest_seconds > 60`: reconciling is slow or stuck; see the log and the API server.
- `max by (pool_namespace, pool, reason) (celeriac_operator_pool_condition{type="Stalled", status="True"}) > 0`: this
  pool needs a person.
- The same with `type="ScalingActive", status="False"`, unless a person requested it (`Paused`, `Disabled`): the
  operator cannot read the queues of this pool and does not change its number of workers.
- `celeriac_operator_pool_stuck_tasks > 0`, and `celeriac_operator_pool_recent_failed_tasks` against
  `celeriac_operator_pool_recent_succeeded_tasks`: the pool may be ready and get no work done.
- `celeriac_operator_pool_oldest_message_seconds` and the growth of `celeriac_operator_pool_backlog_messages`: the pool
  is late, or does not keep up.
- `rate(celeriac_operator_watch_missed_total[15m]) > 0`: watches lose events; the operator corrects its caches.
- `time() - celeriac_operator_watch_last_event_timestamp_seconds{kind="CeleryWorkerPool"} > 3600`: the watch may be
  dead; if it has missed changes, the operator detects that and is restarted.
- `rate(celeriac_operator_api_requests_total{code=~"0|429|5.."}[5m]) > 0`: the API server has problems.
"""


def build() -> str:
    """Build the page."""
    metrics = _used()
    rows = []
    for family in metrics.registry.collect():
        # A counter is queried by the name of its samples.
        name = f"{family.name}_total" if family.type == "counter" else family.name
        # A metric with labels has no sample before its first use, so this fails for a metric that _used leaves out.
        labels = ", ".join(f"`{label}`" for label in family.samples[0].labels if label != "le")
        rows.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |\n")
    return INTRODUCTION + "".join(sorted(rows)) + ADVICE


def _used() -> Metrics:
    """Build metrics with a sample of each, to get the names of their labels."""
    metrics = Metrics()
    metrics.follow(
        depth=lambda: 0,
        oldest=lambda: 0,
        pools=lambda: 0,
        leads=lambda: True,
        conditions=lambda: {("Ready", "True", "Ready"): 1},
        pool_conditions=lambda: [("shop", "emails", "Ready", "True", "Ready")],
    )
    metrics.reconciles.labels("done")
    metrics.count_request(verb="GET", plural="pods", status=200)
    metrics.count_event("Pod")
    metrics.watch_missed.labels("Pod")
    metrics.follow_scaling(
        lambda: [
            ScalingSample(
                namespace="", pool="", replicas=0, backlog=0, in_flight=0, busy_slots=0, oldest_seconds=0, age_seconds=0
            )
        ]
    )
    metrics.follow_queues(
        lambda: [
            QueueSample(
                namespace="", pool="", replicas=0, backlog=0, oldest_seconds=0, max_replicas=0, latency_seconds=0
            )
        ]
    )
    metrics.follow_work(
        lambda: [
            WorkSample(
                namespace="",
                pool="",
                workers=0,
                slots=0,
                busy=0,
                oldest_seconds=0,
                stuck=0,
                succeeded=0,
                failed=0,
                dead_letters=0,
            )
        ]
    )
    metrics.scaling_decisions.labels("up")
    metrics.scaling_failures.labels("BrokerUnreachable")
    metrics.shrink_answers.labels("idle")
    return metrics
