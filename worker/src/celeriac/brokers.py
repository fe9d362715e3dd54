"""(pure) Which broker is meant by a URL, and what does Celeriac do for it?

This is the only place that looks at a URL's scheme. It reads a URL as kombu does: what stands before `+` names the
transport (`redis+socket:///run/redis.sock`), else `broker_transport` does, else the scheme, which may be spelled in
capitals. Of several URLs (a list, or joined by `;`) the first one counts. A result backend's URL is read the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

TRANSPORTS: Final = {
    "redis": "celeriac.delivery.transport:Transport",
    "rediss": "celeriac.delivery.transport:Transport",
    "sentinel": "celeriac.delivery.transport:SentinelTransport",
}
"""kombu's names of its Redis transports, and the classes with atomic fetch and leases that stand in for them."""
KOMBUS_DEFAULT: Final = "amqp"
_PUSHING: Final = frozenset({"amqp", "amqps", "pyamqp", "librabbitmq"})
_VISIBILITY_SECONDS: Final = {"redis": 3600.0, "rediss": 3600.0, "sentinel": 3600.0, "sqs": 1800.0, "SQS": 1800.0}


@dataclass(frozen=True, slots=True)
class BrokerKind:
    """What is known about a broker before a connection is made."""

    transport: str
    """kombu's name of its transport, or the path of a class that the application names itself."""
    scheme: str
    """What the URL itself says; the same where no `broker_transport` is set."""

    @property
    def is_redis(self) -> bool:
        """Return whether the server is Redis, whichever transport class is used."""
        return self.transport in TRANSPORTS or self.scheme in TRANSPORTS

    @property
    def has_leases(self) -> bool:
        """Whether messages are fetched atomically and held under leases; not with a transport of the application's."""
        return self.transport in TRANSPORTS

    @property
    def notices_lost_consumers(self) -> bool:
        """Return whether the broker itself redelivers the unacknowledged messages of a lost connection."""
        return self.transport in _PUSHING

    @property
    def counts_by_copy(self) -> bool:
        """Return whether deliveries are counted in copies of messages, as RabbitMQ does not count them itself."""
        return self.transport in _PUSHING - {"librabbitmq"}

    @property
    def default_visibility_seconds(self) -> float | None:
        """Return the seconds after which kombu's transport redelivers unacknowledged messages; `None`: never."""
        return _VISIBILITY_SECONDS.get(self.transport)


def of_url(url: object, transport: str | None = None) -> BrokerKind:
    """Read a broker's URL.

    Args:
        url: a URL, several of them joined by `;` or in a list, a bare host name, or `None`.
        transport: Celery's setting `broker_transport`.
    """
    first = url if isinstance(url, str) else next((str(it) for it in url), "") if isinstance(url, (list, tuple)) else ""
    scheme, separator, _ = first.split(";", 1)[0].strip().partition("://")
    if not separator:
        name = transport or KOMBUS_DEFAULT
        return BrokerKind(transport=name, scheme=name)
    name, plus, _ = scheme.partition("+")
    if plus:
        return BrokerKind(transport=name, scheme=name)
    # kombu has it read by urllib, for which schemes have no case.
    return BrokerKind(transport=transport or scheme.lower(), scheme=scheme.lower())


def of_settings(conf: Mapping[str, Any]) -> BrokerKind:
    """Read which broker an application's Celery settings name for consuming."""
    return of_url(conf.get("broker_read_url") or conf.get("broker_url"), conf.get("broker_transport"))


def of_publishing(conf: Mapping[str, Any]) -> BrokerKind:
    """Read which broker an application's Celery settings name for publishing."""
    return of_url(conf.get("broker_write_url") or conf.get("broker_url"), conf.get("broker_transport"))
