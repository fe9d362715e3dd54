"""How is a broker read? `connect` takes a URL as kombu understands it and returns a `Broker`.

A `Broker` reads the figures of all its pools in one round trip and announces the first message of an empty queue. All
names that callers need are in this module; each kind of broker has a module of its own.
"""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import urlsplit

from celeriac_operator.autoscaling.brokers import urls
from celeriac_operator.autoscaling.brokers.access import ANYWHERE, Access
from celeriac_operator.autoscaling.brokers.rabbitmq import RabbitMQBroker
from celeriac_operator.autoscaling.brokers.readings import (
    AuthenticationFailed,
    Broker,
    BrokerError,
    Misbehaving,
    Reading,
    Unreachable,
    UnusableURL,
    Watched,
)
from celeriac_operator.autoscaling.brokers.redis import RedisBroker
from celeriac_operator.autoscaling.brokers.resolving import Resolver

__all__ = [
    "Access",
    "AuthenticationFailed",
    "Broker",
    "BrokerError",
    "Misbehaving",
    "Reading",
    "Resolver",
    "Unreachable",
    "UnusableURL",
    "Watched",
    "connect",
]


_MANAGEMENT = re.compile(r"https?://(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?/?")


def connect(
    url: str, *, management: str | None = None, access: Access = ANYWHERE, resolver: Resolver | None = None
) -> Broker:
    """Build the reader of a broker; its first `read` connects.

    Args:
        management: URL of RabbitMQ's management API, such as `http://rabbit:15672`, without credentials and path; the
            broker URL's credentials are used. Default: the broker's host, port 15672, or 15671 with TLS.
        access: what the URLs may name.
        resolver: resolves host names. Shared by all brokers, because it bounds what they ask for together.

    Raises:
        UnusableURL: no broker can be read with this URL; the message shows no password.
    """
    resolver = resolver or Resolver()
    match urls.parse(url, access):
        case urls.Redis() | urls.Sentinels() as address:
            if management:
                raise UnusableURL("only RabbitMQ has a management API, but the broker URL is a Redis URL")
            return RedisBroker(address, access=access, resolver=resolver)
        case urls.RabbitMQ() as address:
            if management:
                _check_management(management, access)
                address = replace(address, management=(management.rstrip("/"),))
            return RabbitMQBroker(address, resolver=resolver)


def _check_management(url: str, access: Access) -> None:
    # No path: a request goes to the management API's own, and nowhere else on that host.
    if not _MANAGEMENT.fullmatch(url):
        raise UnusableURL("managementUrl must be http:// or https://, a host, and a port")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise UnusableURL("managementUrl cannot be parsed") from None
    access.check_host(parts.hostname or "")
