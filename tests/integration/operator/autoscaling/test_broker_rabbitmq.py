"""The figures of queues in a real RabbitMQ."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.operator.rabbitmq import RabbitMQServer
from tests.waiting import eventually_async

from celeriac_operator.autoscaling import connect
from celeriac_operator.autoscaling.connect import (
    AuthenticationFailed,
    Broker,
    Reading,
    Unreachable,
    UnusableURL,
    Watched,
)

WORKER_PYTHON = Path(__file__).parents[4] / ".venv" / "worker" / "bin" / "python"
HOLDER = """
import sys
from kombu import Connection, Queue
with Connection(sys.argv[1]) as connection:
    queue = Queue("mail", queue_arguments={"x-max-priority": 9})
    with connection.Producer() as producer:
        for number in range(5):
            producer.publish(str(number), routing_key="mail", declare=[queue], priority=number)
    with connection.Consumer(queue, callbacks=[lambda body, message: None], prefetch_count=2):
        while True:
            connection.drain_events()
"""
MAIL = Watched("shop/mail", ("mail", "never-declared"))


@pytest.fixture(scope="session")
def server(rabbitmq: RabbitMQServer) -> RabbitMQServer:
    """Two virtual hosts, a user who may read the API, and one who may not."""
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    for virtual_host in ("shop", "%2Fodd"):
        rabbitmq.request("PUT", f"vhosts/{virtual_host}")
        rabbitmq.request("PUT", f"permissions/{virtual_host}/admin", everything)
    for user, tags in (("reader", "management"), ("plain", "")):
        rabbitmq.request("PUT", f"users/{user}", {"password": f"{user}-word", "tags": tags})
        rabbitmq.request("PUT", f"permissions/shop/{user}", everything)
    return rabbitmq


async def until(reader: Broker, is_right: Callable[[Reading], object]) -> Reading:
    now = itertools.count(7.0, 10.0)  # after an answer, the reader rests for a while

    async def read() -> Reading:
        return (await reader.read([MAIL], now=next(now)))["shop/mail"]

    return await eventually_async(read, is_right, timeout=20)


@pytest.mark.timeout(120)
async def test_what_is_ready_and_what_is_unacknowledged_is_counted(server: RabbitMQServer) -> None:
    reader = connect.connect(server.url("reader", "reader-word", "shop"), management=server.management)
    other = connect.connect(server.url(virtual_host="%2Fodd"), management=server.management + "/")
    command = [str(WORKER_PYTHON), "-c", HOLDER, server.url("reader", "reader-word", "shop")]
    holder = await asyncio.create_subprocess_exec(*command)
    try:
        reading = await until(reader, lambda it: it.figures.in_flight == 2)
        assert reading.backlog == {"mail": 3, "never-declared": 0}
        assert (reading.figures.backlog, reading.figures.oldest_age_seconds) == (3, None)
        assert reading.figures.read_at >= 7.0
        assert (await other.read([MAIL], now=8.0))["shop/mail"].figures.backlog == 0, "another virtual host"
        waits = asyncio.ensure_future(reader.arrival())
        holder.kill()
        reading = await until(reader, lambda it: it.figures.in_flight == 0)
        assert reading.figures.backlog == 5, "given back"
        assert not waits.done(), "RabbitMQ announces nothing"
        waits.cancel()
    finally:
        if holder.returncode is None:
            holder.kill()
        await holder.wait()
        await reader.close()
        await other.close()


@pytest.mark.parametrize(
    ("user", "password", "virtual_host", "failure", "sentence"),
    [
        pytest.param("reader", "wrong-word", "shop", AuthenticationFailed, "wrong password", id="a wrong password"),
        pytest.param("plain", "plain-word", "shop", AuthenticationFailed, "not tagged management", id="a user's tag"),
        pytest.param("reader", "reader-word", "%2F", AuthenticationFailed, "virtual host /", id="somebody else's"),
        pytest.param("admin", "admin-word", "none", Unreachable, "no virtual host none", id="a wrong virtual host"),
    ],
)
async def test_says_why_it_gets_no_figures(
    server: RabbitMQServer, user: str, password: str, virtual_host: str, failure: type[Exception], sentence: str
) -> None:
    reader = connect.connect(server.url(user, password, virtual_host), management=server.management)
    try:
        with pytest.raises(failure, match=sentence) as said:
            await reader.read([MAIL], now=7.0)
        assert password not in str(said.value)
    finally:
        await reader.close()


async def test_a_management_api_that_is_not_there_is_unreachable(server: RabbitMQServer) -> None:
    reader = connect.connect(server.url(), management="http://127.0.0.1:1")
    try:
        with pytest.raises(Unreachable, match=r"at http://127.0.0.1:1 cannot be read"):
            await reader.read([MAIL], now=7.0)
        not_the_api = connect.connect(server.url(), management=f"http://127.0.0.1:{server.port}")
        with pytest.raises(Unreachable):
            await not_the_api.read([MAIL], now=7.0)
        await not_the_api.close()
    finally:
        await reader.close()


def test_redis_has_no_management_api() -> None:
    with pytest.raises(UnusableURL, match="only RabbitMQ has a management API"):
        connect.connect("redis://redis", management="http://redis:15672")
