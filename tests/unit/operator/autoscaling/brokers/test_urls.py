"""One row for each thing that kombu reads in a URL, and no password in what is said of a URL that cannot be used."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac_operator.autoscaling.brokers import urls
from celeriac_operator.autoscaling.brokers.access import Access
from celeriac_operator.autoscaling.brokers.readings import UnusableURL
from celeriac_operator.autoscaling.brokers.urls import RabbitMQ, Redis, RedisServer, Sentinels


def server(host: str = "redis.shop", port: int = 6379, **fields: Any) -> RedisServer:
    return RedisServer(host=host, port=port, **fields)


def rabbitmq(management: str = "http://rabbit:15672", **fields: Any) -> RabbitMQ:
    said = {"virtual_host": "/", "username": "guest", "password": "guest", **fields}
    return RabbitMQ(management=tuple(management.split()), **said)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        pytest.param("redis://redis.shop", Redis(servers=(server(),)), id="a host alone has kombu's port and database"),
        pytest.param("redis://", Redis(servers=(server("127.0.0.1"),)), id="no host is this machine"),
        pytest.param("redis://redis.shop:6380/5", Redis(servers=(server(port=6380, database=5),)), id="a database"),
        pytest.param(
            "redis://shop:p%40ss%2Fw%3B@redis.shop/0",
            Redis(servers=(server(username="shop", password="p@ss/w;"),)),
            id="credentials are %-encoded",
        ),
        pytest.param("redis://:word@redis.shop", Redis(servers=(server(password="word"),)), id="a password alone"),
        pytest.param(
            "redis://a/1;redis://:word@b:7000/2",
            Redis(servers=(server("a", database=1), server("b", 7000, database=2, password="word"))),
            id="alternatives stand each for itself",
        ),
        pytest.param(
            "rediss://redis.shop",
            Redis(servers=(server(tls={"ssl_cert_reqs": "none"}),)),
            id="TLS without options checks nothing, as kombu does",
        ),
        pytest.param(
            "rediss://redis.shop/0?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs=/ca.crt&ssl_check_hostname=false",
            Redis(
                servers=(
                    server(tls={"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.crt", "ssl_check_hostname": False}),
                )
            ),
            id="TLS with kombu's options",
        ),
        pytest.param(
            "redis://redis.shop?ssl_cert_reqs=required",
            Redis(servers=(server(tls={"ssl_cert_reqs": "required"}),)),
            id="an option of TLS switches it on",
        ),
        pytest.param("redis://[::1]:6380/1", Redis(servers=(server("::1", 6380, database=1),)), id="an IPv6 address"),
        pytest.param(
            "sentinel://:word@a:1/3;sentinel://b",
            Sentinels(sentinels=(server("a", 1, database=3, password="word"), server("b", 26379)), master_name=None),
            id="sentinels, database and password from the first",
        ),
        pytest.param(
            "sentinel://a:1/0?master_name=shop",
            Sentinels(sentinels=(server("a", 1),), master_name="shop"),
            id="the master's name",
        ),
        pytest.param("amqp://rabbit", rabbitmq(), id="RabbitMQ's defaults are guest's"),
        pytest.param(
            "pyamqp://shop:w%20rd@rabbit:5673/orders",
            rabbitmq(virtual_host="orders", username="shop", password="w rd"),
            id="a virtual host; the port of AMQP says nothing of the API's",
        ),
        pytest.param("amqp://rabbit//", rabbitmq(), id="two slashes are the virtual host /"),
        pytest.param("amqp://rabbit/%2Forders", rabbitmq(virtual_host="/orders"), id="a %-encoded slash stays"),
        pytest.param(
            "amqps://rabbit?ssl_cert_reqs=none;amqps://other",
            rabbitmq("https://rabbit:15671 https://other:15671", tls={"ssl_cert_reqs": "none"}),
            id="TLS has a port of its own",
        ),
    ],
)
def test_reads_a_url_as_kombu_does(url: str, address: urls.ParsedUrl) -> None:
    assert urls.parse(url, Access(files=frozenset({"/ca.crt"}))) == address


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        pytest.param("", "the broker URL is empty", id="nothing"),
        pytest.param("secret", "the broker URL has no scheme", id="no URL at all"),
        pytest.param("sqs://:secret@", "queues of sqs:// brokers cannot be read", id="another kind of broker"),
        pytest.param("redis+socket:///secret", r"queues of redis\+socket:// brokers", id="a socket in another pod"),
        pytest.param("redis://:sec/ret@host", "cannot be parsed", id="a password with a bare slash"),
        pytest.param("redis://shop:12/secret@host", "must be a database number", id="a password like a port"),
        pytest.param("redis://host/secret", "must be a database number", id="a database with a name"),
        pytest.param("redis://host?ssl_cert_reqs=secret", "must be none, optional or required", id="a wrong option"),
        pytest.param("redis://host?ssl_ciphers=secret", "does not know the option ssl_ciphers", id="an unknown one"),
        pytest.param("redis://a;amqp://:secret@b", "mixes redis:// and amqp://", id="two kinds of brokers"),
        pytest.param("redis://h?credential_provider=secret", "code of the application", id="credentials by code"),
        pytest.param("redis://h/" + "9" * 5000, "must be a database number", id="a database of 5000 digits"),
        pytest.param("redis://h/٣", "must be a database number", id="a database in other digits"),
        pytest.param("redis://u%0D%0ASET%20secret:p@h", "control characters", id="a user that forges a command"),
        pytest.param("redis://u:p%0Asecret@h", "control characters", id="a password that forges a line"),
        pytest.param("redis://x%0Asecret/0", "not a host name", id="a host that forges a line"),
        pytest.param("redis://x%20secret/0", "not a host name", id="a host with a blank"),
        pytest.param("redis://" + "x" * 300, "not a host name", id="a host that is too long"),
        pytest.param("amqp://h/a%00secret", "control characters", id="a virtual host with a null byte"),
        pytest.param("amqp://h/..", r"the virtual host cannot be \.\.", id="a virtual host that is a step up"),
        pytest.param("redis://h/0?" + "secret" * 2000, "longer than", id="a URL without an end"),
        pytest.param(";".join(["redis://h"] * 17), "more than 16 alternatives", id="too many alternatives"),
        pytest.param("x" * 500 + "://secret", "queues of x", id="a scheme without an end"),
        *(
            pytest.param(
                f"{scheme}://h?{option}=/dev/secret", f"names a file \\({option}\\)", id=f"{option} of {scheme}"
            )
            for scheme in ("redis", "rediss", "sentinel", "amqp", "amqps", "pyamqp", "librabbitmq")
            for option in ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
        ),
        pytest.param("redis://a;rediss://b?ssl_ca_certs=/dev/secret", "names a file", id="a file of an alternative"),
    ],
)
def test_refuses_a_url_without_showing_it(url: str, sentence: str) -> None:
    with pytest.raises(UnusableURL, match=sentence) as refusal:
        urls.parse(url)
    assert "secret" not in str(refusal.value)
    assert len(str(refusal.value)) < 250


@pytest.mark.parametrize("url", ["redis://u:secret@h", "sentinel://:secret@h", "amqp://u:secret@h"])
def test_shows_no_password_of_an_address(url: str) -> None:
    assert "secret" not in repr(urls.parse(url))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("redis://redis:6379/0", "redis://redis.shop:6379/0", id="a Service beside the workers"),
        pytest.param("redis://redis", "redis://redis.shop", id="nothing but its name"),
        pytest.param("redis://:p.w@redis?x=a/b", "redis://:p.w@redis.shop?x=a/b", id="with a password and options"),
        pytest.param("redis://redis.other/0", "redis://redis.other/0", id="one in another namespace"),
        pytest.param("redis://10.0.0.1/0", "redis://10.0.0.1/0", id="an address"),
        pytest.param("redis://[::1]/0", "redis://[::1]/0", id="an address with colons"),
        pytest.param("redis://localhost/0", "redis://localhost/0", id="the host itself"),
        pytest.param("redis:///0", "redis:///0", id="no name"),
        pytest.param("sentinel://a:1;sentinel://b:2", "sentinel://a.shop:1;sentinel://b.shop:2", id="alternatives"),
        pytest.param("nonsense", "nonsense", id="no URL"),
    ],
)
def test_a_name_is_looked_up_where_the_workers_are(url: str, expected: str) -> None:
    assert urls.qualify(url, "shop") == expected
