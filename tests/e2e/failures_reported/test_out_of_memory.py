"""A task that takes too much memory is killed by the kernel, and still becomes one event."""

from __future__ import annotations

import pytest

from demo import waiting
from demo.kubernetes import Kube, restarts
from demo.scenarios.failure import said
from demo.shop import Shop

NEEDS = ("redis.yaml", "sentry.yaml")
POOL = "greedy"
PROGRAM = """
from celery import Celery

app = Celery("greedy")
app.conf.task_default_queue = "greedy"


@app.task
def eat():
    eaten = []
    while True:
        eaten.append(b"x" * 2**20)


@app.task
def fail():
    raise ValueError("afterwards")
"""


@pytest.fixture
def pool(shop: Shop, kube: Kube, a_pool) -> str:
    """One process with little memory. A message is delivered once, so that the task eats once."""
    kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": POOL}, "data": {"greedy.py": PROGRAM}})
    worker = {"name": "worker", "volumeMounts": [{"name": POOL, "mountPath": "/code"}]}
    kube.apply(
        a_pool(
            POOL,
            app="greedy:app",
            queues=[POOL],
            delivery={"mode": "AtMostOnce"},
            sentry={"dsnFrom": {"secretKeyRef": {"name": "sentry", "key": "dsn"}}},
            env=[{"name": "PYTHONPATH", "value": "/code"}],
            resources={"limits": {"memory": "192Mi"}},
            template={
                "spec": {"containers": [worker], "volumes": [{"name": POOL, "configMap": {"name": POOL}}]},
            },
        )
    )
    kube.wait_ready(POOL, seconds=120)
    (pod,) = kube.pool_pods(POOL)
    return str(pod["metadata"]["name"])


def test_a_child_that_the_kernel_ends_is_one_event_and_the_worker_goes_on(shop: Shop, kube: Kube, pool: str):
    send = (
        "import os; from celery import Celery; app = Celery(broker=os.environ['CELERIAC_BROKER_URL']); "
        "[app.send_task(f'greedy.{it}', queue='greedy') for it in ('eat', 'fail')]"
    )
    kube.kubectl("exec", pool, "--container=worker", "--", "/app/.venv/bin/python", "-c", send)
    events = waiting.until(
        "the failure of the next task is in Sentry",
        shop.sentry_events,
        lambda seen: any("afterwards" in said(event) for event in seen),
        seconds=60,
    )
    eaten = [event for event in events if "afterwards" not in said(event)]
    assert [said(event).partition(" Job")[0] for event in eaten] == [
        "WorkerLostError: Worker exited prematurely: signal 9 (SIGKILL)"
    ]
    tags = eaten[0]["tags"]
    assert (tags["task"], tags["pool"], tags["pod"], tags["queue"]) == ("greedy.eat", POOL, pool, POOL)
    assert sum(restarts(kube.pool_pods(POOL)).values()) == 0
