from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from celeriac.config import contract

GOLDEN = Path(__file__).parents[3] / "golden" / "contract"


def a_document(**changes: Any) -> str:
    """The minimal golden document with dotted keys replaced; `...` removes a key."""
    document = json.loads((GOLDEN / "minimal.json").read_text())
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        section = document
        for parent in parents:
            section = section.setdefault(parent, {})
        if value is ...:
            del section[last]
        else:
            section[last] = value
    return json.dumps(document)


def test_the_full_golden_document_is_read_key_by_key() -> None:
    assert contract.parse((GOLDEN / "full.json").read_text()) == contract.Config(
        pool=contract.Pool(namespace="shop", name="emails"),
        app="shop.celery:app",
        queues=("emails", "default"),
        worker=contract.Worker(
            pool="prefork",
            concurrency=4,
            prefetch=1,
            max_tasks_per_child=1000,
            max_memory_per_child_kib=204800,
            extra_args=("--without-gossip",),
        ),
        broker=contract.Broker(max_retries=100, retry_backoff_seconds=contract.RetryBackoff(initial=1, max=30)),
        result_backend=contract.ResultBackend(expires_seconds=86400),
        time_limits=contract.TimeLimits(soft_seconds=270, hard_seconds=300),
        delivery=contract.Delivery(mode="AtLeastOnce", lease_seconds=60, max_deliveries=5),
        liveness=contract.Liveness(port=8787, stalled_seconds=60),
        drain=contract.DrainLimit(timeout_seconds=330),
        logging=contract.Logging(
            level="INFO",
            format="Text",
            worker_format="[%(asctime)s:%(levelname)s] [%(task_name)s] %(message)s",
            task_format="[%(asctime)s:%(levelname)s] Task %(task_name)s[%(task_id)s]: %(message)s",
        ),
        sentry=contract.Sentry(
            dsn_file="/run/celeriac/sentry/dsn",
            environment="production",
            release="shop@1.4",
            traces_sample_rate=1.0,
            send_default_pii=True,
        ),
        notifications=contract.Notifications(slack=contract.Slack(webhook_file="/run/celeriac/slack/webhook")),
    )


def test_what_the_minimal_golden_document_leaves_open_stays_open() -> None:
    config = contract.parse((GOLDEN / "minimal.json").read_text())
    assert config == contract.Config(
        pool=contract.Pool(namespace="default", name="plain"),
        app="tasks",
        worker=contract.Worker(pool="prefork", concurrency=1, concurrency_is_default=True),
        liveness=contract.Liveness(port=8787, stalled_seconds=60),
        drain=contract.DrainLimit(timeout_seconds=300),
    )
    assert config.queues is None
    assert config.sentry is None


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        pytest.param("{", "CELERIAC_CONFIG is not JSON: Expecting property name", id="text that is not JSON"),
        pytest.param("[]", "CELERIAC_CONFIG must be a JSON object, not []", id="JSON that is not an object"),
        pytest.param(a_document(app=...), "app is missing from CELERIAC_CONFIG", id="a required key missing"),
        pytest.param(a_document(pool__name=...), "pool.name is missing", id="a required key missing in a section"),
        pytest.param(a_document(version=2), "version 2 of the document is newer", id="a version of the future"),
        pytest.param(a_document(worker=3), "worker must be a JSON object, not 3", id="a number for a section"),
        pytest.param(
            a_document(worker__pool="thread"),
            'worker.pool is "thread", it must be one of prefork, threads, gevent, eventlet, solo, custom '
            "(did you mean threads?)",
            id="a choice nearly right",
        ),
        pytest.param(a_document(worker__concurrency=0), "worker.concurrency is 0, it must be at least 1", id="too low"),
        pytest.param(
            a_document(worker__concurrency=True),
            "worker.concurrency is true, it must be a whole",
            id="a flag as number",
        ),
        pytest.param(a_document(worker__concurrency=1.5), "is 1.5, it must be a whole number", id="a fraction"),
        pytest.param(a_document(queues=[""]), "queues is", id="an empty queue name"),
        pytest.param(a_document(queues=["a", "a"]), "a list without repetitions", id="a queue twice"),
        pytest.param(a_document(queues="a"), 'queues is "a", it must be a list of strings', id="a string as a list"),
        pytest.param(
            a_document(timeLimits={"softSeconds": 30, "hardSeconds": 30}),
            "timeLimits.softSeconds is 30 and hardSeconds is 30: the soft limit must be the shorter one",
            id="a soft limit that is not shorter than the hard one",
        ),
        pytest.param(
            a_document(broker={"retryBackoffSeconds": {"initial": 5, "max": 1}}),
            "broker.retryBackoffSeconds.max is 1, less than initial, which is 5",
            id="a backoff that shrinks",
        ),
        pytest.param(
            a_document(sentry={"dsnFile": "/x", "tracesSampleRate": 2}),
            "sentry.tracesSampleRate is 2, it must be at most 1",
            id="a sample rate above one",
        ),
        pytest.param(
            a_document(sentry={"dsnFile": "/x", "tracesSampleRate": float("nan")}),
            "sentry.tracesSampleRate is NaN, it must be a number",
            id="a sample rate that is not a number",
        ),
        pytest.param(
            a_document(sentry={"dsnFile": "/x", "sendDefaultPii": "yes"}),
            'sentry.sendDefaultPii is "yes", it must be true or false',
            id="a word where a flag belongs",
        ),
        pytest.param(a_document(sentry={}), "sentry.dsnFile is missing", id="a sentry section without a DSN file"),
        pytest.param(
            a_document(notifications={"slack": {}}),
            "notifications.slack.webhookFile is missing",
            id="a channel without a webhook file",
        ),
        pytest.param(a_document(logging={"level": "info"}), "logging.level is", id="a log level in lower case"),
    ],
)
def test_a_bad_document_gets_a_sentence_for(document: str, sentence: str) -> None:
    with pytest.raises(contract.ContractError) as error:
        contract.parse(document)
    assert sentence in str(error.value)


def test_unknown_keys_are_collected_with_a_suggestion_and_the_rest_is_read() -> None:
    config = contract.parse(a_document(audit={}, worker__maxTaskPerChild=3, worker__prefetch=2))
    assert config.unknown_keys == ("audit", "worker.maxTaskPerChild (did you mean maxTasksPerChild?)")
    assert config.worker.prefetch == 2


def test_null_counts_as_absent() -> None:
    assert contract.parse(a_document(queues=None, sentry=None, timeLimits=None)) == contract.parse(a_document())


def test_the_environment_names_the_worker_after_its_pod_and_else_after_its_host() -> None:
    pod = contract.parse_environment({"CELERIAC_POD_NAME": "emails-7d9-x2"}, hostname="laptop")
    host = contract.parse_environment({}, hostname="laptop")
    assert (pod.pod_name, host.pod_name) == ("emails-7d9-x2", "laptop")
    assert host.broker_url is None


def test_an_empty_broker_url_is_refused_rather_than_replaced_by_the_applications_own() -> None:
    with pytest.raises(contract.ContractError, match="CELERIAC_BROKER_URL is empty: the Secret"):
        contract.parse_environment({"CELERIAC_BROKER_URL": " "}, hostname="laptop")


def test_the_repr_of_the_environment_shows_no_secret() -> None:
    environment = contract.parse_environment({"CELERIAC_BROKER_URL": "redis://:hunter2@redis"}, hostname="laptop")
    assert "hunter2" not in repr(environment)
