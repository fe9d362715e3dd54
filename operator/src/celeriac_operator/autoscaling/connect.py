"""How much waits in the queues, and since when; how much is under way?

The one door to the brokers: `connect` takes a URL as kombu understands it and answers with a `Broker`, which reads the
figures of all pools on it in one round trip and announces the first message of a quiet queue. The names that callers
need are all here; behind the door each kind of broker has a module of its own.
"""

from __future__ import annotations

from dataclasses import replace

from celeriac_operator.autoscaling.brokers import urls
from celeriac_operator.autoscaling.brokers.rabbitmq import RabbitMQBroker
from celeriac_operator.autoscaling.brokers.readings import (
    AuthenticationFailed,
    Broker,
    BrokerError,
    Reading,
    Unreachable,
    UnusableURL,
    Watched,
)
from celeriac_operator.autoscaling.brokers.redis import RedisBroker

__all__ = [
    "AuthenticationFailed",
    "Broker",
    "BrokerError",
    "Reading",
    "Unreachable",
    "UnusableURL",
    "Watched",
    "connect",
]


def connect(url: str, *, management: str | None = None) -> Broker:
    """Prepare to read a broker; the first `read` connects.

    Args:
        management: where RabbitMQ's management API is, such as `http://rabbit:15672`, without credentials: these are
            the broker URL's. By default at the broker's host, on port 15672, or 15671 with TLS.

    Raises:
        UnusableURL: no broker can be asked by this URL; the text shows no password.
    """
    match urls.parse(url):
        case urls.Redis() | urls.Sentinels() as address:
            if management:
                raise UnusableURL("only RabbitMQ has a management API, and the broker URL is one of Redis")
            return RedisBroker(address)
        case urls.RabbitMQ() as address:
            return RabbitMQBroker(replace(address, management=(management.rstrip("/"),)) if management else address)
