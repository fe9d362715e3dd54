"""What Argo CD makes of a pool's status: its health check, run by a Lua interpreter (that of Redis)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.integration.worker.processes import RedisServer

HEALTH = (Path(__file__).parents[4] / "deploy/argocd/health.lua").read_text()
RUN = f"local obj = cjson.decode(ARGV[1])\nlocal function check()\n{HEALTH}\nend\nreturn cjson.encode(check())"


def condition(kind: str, status: str, message: str = "why") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": "x", "message": message}


def pool(*conditions: dict[str, str], observed: int | None = 2, **spec: Any) -> dict[str, Any]:
    status: dict[str, Any] = {"conditions": list(conditions)}
    if observed is not None:
        status["observedGeneration"] = observed
    return {"metadata": {"generation": 2}, "spec": spec, "status": status}


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        pytest.param({"metadata": {"generation": 1}}, "Progressing", id="just created"),
        pytest.param(pool(condition("Ready", "Unknown"), observed=None), "Progressing", id="not seen by the operator"),
        pytest.param(pool(condition("Ready", "True"), observed=1), "Progressing", id="a change that is not seen yet"),
        pytest.param(
            pool(condition("Ready", "False"), condition("Reconciling", "True")),
            "Progressing",
            id="a change is rolled out",
        ),
        pytest.param(pool(condition("Ready", "False"), condition("Stalled", "True")), "Degraded", id="stalled"),
        pytest.param(pool(condition("Ready", "False")), "Progressing", id="the broker is away"),
        pytest.param(pool(condition("Ready", "True")), "Healthy", id="ready"),
        pytest.param(pool(condition("Ready", "True"), suspend=True), "Healthy", id="suspended"),
        pytest.param(pool(), "Progressing", id="no conditions"),
    ],
)
def test_the_health_of_a_pool(server: RedisServer, manifest: dict[str, Any], expected: str) -> None:
    with server.client as client:
        found = json.loads(client.eval(RUN, 0, json.dumps(manifest)))
    assert found["status"] == expected
    assert found["message"]
