"""(pure) Which broker does a URL mean, as kombu understands it?

`;` separates alternatives. A Sentinel URL names the sentinels; user, password and database are those of the first one.
What kombu takes from an application's transport options is not known here: the keys' prefix and the priorities (workers
report them), and Sentinel's `master_name`, which kombu does not accept in a URL. The operator reads it from the URL
(`?master_name=`), and needs it only if the sentinels watch more than one master.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from celeriac_operator.autoscaling.brokers.access import ANYWHERE, Access
from celeriac_operator.autoscaling.brokers.readings import UnusableURL

REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
MANAGEMENT_PORT: Final = 15672
MANAGEMENT_TLS_PORT: Final = 15671

REDIS_SCHEMES: Final = ("redis", "rediss")
RABBITMQ_SCHEMES: Final = ("amqp", "amqps", "pyamqp", "librabbitmq")

MAX_LENGTH: Final = 8192
"""Longest broker URL in characters, with all alternatives."""

MAX_ALTERNATIVES: Final = 16
MAX_DATABASE: Final = 2**31 - 1

HOST: Final = re.compile(r"[\w.:-]{1,253}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_SPLIT_NETLOC: Final = re.compile(r"[/?#]")

_CERT_REQS: Final = {
    "CERT_NONE": "none",
    "CERT_OPTIONAL": "optional",
    "CERT_REQUIRED": "required",
    "none": "none",
    "optional": "optional",
    "required": "required",
}
_TLS_TEXTS: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_password")
TLS_PATHS: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
"""Options that name files."""

Tls = Mapping[str, str | bool]
"""redis-py's `ssl_*` options."""


@dataclass(frozen=True, kw_only=True)
class RedisServer:
    """One Redis server, or one sentinel."""

    host: str
    port: int
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = field(default=None, repr=False)
    """`None`: no TLS."""

    @property
    def shown(self) -> str:
        """The address without credentials."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Redis:
    """Redis, at the first of these servers that responds."""

    servers: tuple[RedisServer, ...]


@dataclass(frozen=True, kw_only=True)
class Sentinels:
    """Redis behind sentinels. User, password and database are those of the master; sentinels are asked without them."""

    sentinels: tuple[RedisServer, ...]
    master_name: str | None
    """`None`: the only master that they watch."""


@dataclass(frozen=True, kw_only=True)
class RabbitMQ:
    """RabbitMQ, at the first of these management APIs that responds."""

    management: tuple[str, ...]
    """URLs of the management APIs, without credentials."""
    virtual_host: str
    username: str
    password: str = field(repr=False)
    tls: Tls = field(default_factory=dict, repr=False)


ParsedUrl = Redis | Sentinels | RabbitMQ


def parse(url: str, access: Access = ANYWHERE) -> ParsedUrl:
    """Read a broker URL.

    Raises:
        UnusableURL: no broker can be read with it, or it names a host or a file that it may not name; the message says
            why and shows no password.
    """
    if len(url) > MAX_LENGTH:
        raise UnusableURL(f"the broker URL is longer than {MAX_LENGTH} characters")
    alternatives = [_split(alternative) for alternative in url.split(";") if alternative.strip()]
    if not alternatives:
        raise UnusableURL("the broker URL is empty")
    if len(alternatives) > MAX_ALTERNATIVES:
        raise UnusableURL(f"the broker URL has more than {MAX_ALTERNATIVES} alternatives")
    for alternative in alternatives:
        _check(alternative, access)
    first = alternatives[0]
    if first.scheme in REDIS_SCHEMES:
        others = [alternative for alternative in alternatives if alternative.scheme not in REDIS_SCHEMES]
        if others:
            raise UnusableURL(f"the broker URL mixes {first.scheme}:// and {others[0].scheme}://")
        return Redis(servers=tuple(_redis_server(alternative, REDIS_PORT) for alternative in alternatives))
    if first.scheme == "sentinel":
        sentinels = tuple(
            _redis_server(alternative, SENTINEL_PORT)
            for alternative in alternatives
            if alternative.scheme == "sentinel"
        )
        return Sentinels(sentinels=sentinels, master_name=_query(first).get("master_name"))
    if first.scheme in RABBITMQ_SCHEMES:
        return _rabbitmq(alternatives)
    if not first.netloc and not first.path.startswith("/"):
        raise UnusableURL("the broker URL has no scheme, for example redis://")
    raise UnusableURL(
        f"queues of {first.scheme[:40]}:// brokers cannot be read: only those of redis://, rediss://, sentinel://, "
        "amqp:// and amqps://"
    )


def qualify(url: str, namespace: str) -> str:
    """The URL for use from another namespace: a host without a dot is a Service in the workers' namespace.

    Kubernetes resolves such a name in the client's namespace. A host with dots is not changed: it usually contains the
    namespace.
    """
    return ";".join(_qualify(alternative, namespace) for alternative in url.split(";"))


def _qualify(url: str, namespace: str) -> str:
    before, mark, rest = url.partition("://")
    netloc = _SPLIT_NETLOC.split(rest, maxsplit=1)[0]
    user, at, address = netloc.rpartition("@")
    host, colon, port = address.partition(":")
    if not mark or not host or host.startswith("[") or "." in host or host == "localhost":
        return url
    return f"{before}{mark}{user}{at}{host}.{namespace}{colon}{port}{rest[len(netloc) :]}"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url.strip())
        _ = parts.port  # urlsplit checks the port only when it is read
    except ValueError:
        # The error's text may show a part of the password as the port.
        raise UnusableURL("the broker URL cannot be parsed: special characters must be %-encoded") from None
    # Both urlsplit and kombu end the address at #, so a password must have it %-encoded.
    return parts


def _check(parts: SplitResult, access: Access) -> None:
    """Check what every kind of broker has: the host, and that no part could forge a line of a protocol or a log."""
    host = unquote(parts.hostname or "") or "127.0.0.1"
    if not HOST.fullmatch(host):
        raise UnusableURL("the host in the broker URL is not a host name")
    access.check_host(host)
    for part in (parts.username, parts.password, parts.path):
        if _CONTROL.search(unquote(part or "")):
            # Not shown: it may be part of a password.
            raise UnusableURL("the broker URL contains control characters")
    for option, value in _query(parts).items():
        if option in TLS_PATHS:
            access.check_file(option, value)


def _redis_server(parts: SplitResult, default_port: int) -> RedisServer:
    query = _query(parts)
    if "credential_provider" in query:
        raise UnusableURL("credential_provider is code of the application, which the operator cannot run")
    tls = _tls(query)
    if parts.scheme == "rediss" and not tls:
        tls = {"ssl_cert_reqs": "none"}  # as kombu does, with a warning
    return RedisServer(
        host=unquote(parts.hostname or "") or "127.0.0.1",
        port=parts.port or default_port,
        database=_database(parts.path),
        username=unquote(parts.username or "") or None,
        password=unquote(parts.password or "") or None,
        tls=tls or None,
    )


def _database(path: str) -> int:
    text = unquote(path).strip("/")
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= MAX_DATABASE):
        # Not shown: it may be the end of a password that contains a slash.
        raise UnusableURL("the path of a Redis URL must be a database number, such as /0")
    return int(text)


def _rabbitmq(alternatives: list[SplitResult]) -> RabbitMQ:
    first = alternatives[0]
    management = []
    for alternative in alternatives:
        scheme, port = ("https", MANAGEMENT_TLS_PORT) if alternative.scheme == "amqps" else ("http", MANAGEMENT_PORT)
        host = unquote(alternative.hostname or "") or "127.0.0.1"
        management.append(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")
    virtual_host = unquote(first.path.removeprefix("/")) or "/"
    if virtual_host in (".", ".."):
        raise UnusableURL(f"the virtual host cannot be {virtual_host}")  # it would be a step in the path of a request
    return RabbitMQ(
        management=tuple(management),
        virtual_host=virtual_host,
        username=unquote(first.username or "") or "guest",
        password=unquote(first.password or "") or "guest",
        tls=_tls(_query(first)),
    )


def _query(parts: SplitResult) -> dict[str, str]:
    return dict(parse_qsl(parts.query))


def _tls(query: Mapping[str, str]) -> dict[str, str | bool]:
    options: dict[str, str | bool] = {}
    for name, value in query.items():
        if not name.startswith("ssl_"):
            continue
        if name == "ssl_cert_reqs":
            if value not in _CERT_REQS:
                raise UnusableURL("ssl_cert_reqs must be none, optional or required")
            options[name] = _CERT_REQS[value]
        elif name == "ssl_check_hostname":
            options[name] = value.lower() != "false"
        elif name in _TLS_TEXTS:
            options[name] = value
        else:
            raise UnusableURL(f"the operator does not know the option {name[:40]} of the broker URL")
    return options
