from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac import counts
from celeriac.counts import Count, Timing
from celeriac.health.rules import Observed, Running
from celeriac.hooks import counting
from celeriac.metrics.children import ChildCounts
from celeriac.metrics.exposition import COUNTERS, GAUGES, WorkerMetrics
from celeriac.metrics.tally import Snapshot, Tally
from celeriac.policies import published

SEEN = Observed(
    uptime_seconds=12.5,
    slots=4,
    consuming=True,
    running=(Running(name="t", id="1", seconds=3.5, hard_limit_seconds=None),),
    prefetched=2,
    scheduled=5,
    broker_losses=7,
    broker_reconnects=6,
)
LABELS = 'namespace="shop",pool="emails"'
REFERENCE = Path(__file__).parents[4] / "docs" / "reference" / "worker-metrics.md"


def a_page(snapshot: Snapshot | None = None) -> str:
    body, content_type = WorkerMetrics(
        lambda: SEEN, lambda: snapshot or Snapshot(), namespace="shop", pool="emails"
    ).render()
    assert content_type.startswith("text/plain")
    return body.decode()


@pytest.fixture
def tally() -> Iterator[Tally]:
    """What is counted in this process, for one test."""
    result = Tally(names=2)
    counts.receive_by(result.receive)
    yield result
    counts.receive_by(None)


# --- the page


def test_what_is_read_from_the_workers_state_has_a_value_for_the_pool() -> None:
    page = a_page()
    for line in (
        f"celeriac_worker_slots{{{LABELS}}} 4.0",
        f"celeriac_worker_busy_slots{{{LABELS}}} 1.0",
        f"celeriac_worker_in_flight_messages{{{LABELS}}} 8.0",
        f"celeriac_worker_oldest_task_seconds{{{LABELS}}} 3.5",
        f"celeriac_broker_losses_total{{{LABELS}}} 7.0",
        f"celeriac_broker_reconnects_total{{{LABELS}}} 6.0",
        f"celeriac_worker_leases_lost_total{{{LABELS}}} 0.0",
    ):
        assert f"\n{line}\n" in page


def test_what_was_counted_is_shown_with_its_labels(tally: Tally) -> None:
    counts.TASKS.add("shop.send", "failed")
    counts.TASKS.add("shop.send", "failed")
    counts.DEAD_LETTERS.add("emails", amount=3)
    page = a_page(tally.snapshot())
    assert f'\nceleriac_worker_tasks_total{{name="shop.send",{LABELS},state="failed"}} 2.0\n' in page
    assert f'\nceleriac_worker_dead_letters_total{{{LABELS},queue="emails"}} 3.0\n' in page


def test_a_histogram_adds_its_buckets_up(tally: Tally) -> None:
    for seconds in (0.005, 0.3, 7200):
        counts.RUNTIME.observe(seconds, "t")
    page = a_page(tally.snapshot())
    for bound, count in (("0.005", 1), ("0.1", 1), ("0.5", 2), ("3600", 2), ("+Inf", 3)):
        assert f'celeriac_worker_task_runtime_seconds_bucket{{le="{bound}",name="t",{LABELS}}} {count}.0\n' in page, (
            page
        )
    assert f'celeriac_worker_task_runtime_seconds_count{{name="t",{LABELS}}} 3.0' in page
    assert f'celeriac_worker_task_runtime_seconds_sum{{name="t",{LABELS}}} 7200.305' in page


def test_every_metric_is_described_and_has_its_unit_in_its_name() -> None:
    page = a_page()
    for metric in (*GAUGES, *COUNTERS, *counts.definitions()):
        assert f"# HELP {metric.name}" in page
        assert metric.meaning.endswith(".")
        assert metric.name.startswith("celeriac_")
        assert not metric.name.endswith("_total"), "the format adds it"
        assert metric.unit != "seconds" or metric.name.endswith("_seconds")
        assert "pod" not in getattr(metric, "labels", ())


def test_the_reference_has_exactly_the_metrics_that_there_are() -> None:
    rows = {
        (name, kind, unit, labels)
        for name, kind, unit, labels in re.findall(
            r"^\| `(\w+)` \| (\w+) \| ([\w ]+) \| ([^|]*?) ?\|", REFERENCE.read_text(), re.MULTILINE
        )
    }
    expected = {(it.name, "gauge", it.unit, "") for it in GAUGES}
    expected |= {(f"{it.name}_total", "counter", it.unit, "") for it in COUNTERS}
    for it in counts.definitions():
        labels = ", ".join(f"`{label}`" for label in it.labels)
        name, kind = (f"{it.name}_total", "counter") if isinstance(it, Count) else (it.name, "histogram")
        expected.add((name, kind, it.unit, labels))
    assert rows == expected


def test_the_reference_says_what_the_page_says() -> None:
    text = REFERENCE.read_text()
    for metric in (*GAUGES, *COUNTERS, *counts.definitions()):
        assert f" | {metric.meaning} |" in text, metric.name
    for state in counting.STATES:
        assert f"`{state}`" in text


# --- counting


def test_nobody_listens_and_nothing_happens() -> None:
    counts.receive_by(None)
    counts.TASKS.add("t", "failed")
    counts.LOCK_WAIT.observe(1, "acquired")


def test_names_beyond_the_bound_are_added_up(tally: Tally) -> None:
    for name in ("a", "b", "c", "d", "a"):
        counts.TASKS.add(name, "started")
    counts.RUNTIME.observe(1, "c")
    counted = tally.snapshot()
    assert counted.counts["celeriac_worker_tasks"] == {
        ("a", "started"): 2,
        ("b", "started"): 1,
        ("other", "started"): 2,
    }
    assert list(counted.timings["celeriac_worker_task_runtime_seconds"]) == [("other",)]


def test_a_count_with_labels_of_another_version_is_dropped(tally: Tally) -> None:
    tally.receive(counts.TASKS, 1, ("only one",))
    assert tally.snapshot().counts == {}


def test_a_snapshot_does_not_change_any_more(tally: Tally) -> None:
    counts.RUNTIME.observe(1, "t")
    before = tally.snapshot()
    counts.RUNTIME.observe(1, "t")
    assert sum(before.timings["celeriac_worker_task_runtime_seconds"][("t",)].buckets) == 1


# --- children


def test_what_children_count_arrives_once_and_in_order() -> None:
    arrived: list[tuple[str, float, tuple[str, ...]]] = []
    children = ChildCounts(lambda what, value, labels: arrived.append((what.name, value, labels)))
    children.send(counts.LOCKS_LOST, 1, ())
    children.send(counts.TASKS, 1, ('ümlaut\n"', "failed"))
    assert children.read() == 2
    assert children.read() == 0
    assert arrived == [
        ("celeriac_worker_locks_lost", 1, ()),
        ("celeriac_worker_tasks", 1, ('ümlaut\n"', "failed")),
    ]


def test_a_pipe_that_nobody_reads_drops_and_does_not_block() -> None:
    arrived: list[float] = []
    children = ChildCounts(lambda _, value, __: arrived.append(value))
    sent = 5000
    for _ in range(sent):
        children.send(counts.LOCK_WAIT, 1, ("acquired" * 10,))
    assert 0 < children.read() == len(arrived) < sent
    children.send(counts.LOCKS_LOST, 1, ())
    assert children.read() == 1


def test_what_another_version_counts_is_left_out() -> None:
    children = ChildCounts(lambda *_: pytest.fail("nobody knows it"))
    children._writing.write(b'["celeriac_of_tomorrow", 1]\n')
    assert children.read() == 0


# --- tasks


def test_a_message_is_stamped_anew_each_time_it_is_published() -> None:
    headers = {published.HEADER: 1.0}
    published.stamp(headers=headers)
    assert headers[published.HEADER] > 1e9
    published.stamp(headers=None)


def test_definitions_have_names_of_their_own() -> None:
    names = [it.name for it in (*GAUGES, *COUNTERS, *counts.definitions())]
    assert len(names) == len(set(names))
    assert any(isinstance(it, Timing) for it in counts.definitions())
