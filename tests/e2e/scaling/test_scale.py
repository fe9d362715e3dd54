"""Pools are scaled by hand, and a worker that leaves finishes what it has begun."""

from __future__ import annotations

from demo import waiting
from demo.scenarios import scaling
from demo.shop import Shop

NEEDS = ("redis.yaml", "sentry.yaml", "shop.yaml")


def test_kubectl_scale_gives_the_pool_three_workers(shop: Shop):
    measured = scaling.run(shop, wanted=3)
    assert measured.before == 1
    assert measured.ready == 3
    deployment = shop.kube.read(f"apis/apps/v1/namespaces/{shop.kube.namespace}/deployments/{scaling.POOL}")
    assert deployment["spec"]["replicas"] == 3


def test_a_worker_that_leaves_finishes_its_tasks(shop: Shop):
    scaling.settle(shop.kube, 3)
    tasks = [shop.start("pack", order=shop.name("order"), seconds=8) for _ in range(16)]
    # Three workers of four slots each: nine that run are more than two workers have, so whoever leaves has work in
    # hand, and a message or two that it holds and has not begun.
    waiting.until(
        "every worker has work in hand",
        lambda: [shop.result(task).state for task in tasks].count("STARTED"),
        lambda running: running >= 9,
        seconds=20,
    )
    shop.kube.kubectl("scale", f"cwp/{scaling.POOL}", "--replicas=1")
    results = [shop.wait_for_result(task, seconds=60) for task in tasks]
    assert [result.state for result in results] == ["SUCCESS"] * 16
    scaling.settle(shop.kube, 1)


def test_applying_a_manifest_without_replicas_leaves_the_number_alone(shop: Shop):
    scaling.settle(shop.kube, 2)
    pool = shop.kube.pool(scaling.POOL)
    spec = {key: value for key, value in pool["spec"].items() if key in ("app", "image", "inject")}
    manifest = {
        "apiVersion": pool["apiVersion"],
        "kind": pool["kind"],
        "metadata": {"name": scaling.POOL},
        "spec": spec,
    }
    shop.kube.apply(manifest, "--field-manager=gitops", "--force-conflicts")
    shop.kube.wait_ready(scaling.POOL)
    assert shop.kube.pool(scaling.POOL)["spec"]["replicas"] == 2
    assert len(shop.kube.pool_pods(scaling.POOL)) == 2
