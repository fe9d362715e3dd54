"""How is a broker read? `connect` takes a URL as kombu understands it and returns a `Broker`.

A `Broker` reads the figures of all its pools in one round trip and announces the first message of an empty queue. All
names that callers need are in this module; each kind of broker has a module of its own.
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
    """Build the reader of a broker; its first `read` connects.

    Args:
        management: URL of RabbitMQ's management API, such as `http://rabbit:15672`, without credentials; the broker
            URL's are used. Default: the broker's host, port 15672, or 15671 with TLS.

    Raises:
        UnusableURL: no broker can be read with this URL; the message shows no password.
    """
    match urls.parse(url):
        case urls.Redis() | urls.Sentinels() as address:
            if management:
                raise UnusableURL("only RabbitMQ has a management API, but the broker URL is a Redis URL")
            return RedisBroker(address)
        case urls.RabbitMQ() as address:
            return RabbitMQBroker(replace(address, management=(management.rstrip("/"),)) if management else address)
