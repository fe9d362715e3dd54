from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from tests.unit.operator.factories import a_pool

from celeriac_operator import metrics as metrics_module
from celeriac_operator.generate import metrics_page
from celeriac_operator.memory.caches import Caches, Key
from celeriac_operator.metrics import Metrics

ROOT = Path(__file__).parents[3]


def observe(caches: Caches, name: str, version: int, *conditions: tuple[str, str, str]) -> None:
    manifest = a_pool().model_dump(by_alias=True, mode="json", exclude_none=True)
    manifest["metadata"] = {"name": name, "namespace": "shop", "uid": name, "resourceVersion": str(version)}
    manifest["status"] = {
        "conditions": [{"type": kind, "status": status, "reason": reason} for kind, status, reason in conditions]
    }
    caches.observe_pool(manifest)


def test_pools_are_counted_by_condition_and_a_condition_that_no_pool_has_is_not_reported() -> None:
    caches, metrics = Caches(), Metrics()
    metrics.follow(
        depth=lambda: 0,
        oldest=lambda: 0,
        pools=lambda: len(caches.pools),
        leads=lambda: True,
        conditions=caches.conditions,
    )

    def count(kind: str, status: str, reason: str) -> float | None:
        labels = {"type": kind, "status": status, "reason": reason}
        return metrics.registry.get_sample_value("celeriac_operator_pool_conditions", labels)

    observe(caches, "a", 1, ("Ready", "True", "Ready"))
    observe(caches, "b", 2, ("Ready", "False", "CrashLoop"), ("Stalled", "True", "CrashLoop"))
    observe(caches, "c", 3, ("Ready", "True", "Ready"))
    assert count("Ready", "True", "Ready") == 2
    assert count("Stalled", "True", "CrashLoop") == 1
    observe(caches, "b", 4, ("Ready", "True", "Ready"))
    caches.remove_pool(Key("shop", "a"), 5)
    assert count("Ready", "True", "Ready") == 2
    assert count("Stalled", "True", "CrashLoop") is None


def test_metrics_can_be_asked_for_before_anything_is_known() -> None:
    assert b"celeriac_operator_pools 0.0" in generate_latest(Metrics().registry)


def test_an_event_of_a_watch_is_counted_and_its_time_kept() -> None:
    metrics = Metrics()
    before = time.time()
    metrics.count_event("Pod")
    metrics.count_event("Pod")
    value = metrics.registry.get_sample_value
    assert value("celeriac_operator_watch_events_total", {"kind": "Pod"}) == 2
    assert (value("celeriac_operator_watch_last_event_timestamp_seconds", {"kind": "Pod"}) or 0) >= before


def test_every_metric_that_the_advice_names_exists() -> None:
    page = metrics_page.build()
    table, _, advice = page.partition("## What to watch")
    metrics = set(re.findall(r"celeriac_operator_\w+", advice))
    assert len(metrics) == 11
    assert [each for each in sorted(metrics) if f"`{each}`" not in table] == []


def test_conditions_are_exported_by_pool_and_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    caches, metrics = Caches(), Metrics()
    metrics.follow(
        depth=lambda: 0,
        oldest=lambda: 0,
        pools=lambda: 0,
        leads=lambda: True,
        conditions=caches.conditions,
        pool_conditions=lambda: list(caches.pool_conditions()),
    )
    observe(caches, "a", 1, ("Ready", "False", "CrashLoop"), ("Stalled", "True", "CrashLoop"))
    observe(caches, "b", 2, ("Ready", "True", "Ready"), ("SentryConfigured", "True", "Configured"))

    def value(pool: str, kind: str, status: str, reason: str) -> float | None:
        labels = {"pool_namespace": "shop", "pool": pool, "type": kind, "status": status, "reason": reason}
        return metrics.registry.get_sample_value("celeriac_operator_pool_condition", labels)

    assert value("a", "Stalled", "True", "CrashLoop") == 1
    assert value("b", "Ready", "True", "Ready") == 1
    assert value("b", "SentryConfigured", "True", "Configured") is None, "no alert is about it"
    monkeypatch.setattr(metrics_module, "MOST_POOLS", 1)
    assert value("a", "Ready", "False", "CrashLoop") == 1
    assert value("b", "Ready", "True", "Ready") is None
