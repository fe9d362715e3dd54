from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.unit.operator.factories import a_pool

from celeriac_operator.desired import contract
from celeriac_operator.resource import CeleryWorkerPool

ROOT = Path(__file__).parents[4]
GOLDEN = ROOT / "tests" / "golden" / "contract"
SCHEMA = json.loads((ROOT / "docs" / "reference" / "contract.schema.json").read_text())

FULL: dict[str, Any] = {
    "app": "shop.celery:app",
    "image": "shop:1.4",
    "queues": ["emails", "default"],
    "worker": {
        "pool": "prefork",
        "concurrency": 4,
        "prefetch": 1,
        "maxTasksPerChild": 1000,
        "maxMemoryPerChild": "200Mi",
        "extraArgs": ["--without-gossip"],
    },
    "broker": {
        "urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}},
        "maxRetries": 100,
        "retryBackoffSeconds": {"initial": 1, "max": 30},
    },
    "resultBackend": {"url": "redis://redis/1", "expiresSeconds": 86400},
    "timeLimits": {"softSeconds": 270, "hardSeconds": 300},
    "delivery": {"mode": "AtLeastOnce", "leaseSeconds": 60, "maxDeliveries": 5},
    "drain": {"timeoutSeconds": 330},
    "logging": {
        "level": "INFO",
        "format": "Text",
        "workerFormat": "[%(asctime)s:%(levelname)s] [%(task_name)s] %(message)s",
        "taskFormat": "[%(asctime)s:%(levelname)s] Task %(task_name)s[%(task_id)s]: %(message)s",
    },
    "notifications": {"slack": {"webhookFrom": {"secretKeyRef": {"name": "slack", "key": "url"}}}},
    "sentry": {
        "dsnFrom": {"secretKeyRef": {"name": "sentry", "key": "dsn"}},
        "environment": "production",
        "release": "shop@1.4",
        "tracesSampleRate": 1,
        "sendDefaultPii": True,
    },
}
MINIMAL: dict[str, Any] = {"app": "tasks", "image": "plain:1", "worker": {"pool": "prefork"}}


def pool(namespace: str, name: str, spec: dict[str, Any]) -> CeleryWorkerPool:
    return CeleryWorkerPool.parse({"metadata": {"name": name, "namespace": namespace, "uid": "u"}, "spec": spec})


@pytest.mark.parametrize(
    ("golden", "subject"),
    [
        pytest.param("full.json", pool("shop", "emails", FULL), id="every key that there is"),
        pytest.param("minimal.json", pool("default", "plain", MINIMAL), id="only what is always there"),
    ],
)
def test_builds_the_golden_documents_which_the_worker_reads(golden: str, subject: CeleryWorkerPool) -> None:
    line = contract.build(subject, cpu_limit=None).line()
    if os.environ.get("REWRITE_GOLDEN"):
        (GOLDEN / golden).write_text(f"{line}\n")
    assert line == (GOLDEN / golden).read_text().strip()
    jsonschema.validate(json.loads(line), SCHEMA)


@pytest.mark.parametrize("golden", sorted(path.name for path in GOLDEN.glob("*.json")))
def test_golden_documents_fit_the_published_schema(golden: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads((GOLDEN / golden).read_text()), SCHEMA)


@pytest.mark.parametrize(
    ("worker", "cpu_limit", "slots"),
    [
        pytest.param({"concurrency": 8}, "2", 8, id="what the pool says wins over the cpu limit"),
        pytest.param({}, "2", 2, id="the cpu limit"),
        pytest.param({}, "1500m", 2, id="the cpu limit rounded up"),
        pytest.param({}, "100m", 1, id="a share of a core is one slot"),
        pytest.param({}, None, 1, id="one without a cpu limit"),
        pytest.param({"pool": "solo"}, "4", 1, id="solo has one slot whatever the limit"),
    ],
)
def test_concurrency_is_resolved(worker: dict[str, Any], cpu_limit: str | None, slots: int) -> None:
    document = contract.build(a_pool(worker=worker), cpu_limit=cpu_limit)
    assert document.worker.concurrency == slots


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [
        pytest.param({"drain": {"timeoutSeconds": 7}}, 7, id="as the pool says"),
        pytest.param({"timeLimits": {"hardSeconds": 100}}, 130, id="the longest task and a little"),
        pytest.param({"timeLimits": {"softSeconds": 100}}, 300, id="a soft limit alone bounds nothing"),
        pytest.param({}, 300, id="five minutes"),
    ],
)
def test_the_drain_is_resolved(spec: dict[str, Any], seconds: int) -> None:
    assert contract.build(a_pool(**spec), cpu_limit=None).drain.timeout_seconds == seconds


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="nothing set"),
        pytest.param({"queues": []}, id="an empty list of queues"),
        pytest.param({"broker": {"url": "redis://r"}, "resultBackend": {}}, id="sections whose URL is all they have"),
        pytest.param({"timeLimits": {}, "delivery": {}, "logging": {}}, id="empty sections"),
        pytest.param({"worker": {"extraArgs": []}}, id="no further arguments"),
    ],
)
def test_what_the_pool_leaves_open_stays_open(spec: dict[str, Any]) -> None:
    document = json.loads(contract.build(a_pool(**spec), cpu_limit=None).line())
    assert sorted(document) == ["app", "drain", "liveness", "pool", "version", "worker"]
    assert document["worker"] == {"concurrency": 1, "concurrencyIsDefault": True}


@pytest.mark.parametrize(
    ("worker", "is_default"),
    [
        pytest.param({"concurrency": 4}, None, id="the pool says how many"),
        pytest.param({"pool": "solo"}, None, id="a pool that always has one slot"),
        pytest.param({"pool": "threads"}, True, id="nobody says: the application may"),
    ],
)
def test_the_worker_is_told_whether_the_pool_has_said_how_many_slots(
    worker: dict[str, Any], is_default: bool | None
) -> None:
    assert contract.build(a_pool(worker=worker), cpu_limit="2").worker.concurrency_is_default is is_default


def test_no_url_and_no_dsn_is_in_the_document() -> None:
    spec = {**FULL, "sentry": {"dsn": "https://key@sentry.example/1"}, "broker": {"url": "redis://broker.example"}}
    line = contract.build(a_pool(**spec), cpu_limit=None).line()
    assert "example" not in line


def test_the_document_is_one_line_without_white_space_between_keys() -> None:
    line = contract.build(pool("shop", "emails", FULL), cpu_limit=None).line()
    assert "\n" not in line
    assert line == json.dumps(json.loads(line), separators=(",", ":"), ensure_ascii=False)
