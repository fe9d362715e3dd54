from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from celeriac.backoff import Retry
from celeriac.config import contract, settings
from celeriac.config.settings import Setting, Source

GOLDEN = Path(__file__).parents[3] / "golden" / "contract"
NOBODY = contract.Environment(pod_name="pod-1")


def a_config(name: str = "minimal", **changes: Any) -> contract.Config:
    config = contract.parse((GOLDEN / f"{name}.json").read_text())
    values = {field: getattr(config, field) for field in contract.Config.__dataclass_fields__}
    return contract.Config(**{**values, **changes})


def laid(config: contract.Config, environment: contract.Environment = NOBODY, **own: Any) -> dict[str, Any]:
    return {it.name: it.value for it in settings.compute(config, environment, own)}


def test_every_word_of_a_full_document_is_laid_over() -> None:
    environment = contract.Environment(pod_name="p", broker_url="redis://b", result_backend_url="redis://r")
    result = laid(a_config("full"), environment)
    expected = {
        "broker_url": "redis://b",
        "result_backend": "redis://r",
        "result_expires": 86400,
        "task_soft_time_limit": 270,
        "task_time_limit": 300,
        "worker_concurrency": 4,
        "worker_max_tasks_per_child": 1000,
        "worker_max_memory_per_child": 204800,
        "worker_disable_prefetch": False,
        "broker_connection_max_retries": 100,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
    }
    assert expected.items() <= result.items()


def test_a_setting_knows_whose_word_it_is() -> None:
    result = settings.compute(a_config("full"), NOBODY, {})
    assert Setting("task_time_limit", 300, Source.POOL) in result
    assert Setting("broker_connection_retry", value=True, source=Source.DEFAULT) in result
    assert len({it.name for it in result}) == len(result)


@pytest.mark.parametrize(
    ("mode", "own", "acks_late", "reject"),
    [
        pytest.param(None, {}, True, True, id="nobody says anything: at least once"),
        pytest.param(None, {"task_acks_late": False}, None, None, id="the application acknowledges early: it stays so"),
        pytest.param(None, {"task_acks_late": True}, None, True, id="the application acknowledges late: completed"),
        pytest.param(
            None,
            {"task_acks_late": True, "task_reject_on_worker_lost": False},
            None,
            None,
            id="the application says both",
        ),
        pytest.param("AtLeastOnce", {"task_acks_late": False}, True, True, id="the pool wins over the application"),
        pytest.param("AtMostOnce", {"task_acks_late": True}, False, False, id="also for at most once"),
        pytest.param("App", {}, None, None, id="the pool leaves it to the application"),
    ],
)
def test_when_messages_are_acknowledged(
    mode: Any, own: dict[str, Any], acks_late: bool | None, reject: bool | None
) -> None:
    result = laid(a_config(delivery=contract.Delivery(mode=mode)), **own)
    assert (result.get("task_acks_late"), result.get("task_reject_on_worker_lost")) == (acks_late, reject)


def test_what_the_application_sets_is_left_alone_where_the_pool_says_nothing() -> None:
    own: dict[str, Any] = {
        "task_time_limit": 5,
        "worker_hijack_root_logger": True,
        "result_backend_always_retry": False,
        "task_publish_retry_policy": {"max_retries": 3},
    }
    assert not own.keys() & laid(a_config(), **own).keys()


def test_the_root_logger_is_left_to_an_application_that_keeps_its_logging() -> None:
    assert laid(a_config())["worker_hijack_root_logger"] is False
    assert "worker_hijack_root_logger" not in laid(a_config(logging=contract.Logging(format="App")))


@pytest.mark.parametrize(
    ("url", "own", "expected"),
    [
        pytest.param("redis://r", {}, 5.0, id="Redis gets a time-out"),
        pytest.param("sentinel://r", {}, 5.0, id="so does Sentinel"),
        pytest.param(None, {"broker_url": "rediss://r"}, 5.0, id="and the application's own Redis"),
        pytest.param("redis://r", {"broker_transport_options": {"socket_timeout": 3}}, 3, id="unless it has one"),
        pytest.param("amqp://r", {}, None, id="other brokers get nothing"),
        pytest.param(None, {}, None, id="nor does one that nobody names"),
    ],
)
def test_the_time_outs_of_the_broker(url: str | None, own: dict[str, Any], expected: float | None) -> None:
    environment = contract.Environment(pod_name="p", broker_url=url)
    options = laid(a_config(), environment, **own).get("broker_transport_options", {})
    assert options.get("socket_timeout") == expected


@pytest.mark.parametrize(
    ("stalled_seconds", "expected"), [(60, 5.0), (24, 3.0), (1, 2.0)], ids=["as by default", "in a hurry", "at least"]
)
def test_the_time_out_leaves_the_consumer_loop_time_to_come_round(stalled_seconds: int, expected: float) -> None:
    config = a_config(liveness=contract.Liveness(port=1, stalled_seconds=stalled_seconds))
    environment = contract.Environment(pod_name="p", broker_url="redis://r")
    assert laid(config, environment)["broker_transport_options"]["socket_timeout"] == expected


def test_publishing_is_as_patient_as_the_broker_is_waited_for_and_each_pod_has_its_own_pace() -> None:
    backoff = contract.RetryBackoff(initial=2, max=20)
    config = a_config(broker=contract.Broker(max_retries=7, retry_backoff_seconds=backoff))
    policies = [
        laid(config, contract.Environment(pod_name=f"pod-{n}"))["task_publish_retry_policy"] for n in range(100)
    ]
    assert {policy["max_retries"] for policy in policies} == {7}
    assert all(1 <= policy["interval_start"] == policy["interval_step"] <= 2 for policy in policies)
    assert all(policy["interval_max"] == pytest.approx(10 * policy["interval_start"]) for policy in policies)
    assert len({policy["interval_start"] for policy in policies}) == 100


@pytest.mark.parametrize(
    ("max_retries", "own", "expected"),
    [
        pytest.param(7, {"broker_connection_max_retries": 3}, 7, id="the pool's word"),
        pytest.param(None, {"broker_connection_max_retries": 3}, 3, id="else the application's"),
        pytest.param(None, {"broker_connection_max_retries": 0}, None, id="in which 0 means for ever"),
        pytest.param(0, {}, 0, id="while the pool's 0 means none"),
        pytest.param(None, {}, 100, id="else the default"),
    ],
)
def test_how_often_the_broker_is_retried(max_retries: int | None, own: dict[str, Any], expected: int | None) -> None:
    assert settings.retries(a_config(broker=contract.Broker(max_retries=max_retries)), own) == Retry(
        max_retries=expected
    )


@pytest.mark.parametrize(
    ("prefetch", "acks_late", "multiplier", "window"),
    [
        pytest.param(1, True, None, 5, id="late: the running ones count, and one more"),
        pytest.param(3, True, 9, 7, id="the pool's word wins over the application's multiplier"),
        pytest.param(0, True, None, 4, id="no prefetch: only the running ones"),
        pytest.param(0, False, None, 4, id="no prefetch and early: Celery takes one when a slot is free"),
        pytest.param(3, False, None, 3, id="early: the running ones are not held any more"),
        pytest.param(None, True, 2, 8, id="the application's multiplier"),
        pytest.param(None, True, None, 5, id="nobody says: one beyond the running ones"),
    ],
)
def test_how_many_messages_are_held(prefetch: int | None, acks_late: bool, multiplier: int | None, window: int) -> None:
    config = a_config(worker=contract.Worker(concurrency=4, prefetch=prefetch))
    assert settings.prefetch_window(config, slots=4, acks_late=acks_late, app_multiplier=multiplier) == window


@pytest.mark.parametrize(
    ("prefetch", "own", "is_inline", "window"),
    [
        pytest.param(None, {}, False, 40, id="nobody says: a batch for each slot"),
        pytest.param(3, {}, False, 7, id="the pool says"),
        pytest.param(None, {"worker_prefetch_multiplier": 2}, False, 8, id="the application says"),
        pytest.param(None, {}, True, 10, id="one batch where a task runs in the thread that takes messages"),
    ],
)
def test_a_window_for_batches(prefetch: int | None, own: dict[str, Any], is_inline: bool, window: int) -> None:
    config = a_config(worker=contract.Worker(concurrency=4, prefetch=prefetch))
    found = settings.window(config, own, slots=4, acks_late=True, is_inline=is_inline, largest_batch=10)
    assert found == window


@pytest.mark.parametrize(("prefetch", "window"), [(None, 4), (2, 6)], ids=["it holds", "the pool's value wins"])
def test_an_application_that_disables_prefetching(prefetch: int | None, window: int) -> None:
    config = a_config(worker=contract.Worker(concurrency=4, prefetch=prefetch))
    assert window == settings.prefetch_window(config, slots=4, acks_late=True, app_multiplier=4, app_disables=True)


@pytest.mark.parametrize(
    ("is_default", "own", "slots", "source"),
    [
        pytest.param(False, {"worker_concurrency": 16}, 4, Source.POOL, id="the pool says how many"),
        pytest.param(True, {"worker_concurrency": 16}, 16, None, id="the application says how many"),
        pytest.param(True, {}, 4, Source.DEFAULT, id="nobody says: the cpu limit"),
        pytest.param(True, {"worker_concurrency": 0}, 4, None, id="0, by which Celery means all processors"),
    ],
)
def test_slots_by_the_nearest_word(is_default: bool, own: dict[str, Any], slots: int, source: Source | None) -> None:
    config = a_config(worker=contract.Worker(concurrency=4, concurrency_is_default=is_default))
    assert settings.slots(config, own) == slots
    assert f"--concurrency={slots}" in settings.celery_arguments(config, NOBODY, own)
    laid = {it.name: it.source for it in settings.compute(config, NOBODY, own)}
    assert laid.get("worker_concurrency") == source


def test_the_command_line_of_celerys_worker() -> None:
    environment = contract.Environment(pod_name="emails-7d9-x2")
    assert settings.celery_arguments(a_config("full"), environment, {}) == [
        "worker",
        "--hostname=emails@emails-7d9-x2",
        "--loglevel=INFO",
        "--concurrency=4",
        "--pool=prefork",
        "--without-gossip",
    ]


def test_celerys_banner_does_not_come_between_json_lines() -> None:
    quiet = settings.celery_arguments(a_config(logging=contract.Logging(format="JSON")), NOBODY, {})
    assert quiet[:2] == ["--quiet", "worker"]
