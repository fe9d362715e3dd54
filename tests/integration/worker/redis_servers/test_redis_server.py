"""The server that the other tests rely on does what they rely on."""

from __future__ import annotations

from tests.integration.worker.processes import RedisServer


def test_a_killed_redis_has_kept_every_write_that_it_answered(redis_server: RedisServer) -> None:
    redis_server.client.set("key", "value")
    redis_server.kill()
    redis_server.start()
    assert redis_server.client.get("key") == "value"


def test_a_stopped_redis_comes_back_on_the_same_port(redis_server: RedisServer) -> None:
    before = redis_server.url
    redis_server.restart()
    assert (redis_server.url, redis_server.client.ping()) == (before, True)
