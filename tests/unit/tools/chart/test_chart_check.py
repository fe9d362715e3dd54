"""What `helm test` runs tells an operator that works from every way in which one does not."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

from localcluster.paths import CHECKOUT

SPECIFICATION = importlib.util.spec_from_file_location("check", CHECKOUT / "charts/celeriac/files/check.py")
assert SPECIFICATION is not None
assert SPECIFICATION.loader is not None
CHECK = importlib.util.module_from_spec(SPECIFICATION)
SPECIFICATION.loader.exec_module(CHECK)

POOLS = "/apis/celeriac.dev/v1alpha1/namespaces/there/celeryworkerpools"
BORN = {"status": "Unknown", "type": "Ready", "reason": "Pending"}


def a_pool(reason: str = "Pending", *, observed: int | None = None) -> dict[str, Any]:
    status = {"conditions": [{**BORN, "reason": reason}]}
    return {
        "metadata": {"generation": 1},
        "status": {**status, **({"observedGeneration": observed} if observed else {})},
    }


class Cluster:
    """Answers requests from a list for each method; the last answer stays."""

    def __init__(self, **answers: list[tuple[int, dict[str, Any]]]) -> None:
        self.answers = {"DELETE": [(404, {})], "POST": [(201, {})], **answers}
        self.asked: list[str] = []
        self.now = 0.0

    def ask(self, method: str, path: str, _body: object = None) -> tuple[int, dict[str, Any]]:
        assert path == (POOLS if method == "POST" else f"{POOLS}/me")
        self.asked.append(method)
        answers = self.answers[method]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def check(self) -> str:
        said: str = CHECK.check("there", "me", 5, self.ask, lambda: self.now, self.sleep)
        return said


def cases() -> Iterator[Any]:
    made = (200, a_pool("NoWorkers", observed=1))
    yield pytest.param({"GET": [made]}, "", id="the operator has said that there are no workers")
    yield pytest.param({"GET": [(200, a_pool()), made]}, "", id="it says so after a while")
    yield pytest.param(
        {"POST": [(409, {}), (201, {})], "GET": [made]}, "", id="the pool of a check that was cut off has to go first"
    )
    yield pytest.param({"GET": [(200, a_pool())]}, "nothing: does it run", id="no operator has looked at it")
    yield pytest.param(
        {"GET": [(200, a_pool("Forbidden", observed=1))]},
        "says of pool there/me: Forbidden",
        id="the operator lacks rights",
    )
    yield pytest.param({"POST": [(404, {})]}, "does not serve CeleryWorkerPool", id="there is no definition")
    yield pytest.param(
        {"POST": [(403, {"message": "no right"})]}, "no pool could be made in there: no right", id="no right"
    )


@pytest.mark.parametrize(("answers", "says"), list(cases()))
def test_the_check_says_what_is_wrong(answers: dict[str, Any], says: str):
    cluster = Cluster(**answers)
    said = cluster.check()
    assert says in said if says else said == ""


def test_the_pool_is_deleted_however_it_went():
    assert Cluster(GET=[(200, a_pool())]).check()
    cluster = Cluster(GET=[(200, a_pool("NoWorkers", observed=1))])
    assert cluster.check() == ""
    assert cluster.asked == ["DELETE", "POST", "GET", "DELETE"]


def test_the_pool_is_one_that_the_definition_takes_and_starts_nothing():
    manifest = CHECK.manifest("me")
    assert (manifest["kind"], manifest["metadata"]["name"], manifest["spec"]["replicas"]) == (
        "CeleryWorkerPool",
        "me",
        0,
    )
