"""Flower runs beside the pools and sees their workers and tasks."""

from __future__ import annotations

from demo import waiting
from demo.kubernetes import HttpError, Kube
from demo.shop import Shop

NEEDS = ("redis.yaml", "sentry.yaml", "flower.yaml", "shop.yaml")


def test_it_lists_each_worker_under_its_pools_name(shop: Shop, kube: Kube):
    wanted = {
        f"{pool}@{pod['metadata']['name']}" for pool in ("shop-tasks", "suppliers") for pod in kube.pool_pods(pool)
    }
    listed = waiting.until(
        "Flower knows the workers",
        lambda: {worker["hostname"] for worker in kube.service("flower:http", "workers?json=1")["data"]},
        lambda seen: seen >= wanted,
        seconds=30,
    )
    assert listed == wanted


def page(kube: Kube, task_id: str) -> str:
    """What Flower says about a task; empty while it does not know it."""
    try:
        return kube.request("GET", f"api/v1/namespaces/{kube.namespace}/services/flower:http/proxy/task/{task_id}")
    except HttpError as error:
        if error.status != 404:
            raise
        return ""


def test_it_shows_how_a_task_ended(shop: Shop, kube: Kube):
    def ask() -> str:
        task_id = shop.start("pack", order=shop.name("order"), seconds=0)
        shop.wait_for_result(task_id, seconds=30)
        return page(kube, task_id)

    # Workers send no events of tasks until they are asked to, which Flower does every few seconds.
    waiting.until("Flower knows the task", ask, bool, seconds=30)
    task_id = shop.start("charge", order=shop.name("order"))
    shown = waiting.until(
        "Flower shows the failure",
        lambda: page(kube, task_id),
        lambda html: "PaymentDeclinedError" in html,
        seconds=60,
    )
    assert task_id in shown
