"""What redis-py's own lock does, asked of its class and of celeriac.Lock: the first says what is right.

The cases are the behaviours that redis-py's own tests of its lock check. Two of those are left out, since they replace
the clock of redis-py's module: a wait that polls, and a `sleep` that is longer than the wait.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.lock
from redis.exceptions import LockError, LockNotOwnedError
from tests.integration.worker.processes import RedisServer

import celeriac

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    it = RedisServer(tmp_path_factory.mktemp("redis"), appendonly="no").start()
    yield it
    it.kill()


@pytest.fixture
def client(server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(server.url) as it:
        it.flushall()
        yield it


@pytest.fixture(params=[redis.lock.Lock, celeriac.Lock], ids=["redis-py", "celeriac"])
def make(request: pytest.FixtureRequest, client: Any) -> Make:
    """Make a lock called foo."""
    return lambda *args, **options: client.lock("foo", *args, lock_class=request.param, **options)


def test_a_lock_stores_its_token_and_never_expires_without_a_timeout(client: Any, make: Make) -> None:
    lock = make()
    assert lock.acquire(blocking=False)
    assert client.get("foo") == lock.local.token
    assert client.ttl("foo") == -1
    lock.release()
    assert client.get("foo") is None


@pytest.mark.parametrize("token", ["test", b"test", "käse", b"\xff\x00("], ids=["text", "bytes", "umlaut", "binary"])
def test_a_chosen_token_is_kept_as_bytes_and_forgotten_at_the_release(client: Any, make: Make, token: Any) -> None:
    lock = make()
    assert lock.acquire(blocking=False, token=token)
    assert client.get("foo") == lock.local.token == (token.encode() if isinstance(token, str) else token)
    assert lock.owned()
    lock.release()
    assert client.get("foo") is None
    assert lock.local.token is None


@pytest.mark.parametrize(
    "name",
    [b"foo", b"\xff(", "käse", memoryview(b"foo"), "a{b}"],
    ids=["bytes", "binary", "umlaut", "a view", "a hash tag"],
)
def test_a_name_is_what_the_client_sends_for_it(client: Any, name: Any) -> None:
    locks = [client.lock(name, lock_class=it, timeout=9) for it in (redis.lock.Lock, celeriac.Lock)]
    for first, second in (locks, reversed(locks)):
        assert first.acquire(blocking=False)
        assert not second.acquire(blocking=False)
        assert second.locked()
        assert not second.owned()
        first.release()


def test_locked_is_true_while_anybody_holds_the_lock(make: Make) -> None:
    first, second = make(), make()
    assert not first.locked()
    first.acquire(blocking=False)
    assert first.locked()
    assert second.locked()
    first.release()
    assert not second.locked()


def test_owned_is_true_for_the_owner_only(make: Make) -> None:
    first, second = make(), make()
    assert not first.owned()
    first.acquire(blocking=False)
    assert first.owned()
    assert not second.owned()
    first.release()
    second.acquire(blocking=False)
    assert not first.owned()
    assert second.owned()


def test_owned_is_true_also_where_the_client_decodes_replies(server: RedisServer, make: Make) -> None:
    kind = type(make())
    with redis.Redis.from_url(server.url, decode_responses=True) as decoding:
        lock = kind(decoding, "foo")
        lock.acquire(blocking=False)
        assert lock.owned()
        lock.release()


def test_of_two_locks_one_is_acquired_at_a_time(make: Make) -> None:
    first, second = make(), make()
    assert first.acquire(blocking=False)
    assert not second.acquire(blocking=False)
    first.release()
    assert second.acquire(blocking=False)
    assert not first.acquire(blocking=False)


@pytest.mark.parametrize("timeout", [10, 9.5])
def test_a_lock_expires_after_its_timeout(client: Any, make: Make, timeout: float) -> None:
    assert make(timeout=timeout).acquire(blocking=False)
    assert 8000 < client.pttl("foo") <= timeout * 1000


def test_blocking_is_an_option_of_the_lock_and_of_the_call(make: Make) -> None:
    assert make().blocking
    assert not make(blocking=False).blocking
    assert make().acquire()
    assert not make(blocking=False).acquire()
    assert not make().acquire(blocking=False)


@pytest.mark.parametrize("where", ["lock", "call"])
def test_a_wait_ends_after_the_blocking_timeout(make: Make, where: str) -> None:
    make().acquire()
    started = time.monotonic()
    if where == "lock":
        assert not make(blocking_timeout=0.3, sleep=0.05).acquire()
    else:
        assert not make(sleep=0.05).acquire(blocking_timeout=0.3)
    assert time.monotonic() - started >= 0.2


def test_a_with_block_holds_the_lock(client: Any, make: Make) -> None:
    with make(blocking_timeout=0.2) as lock:
        assert client.get("foo") == lock.local.token
    assert client.get("foo") is None


def test_a_with_block_whose_lock_is_not_acquired_raises(client: Any, make: Make) -> None:
    client.set("foo", "bar")
    with pytest.raises(LockError), make(blocking_timeout=0.1):
        pytest.fail("the block must not run")


def test_a_with_block_whose_lock_was_lost_raises_at_its_end(client: Any, make: Make) -> None:
    with pytest.raises(LockNotOwnedError), make(timeout=10):
        client.set("foo", "a")


@pytest.mark.parametrize("how", ["lost", "released"])
def test_a_with_block_may_forgive_what_fails_at_its_end(client: Any, make: Make, how: str) -> None:
    with make(timeout=10, raise_on_release_error=False) as lock:
        client.set("foo", "a") if how == "lost" else lock.release()


def test_releasing_a_lock_that_was_not_acquired_raises(make: Make) -> None:
    with pytest.raises(LockError):
        make().release()


def test_releasing_a_lost_lock_raises_and_forgets_the_token(client: Any, make: Make) -> None:
    lock = make()
    lock.acquire(blocking=False)
    client.set("foo", "a")
    with pytest.raises(LockNotOwnedError):
        lock.release()
    assert lock.local.token is None


@pytest.mark.parametrize("seconds", [10, 10.0])
def test_extending_adds_to_the_time_that_is_left(client: Any, make: Make, seconds: float) -> None:
    lock = make(timeout=10)
    lock.acquire(blocking=False)
    assert lock.extend(seconds)
    assert 16000 < client.pttl("foo") <= 20000


def test_extending_may_replace_the_time_that_is_left(client: Any, make: Make) -> None:
    lock = make(timeout=10)
    lock.acquire(blocking=False)
    assert lock.extend(5, replace_ttl=True)
    assert 3000 < client.pttl("foo") <= 5000


def test_reacquiring_begins_the_timeout_anew(client: Any, make: Make) -> None:
    lock = make(timeout=10)
    lock.acquire(blocking=False)
    client.pexpire("foo", 5000)
    assert lock.reacquire()
    assert 8000 < client.pttl("foo") <= 10000


PROLONG: dict[str, Callable[[Any], Any]] = {"extend": lambda it: it.extend(10), "reacquire": lambda it: it.reacquire()}
prolonging = pytest.mark.parametrize("prolong", PROLONG.values(), ids=PROLONG)


@prolonging
def test_prolonging_a_lock_that_was_not_acquired_raises(make: Make, prolong: Callable[[Any], Any]) -> None:
    with pytest.raises(LockError):
        prolong(make(timeout=10))


@prolonging
@pytest.mark.parametrize("in_block", [False, True])
def test_prolonging_a_lock_without_a_timeout_raises(
    make: Make, prolong: Callable[[Any], Any], *, in_block: bool
) -> None:
    lock = make()
    if in_block:
        with lock, pytest.raises(LockError):
            prolong(lock)
    else:
        lock.acquire(blocking=False)
        with pytest.raises(LockError):
            prolong(lock)


@prolonging
def test_prolonging_a_lost_lock_raises(client: Any, make: Make, prolong: Callable[[Any], Any]) -> None:
    lock = make(timeout=10)
    lock.acquire(blocking=False)
    client.set("foo", "a")
    with pytest.raises(LockNotOwnedError):
        prolong(lock)


@pytest.mark.parametrize("name", ["foo", b"foo"])
@pytest.mark.parametrize("fail", ["release", "extend"])
def test_an_error_names_the_lock(client: Any, make: Make, fail: str, name: Any) -> None:
    lock = type(make())(client, name, timeout=10)
    with pytest.raises(LockError) as raised:
        lock.release() if fail == "release" else lock.extend(10)
    assert raised.value.lock_name == name  # type: ignore[comparison-overlap]  # redis-py types it as text


def test_another_thread_has_no_token_unless_the_lock_is_shared(make: Make) -> None:
    for is_local in (True, False):
        lock = make(thread_local=is_local)
        lock.acquire(blocking=False)
        seen: list[Any] = []
        look = lambda lock=lock, seen=seen: seen.append(getattr(lock.local, "token", None))  # noqa: E731 - one line
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        assert seen == [None if is_local else lock.local.token]
        lock.release()


def test_a_client_makes_locks_of_the_class_that_it_is_given(client: Any) -> None:
    assert type(client.lock("foo", lock_class=celeriac.Lock)) is celeriac.Lock
