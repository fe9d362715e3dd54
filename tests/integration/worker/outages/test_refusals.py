"""A Redis that answers and refuses: every error that it can reply, and what each becomes."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.integration.worker.processes import SERVER, RedisServer, eventually

from celeriac.delivery import scripts
from celeriac.delivery.values import taking
from celeriac.store import error_replies, keys
from celeriac.store.error_replies import Kind
from celeriac.store.refused import RefusedError, refusing

Arrange = Callable[[RedisServer], contextlib.AbstractContextManager[object]]


def client_of(server: RedisServer, **options: Any) -> Any:
    """A client whose connections are those of the transport."""
    pool = redis.ConnectionPool(
        connection_class=refusing(redis.Connection), host="127.0.0.1", port=server.port, socket_timeout=10, **options
    )
    return redis.Redis(connection_pool=pool)


def a_message(number: int) -> str:
    return json.dumps({"body": "", "headers": {"id": str(number)}, "properties": {"n": number, "delivery_info": {}}})


def take(client: Any, queues: list[str], first: int = 0) -> taking.Answer:
    names, args = taking.Take(
        queues=queues, lists=queues, most=8, lease_seconds=60, identity="me", first=first, is_fair=True
    ).build()
    return taking.read(scripts.TAKE.run(client, names, args))


def test_every_error_that_the_server_can_reply_is_decided_on() -> None:
    program = Path(str(shutil.which(SERVER))).read_bytes()
    known = {it.decode() for it in re.findall(rb"\0-([A-Z]{3,}) ", program)}
    assert len(known) > 20, "they are found in the program"
    assert known - set(error_replies.PREFIXES) == set()


# --- a real server brought to refuse


@contextlib.contextmanager
def too_few_replicas(server: RedisServer) -> Iterator[None]:
    server.client.config_set("min-replicas-to-write", 1)
    yield
    server.client.config_set("min-replicas-to-write", 0)


@contextlib.contextmanager
def demoted(server: RedisServer) -> Iterator[None]:
    server.client.config_set("replica-serve-stale-data", "yes")
    server.client.replicaof("127.0.0.1", 1)
    yield
    server.client.replicaof("NO", "ONE")


@contextlib.contextmanager
def demoted_and_alone(server: RedisServer) -> Iterator[None]:
    server.client.config_set("replica-serve-stale-data", "no")
    server.client.replicaof("127.0.0.1", 1)
    yield
    server.client.replicaof("NO", "ONE")


@contextlib.contextmanager
def out_of_disk(server: RedisServer) -> Iterator[None]:
    client = server.client
    (server.directory / "dump.rdb").mkdir()
    client.config_set("save", "3600 1")
    client.set("change", 1)
    client.bgsave()
    eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"], lambda it: it == "err", timeout=10)
    yield
    client.config_set("stop-writes-on-bgsave-error", "no")


@contextlib.contextmanager
def busy(server: RedisServer) -> Iterator[None]:
    server.client.config_set("busy-reply-threshold", 1)

    def spin() -> None:
        with contextlib.suppress(redis.RedisError):
            server.client.eval("while true do end", 0)

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        eventually(lambda: _says_busy(server), timeout=10)
        yield
    finally:
        server.client.script_kill()
        thread.join()


def _says_busy(server: RedisServer) -> bool:
    try:
        server.client.ping()
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


def with_rights(*rules: str) -> Arrange:
    @contextlib.contextmanager
    def arrange(server: RedisServer) -> Iterator[None]:
        server.client.execute_command("ACL", "SETUSER", "default", *rules)
        yield
        server.client.execute_command("ACL", "SETUSER", "default", "+@all", "allkeys")

    return arrange


ARRANGED: dict[str, tuple[Arrange, str]] = {
    "too few replicas": (too_few_replicas, "NOREPLICAS"),
    "a replica": (demoted, "READONLY"),
    "a replica without its primary": (demoted_and_alone, "MASTERDOWN"),
    "a full disk": (out_of_disk, "MISCONF"),
    "a script that does not end": (busy, "BUSY"),
    "a user without scripts": (with_rights("-@scripting"), "NOPERM"),
    "a user without one command": (with_rights("-hset"), "NOPERM"),
    "a user without keys": (with_rights("resetkeys"), "NOPERM"),
}


@pytest.mark.parametrize("case", ARRANGED)
def test_a_server_that_refuses_counts_as_away_and_loses_nothing(redis_server: RedisServer, case: str) -> None:
    arrange, prefix = ARRANGED[case]
    plain = redis_server.client
    client = client_of(redis_server)
    for number in range(3):
        plain.lpush("x", a_message(number))
    with arrange(redis_server):
        refused = _what_a_take_says(client)
        assert error_replies.prefix_of(refused) == prefix, refused
        assert error_replies.kind_of(refused) is not Kind.MISTAKE
    answer = take(client, ["x"], first=100)
    assert [json.loads(message)["properties"]["n"] for _, _, message in answer.taken] == [0, 1, 2]
    assert plain.hlen(keys.held("x")) == plain.zcard(keys.leases("x")) == 3


def _what_a_take_says(client: Any) -> str:
    try:
        answer = take(client, ["x"])
    except RefusedError as error:
        return str(error)
    assert answer.taken == []
    return answer.failed[0]


def test_a_server_that_loads_its_data_counts_as_away() -> None:
    """It cannot be held in that state; redis-py has a class for it, which is a lost connection."""
    assert error_replies.kind_of("LOADING Redis is loading the dataset in memory") is Kind.OUTAGE
    assert issubclass(redis.BusyLoadingError, redis.ConnectionError)


def test_no_connection_left_counts_as_away(redis_server: RedisServer) -> None:
    plain = redis_server.client
    plain.config_set("maxclients", 3)
    with contextlib.ExitStack() as stack:
        said = [_what_a_ping_says(stack.enter_context(client_of(redis_server))) for _ in range(5)]
    assert error_replies.kind_of(said[-1]) is Kind.OUTAGE, said


def _what_a_ping_says(client: Any) -> str:
    try:
        return str(client.ping())
    except (redis.ConnectionError, RefusedError) as error:
        return str(error)


def test_at_maxmemory_what_waits_is_worked_off_and_held(redis_server: RedisServer) -> None:
    plain, client = redis_server.client, client_of(redis_server)
    for number in range(3):
        plain.lpush("x", a_message(number))
    plain.config_set("maxmemory", 1)
    with pytest.raises(RefusedError, match="OOM"):
        client.lpush("x", "more")
    answer = take(client, ["x"])
    assert len(answer.taken) == 3
    assert answer.failed.keys() <= {-1}
    assert plain.hlen(keys.held("x")) == 3


# --- one queue of several


WRONG: dict[str, Callable[[str], str]] = {"list": lambda it: it, "held": keys.held, "leases": keys.leases}


@pytest.mark.parametrize("which", WRONG)
def test_a_queue_with_a_key_of_a_wrong_type_loses_nothing_and_the_others_go_on(
    redis_server: RedisServer, which: str
) -> None:
    plain, client = redis_server.client, client_of(redis_server)
    wrong = WRONG[which]("bad")
    plain.set(wrong, "of a wrong type")
    for queue in ("good", "bad", "last"):
        if queue != wrong:
            for number in range(2):
                plain.lpush(queue, a_message(number))
    answer = take(client, ["good", "bad", "last"])
    assert {queue for _, queue, _ in answer.taken} == {0, 2}
    assert len(answer.taken) == 4
    assert len({number for number, _, _ in answer.taken}) == 4
    assert answer.failed.keys() == {1}
    assert error_replies.kind_of(answer.failed[1]) is Kind.MISTAKE
    if which != "list":
        assert plain.llen("bad") == 2
        plain.delete(wrong)
        assert len(take(client, ["bad"], first=100).taken) == 2


def test_a_take_that_is_sent_twice_overwrites_nothing(redis_server: RedisServer) -> None:
    plain, client = redis_server.client, client_of(redis_server)
    for number in range(2):
        plain.lpush("x", a_message(number))
    names, args = taking.Take(queues=["x"], lists=["x"], most=1, lease_seconds=60, identity="me").build()
    assert len(taking.read(scripts.TAKE.run(client, names, args)).taken) == 1
    again = taking.read(scripts.TAKE.run(client, names, args))
    assert (again.taken, again.failed) == ([], {0: "ERR these delivery ids are in use"})
    assert plain.llen("x") + plain.hlen(keys.held("x")) == 2


def test_more_queues_than_lua_passes_to_a_function(redis_server: RedisServer) -> None:
    plain, client = redis_server.client, client_of(redis_server)
    queues = [f"q{number}" for number in range(2100)]
    lists = [f"{queue}{step}" for step in ("", "3", "6", "9") for queue in queues]
    plain.lpush(lists[-1], a_message(0))
    plain.config_set("slowlog-log-slower-than", 50_000)
    for looks in (False, True):
        names, args = taking.Take(
            queues=queues, lists=lists, most=8, lease_seconds=60, identity="me", is_fair=True, looks_first=looks
        ).build()
        answer = taking.read(scripts.TAKE.run(client, names, args))
        assert len(answer.taken) == (0 if looks else 1)
        assert answer.place == 0
