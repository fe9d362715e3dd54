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
        "Flower has heard of the workers",
        lambda: {worker["hostname"] for worker in kube.service("flower:http", "workers?json=1")["data"]},
        lambda seen: seen >= wanted,
        seconds=30,
    )
    assert listed == wanted


def test_it_shows_how_a_task_ended(shop: Shop, kube: Kube):
    task_id = shop.start("charge", order=shop.name("order"))
    shop.wait_for_result(task_id, seconds=60)

    def page() -> str:
        try:
            return kube.request("GET", f"api/v1/namespaces/{kube.namespace}/services/flower:http/proxy/task/{task_id}")
        except HttpError as error:
            return str(error)  # it has not heard of the task yet

    shown = waiting.until("Flower shows the failure", page, lambda html: "PaymentDeclinedError" in html, seconds=60)
    assert task_id in shown
