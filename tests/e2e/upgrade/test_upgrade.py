"""An upgrade of the chart restarts no worker, although it brings a newer worker library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from demo import install, waiting
from demo.kubernetes import Kube, restarts

pytestmark = pytest.mark.alone
NEEDS = ("redis.yaml",)
NEXT = "celeriac-next-worker"
OPERATOR = "app.kubernetes.io%2Fcomponent%3Doperator"


@pytest.fixture
def next_release(kube: Kube, images: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """The images of a release with another worker library; afterwards this one is installed again."""
    yield {**images, "celeriac-worker": install.build_images([NEXT])[NEXT]}
    install.install_chart(kube.programs, images)


def workers(kube: Kube, pool: str) -> dict[str, Any]:
    """Each worker's identity: how often its containers were restarted, and where its library is from."""
    return {
        pod["metadata"]["uid"]: (restarts([pod]), pod["spec"]["initContainers"][0]["image"])
        for pod in kube.pool_pods(pool)
    }


def libraries(kube: Kube, pool: str) -> set[str]:
    """The images that the pool's present workers have the library from."""
    return {image for _, image in workers(kube, pool).values()}


def test_workers_keep_their_library_until_their_pool_changes_or_somebody_asks(
    shop, kube: Kube, a_pool, images: Mapping[str, str], next_release: Mapping[str, str]
):
    old, new = images["celeriac-worker"], next_release["celeriac-worker"]
    assert old != new
    pools = ("touched", "asked", "left-alone")
    for name in pools:
        kube.apply(a_pool(name))
    for name in pools:
        kube.wait_ready(name, seconds=180)
    before = {name: workers(kube, name) for name in pools}
    (operator,) = kube.at(install.OPERATOR_NAMESPACE).pods(OPERATOR)

    install.install_chart(kube.programs, next_release, "log.format=JSON", "resources.requests.memory=150Mi")

    # A new pool that gets ready proves that the new operator has been through its queue.
    kube.apply(a_pool("witness"))
    kube.wait_ready("witness", seconds=180)
    assert libraries(kube, "witness") == {new}
    (newer_operator,) = kube.at(install.OPERATOR_NAMESPACE).pods(OPERATOR)
    assert newer_operator["metadata"]["uid"] != operator["metadata"]["uid"]
    assert {name: workers(kube, name) for name in pools} == before

    # A scaled pool stays one: its new worker has the library of the old one.
    kube.kubectl("scale", "cwp/left-alone", "--replicas=2")
    kube.kubectl(
        "patch", "cwp/touched", "--type=merge", '--patch={"spec": {"env": [{"name": "TOUCHED", "value": "1"}]}}'
    )
    kube.kubectl("annotate", "cwp/asked", "celeriac.dev/upgrade-library=now")
    for name in ("touched", "asked"):
        waiting.until(
            f"the workers of {name} have the new library",
            lambda name=name: libraries(kube, name),
            lambda seen: seen == {new},
            seconds=120,
        )
        kube.wait_ready(name, seconds=180)
    waiting.until(
        "there are two workers", lambda: workers(kube, "left-alone"), lambda seen: len(seen) == 2, seconds=120
    )
    kube.wait_ready("left-alone", seconds=180)
    assert libraries(kube, "left-alone") == {old}
    assert before["left-alone"].items() <= workers(kube, "left-alone").items()
