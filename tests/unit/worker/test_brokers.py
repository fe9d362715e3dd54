"""Every way to write a broker's URL is read as kombu reads it, and answered once for the whole library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from celery.app.backends import BACKEND_ALIASES
from kombu import Connection
from kombu.transport import TRANSPORT_ALIASES

from celeriac import brokers
from celeriac.brokers import BrokerKind

MANIFESTS = json.loads(Path(__file__).parents[3].joinpath("docs/reference/celeryworkerpool.schema.json").read_text())


@pytest.mark.parametrize(
    ("section", "names"),
    [
        pytest.param("broker", TRANSPORT_ALIASES, id="broker"),
        pytest.param("resultBackend", BACKEND_ALIASES, id="result backend"),
    ],
)
def test_a_pool_takes_every_scheme_that_celery_has(section: str, names: Iterable[str]) -> None:
    url = MANIFESTS["properties"]["spec"]["properties"][section]["properties"]["url"]
    patterns = [part["pattern"] for part in url["allOf"] if "pattern" in part]
    assert len(patterns) == 2
    refused = [name for name in names if not all(re.search(it, f"{name}://host/0") for it in patterns)]
    assert refused == []
    assert not all(re.search(it, "http://host/0") for it in patterns)


@pytest.mark.parametrize(
    ("url", "transport", "expected", "is_redis", "has_leases"),
    [
        pytest.param("redis://a", None, BrokerKind("redis", "redis"), True, True, id="Redis"),
        pytest.param("rediss://a", None, BrokerKind("rediss", "rediss"), True, True, id="Redis behind TLS"),
        pytest.param("sentinel://a;sentinel://b", None, BrokerKind("sentinel", "sentinel"), True, True, id="Sentinel"),
        pytest.param("redis+socket:///run/r.sock", None, BrokerKind("redis", "redis"), True, True, id="a socket"),
        pytest.param(
            "redis+socket:///r?virtual_host=3", None, BrokerKind("redis", "redis"), True, True, id="a database"
        ),
        pytest.param("REDIS://a", None, BrokerKind("redis", "redis"), True, True, id="capitals"),
        pytest.param(["rediss://a", "rediss://b"], None, BrokerKind("rediss", "rediss"), True, True, id="a list"),
        pytest.param(("redis://a",), None, BrokerKind("redis", "redis"), True, True, id="a tuple"),
        pytest.param("redis://a;amqp://b", None, BrokerKind("redis", "redis"), True, True, id="the first of several"),
        pytest.param("amqp://b;redis://a", None, BrokerKind("amqp", "amqp"), False, False, id="not the second"),
        pytest.param("localhost", "redis", BrokerKind("redis", "redis"), True, True, id="a host and a transport"),
        pytest.param(
            "redis://a", "shop.t:T", BrokerKind("shop.t:T", "redis"), True, False, id="a transport of the application's"
        ),
        pytest.param("redis://a", "filesystem", BrokerKind("filesystem", "redis"), True, False, id="one of kombu's"),
        pytest.param("redis+socket:///r", "amqp", BrokerKind("redis", "redis"), True, True, id="a plus wins"),
        pytest.param("sqs://", None, BrokerKind("sqs", "sqs"), False, False, id="SQS"),
        pytest.param("sqla+sqlite:///f", None, BrokerKind("sqla", "sqla"), False, False, id="SQL"),
        pytest.param("memory://", None, BrokerKind("memory", "memory"), False, False, id="memory"),
        pytest.param("localhost", None, BrokerKind("amqp", "amqp"), False, False, id="a host: kombu's default"),
        pytest.param("", None, BrokerKind("amqp", "amqp"), False, False, id="nothing"),
        pytest.param(None, None, BrokerKind("amqp", "amqp"), False, False, id="no URL"),
        pytest.param([], None, BrokerKind("amqp", "amqp"), False, False, id="an empty list"),
        pytest.param("shop://a", None, BrokerKind("shop", "shop"), False, False, id="one that nobody knows"),
    ],
)
def test_a_url_names(url: Any, transport: str | None, expected: BrokerKind, is_redis: bool, has_leases: bool) -> None:
    found = brokers.of_url(url, transport)
    assert (found, found.is_redis, found.has_leases) == (expected, is_redis, has_leases)


def urls() -> list[Any]:
    """One of each of kombu's transports that is installed here, in each way to write it."""
    able = ["amqp", "amqps", "pyamqp", "memory", "redis", "rediss", "sentinel", "filesystem"]
    assert set(able) <= set(TRANSPORT_ALIASES)
    plain = [f"{name}://host" for name in able]
    written = [url.upper().replace("HOST", "host") for url in plain]
    several = [f"{url};redis://other" for url in plain]
    return [*plain, *written, *several, "redis+socket:///r", "redis+socket:///r?virtual_host=1", "host"]


@pytest.mark.parametrize("transport", [None, "redis", "memory"])
@pytest.mark.parametrize("url", urls())
def test_kombu_chooses_the_same_transport(url: Any, transport: str | None) -> None:
    assert Connection(url, transport=transport).transport_cls == brokers.of_url(url, transport).transport


@pytest.mark.parametrize(
    ("url", "notices", "seconds"),
    [
        pytest.param("amqp://", True, None, id="AMQP"),
        pytest.param("librabbitmq://", True, None, id="AMQP by a library in C"),
        pytest.param("redis+socket:///r", False, 3600.0, id="Redis"),
        pytest.param("sqs://", False, 1800.0, id="SQS"),
        pytest.param("filesystem://", False, None, id="files"),
    ],
)
def test_what_the_broker_does_by_itself(url: str, notices: bool, seconds: float | None) -> None:
    found = brokers.of_url(url)
    assert (found.notices_lost_consumers, found.default_visibility_seconds) == (notices, seconds)


def test_an_application_may_consume_from_one_broker_and_publish_to_another() -> None:
    conf = {"broker_read_url": "redis://a", "broker_write_url": "amqp://b", "broker_url": "sqs://"}
    assert brokers.of_settings(conf).transport == "redis"
    assert brokers.of_publishing(conf).transport == "amqp"
