"""celeriac.Lock against a real Redis: redis-py's behaviour, then what redis-py's lock does not promise."""

from __future__ import annotations

import datetime as dt
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.crc import key_slot
from redis.exceptions import LockError, LockNotOwnedError
from tests.integration.worker.processes import RedisServer
from tests.waiting import eventually

from celeriac.locks import inbox, scripts
from celeriac.locks.lock import Lock, LockLostError
from celeriac.store import keys


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server.url) as it:
        yield it


def waiting(client: Any, name: str) -> int:
    return int(client.llen(keys.waiters(name)))


def in_thread(action: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


# --- as redis-py


def test_a_free_lock_is_taken_and_let_go(client: Any) -> None:
    lock = Lock(client, "x", timeout=10)
    assert lock.acquire(blocking=False)
    assert lock.owned()
    assert lock.locked()
    assert client.get("x") == lock.local.token
    assert 9_000 < client.pttl("x") <= 10_000
    lock.release()
    assert not lock.owned()
    assert not client.exists("x")


def test_a_lock_without_timeout_never_ends(client: Any) -> None:
    lock = Lock(client, "x")
    assert lock.acquire()
    assert client.ttl("x") == -1
    lock.release()


def test_an_owned_lock_is_not_given_to_another(client: Any) -> None:
    first, second = Lock(client, "x"), Lock(client, "x")
    assert first.acquire(blocking=False)
    assert not second.acquire(blocking=False)
    assert not second.owned()
    first.release()
    assert second.acquire(blocking=False)


def test_the_token_may_be_chosen(client: Any) -> None:
    lock = Lock(client, "x")
    assert lock.acquire(token="mine")
    assert client.get("x") == b"mine"


def test_a_decoding_client_works_the_same(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        lock = Lock(client, "x", timeout=5)
        assert lock.acquire()
        assert lock.owned()
        assert not Lock(client, "x").acquire(blocking_timeout=0.05)
        lock.release()


@pytest.mark.alone
def test_waiting_ends_after_the_time_given(client: Any) -> None:
    Lock(client, "x", timeout=30).acquire()
    started = time.monotonic()
    assert not Lock(client, "x", blocking_timeout=0.2).acquire()
    assert 0.19 < time.monotonic() - started < 1
    assert waiting(client, "x") == 0


def test_a_with_block_holds_the_lock(client: Any) -> None:
    with Lock(client, "x", timeout=5) as lock:
        assert lock.owned()
    assert not client.exists("x")


def test_a_with_block_that_gets_no_lock_raises(client: Any) -> None:
    Lock(client, "x", timeout=30).acquire()
    with pytest.raises(LockError, match="Unable to acquire"), Lock(client, "x", blocking_timeout=0.05):
        pytest.fail("the block must not run")


def test_releasing_twice_raises(client: Any) -> None:
    lock = Lock(client, "x")
    lock.acquire()
    lock.release()
    with pytest.raises(LockError):
        lock.release()


def test_releasing_a_lost_lock_raises_and_leaves_the_new_owner_alone(client: Any) -> None:
    lock = Lock(client, "x", timeout=10)
    lock.acquire()
    client.set("x", "somebody-else")
    with pytest.raises(LockNotOwnedError) as raised:
        lock.release()
    assert isinstance(raised.value, LockLostError)
    assert client.get("x") == b"somebody-else"


def test_leaving_a_block_may_forgive_a_lost_lock(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    with Lock(client, "x", timeout=10, raise_on_release_error=False):
        client.delete("x")
    assert "no longer owned" in caplog.text


def test_another_thread_does_not_own_a_thread_local_lock(client: Any) -> None:
    lock = Lock(client, "x")
    lock.acquire()
    owned: list[bool] = []
    in_thread(lambda: owned.append(lock.owned())).join()
    assert owned == [False]


def test_a_shared_lock_is_owned_in_every_thread(client: Any) -> None:
    lock = Lock(client, "x", thread_local=False)
    lock.acquire()
    in_thread(lock.release).join()
    assert not client.exists("x")


def test_extending_adds_time_or_sets_it(client: Any) -> None:
    lock = Lock(client, "x", timeout=10)
    lock.acquire()
    assert lock.extend(10)
    assert 19_000 < client.pttl("x") <= 20_000
    assert lock.extend(5, replace_ttl=True)
    assert 4_000 < client.pttl("x") <= 5_000
    assert lock.reacquire()
    assert 9_000 < client.pttl("x") <= 10_000


def test_extending_what_is_not_held_raises(client: Any) -> None:
    lock = Lock(client, "x", timeout=10)
    with pytest.raises(LockError):
        lock.extend(1)
    lock.acquire()
    client.set("x", "somebody-else", px=10_000)
    with pytest.raises(LockNotOwnedError):
        lock.extend(1)
    assert client.get("x") == b"somebody-else"
    endless = Lock(client, "y")
    endless.acquire()
    with pytest.raises(LockError):
        endless.extend(1)


# --- fences


def test_each_acquisition_gets_a_greater_fence(client: Any) -> None:
    lock = Lock(client, "x", timeout=5)
    fences = []
    for _ in range(5):
        with lock:
            fences.append(lock.fence)
    assert lock.fence is None
    assert fences == sorted(set(fences))


def test_fences_grow_also_when_redis_has_lost_everything(client: Any) -> None:
    lock = Lock(client, "x", timeout=5)
    lock.acquire()
    before = lock.fence
    client.flushall()
    other = Lock(client, "x", timeout=5)
    other.acquire()
    assert before is not None
    assert other.fence is not None
    assert other.fence > before


def test_a_handed_over_lock_has_a_greater_fence_and_the_waiters_timeout(client: Any) -> None:
    first, second = Lock(client, "x", timeout=30), Lock(client, "x", timeout=20, thread_local=False)
    first.acquire()
    before = first.fence or 0
    thread = in_thread(second.acquire)
    eventually(lambda: waiting(client, "x") == 1)
    first.release()
    thread.join(5)
    assert (second.fence or 0) > before
    assert 19_000 < client.pttl("x") <= 20_000
    second.release()


# --- the line


def test_waiters_are_served_in_the_order_of_arrival(client: Any) -> None:
    owner = Lock(client, "x", timeout=30)
    owner.acquire()
    served: list[int] = []

    def wait(number: int) -> None:
        with Lock(client, "x", timeout=30):
            served.append(number)

    threads = []
    for number in range(8):
        threads.append(in_thread(lambda number=number: wait(number)))
        eventually(lambda number=number: waiting(client, "x") == number + 1)
    owner.release()
    for thread in threads:
        thread.join(5)
    assert served == list(range(8))
    assert not client.exists("x")


def test_waiters_do_not_poll(client: Any) -> None:
    owner = Lock(client, "x", timeout=30)
    owner.acquire()
    threads = [in_thread(lambda: Lock(client, "x", timeout=30, blocking_timeout=1.5).acquire()) for _ in range(5)]
    eventually(lambda: waiting(client, "x") == 5)
    eventually(lambda: client.info("clients")["blocked_clients"] == 5)
    before = client.info("stats")["total_commands_processed"]
    time.sleep(0.4)  # the time itself is tested
    # This question, and what the first in the line asks once a second, in case the lock was deleted by hand.
    assert client.info("stats")["total_commands_processed"] - before <= 3
    for thread in threads:
        thread.join(5)


@pytest.mark.alone
def test_a_lock_that_expires_goes_to_a_waiter(client: Any) -> None:
    Lock(client, "x", timeout=0.3).acquire()
    started = time.monotonic()
    assert Lock(client, "x", timeout=5).acquire(blocking_timeout=5)
    assert time.monotonic() - started < 1


def test_a_waiter_that_gave_up_is_not_handed_the_lock(client: Any) -> None:
    owner = Lock(client, "x", timeout=30)
    owner.acquire()
    assert not Lock(client, "x", timeout=30).acquire(blocking_timeout=0.1)
    owner.release()
    assert not client.exists("x")


WAITER = """
import sys, redis
from celeriac.locks.lock import Lock
client = redis.Redis.from_url(sys.argv[1])
Lock(client, "x", timeout=int(sys.argv[2]) or None).acquire()
print("acquired", flush=True)
sys.stdin.read()
"""


def start_waiter(server: RedisServer, timeout: int = 30) -> subprocess.Popen[bytes]:
    code = textwrap.dedent(WAITER)
    return subprocess.Popen(
        [sys.executable, "-c", code, server.url, str(timeout)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_a_killed_owner_keeps_the_lock_only_for_its_timeout(client: Any, redis_server: RedisServer) -> None:
    with start_waiter(redis_server, timeout=1) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"acquired\n"
        os.kill(owner.pid, signal.SIGKILL)
        assert Lock(client, "x", timeout=5).acquire(blocking_timeout=5)


@pytest.mark.alone
@pytest.mark.parametrize("timeout", [30, 0], ids=["with a timeout", "without one"])
def test_a_killed_waiter_does_not_keep_the_lock(client: Any, redis_server: RedisServer, timeout: int) -> None:
    owner = Lock(client, "x", timeout=30)
    owner.acquire()
    with start_waiter(redis_server, timeout) as dead:
        eventually(lambda: waiting(client, "x") == 1)
        os.kill(dead.pid, signal.SIGKILL)
        dead.wait(5)
        eventually(lambda: client.info("clients")["blocked_clients"] == 0)
    owner.release()
    started = time.monotonic()
    assert Lock(client, "x", timeout=5).acquire(blocking_timeout=15)
    assert time.monotonic() - started < 12


@pytest.mark.parametrize("blocking", [False, True])
def test_a_lock_that_ran_out_before_its_answer_was_read_is_not_taken_for_held(
    client: Any, monkeypatch: pytest.MonkeyPatch, blocking: bool
) -> None:
    """As when the process is stopped in the middle of the question."""
    ask, slow = scripts.ACQUIRE.run, iter((True,))

    def run(*arguments: Any) -> Any:
        answer = ask(*arguments)
        if next(slow, False):
            eventually(lambda: not client.exists("x"), what="it has run out")
        return answer

    monkeypatch.setattr(scripts, "ACQUIRE", SimpleNamespace(run=run))
    lock = Lock(client, "x", timeout=0.3)
    assert lock.acquire(blocking=blocking)
    assert lock.owned()
    assert lock.fence == int(client.get(keys.fence("x")))


def test_a_lock_that_went_to_another_before_its_answer_was_read_is_not_taken_for_held(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Lock(client, "x")
    ask, slow = scripts.ACQUIRE.run, iter((True,))

    def run(*arguments: Any) -> Any:
        answer = ask(*arguments)
        if next(slow, False):
            eventually(lambda: not client.exists("x"), what="it has run out")
            assert other.acquire(blocking=False)
        return answer

    monkeypatch.setattr(scripts, "ACQUIRE", SimpleNamespace(run=run))
    assert not Lock(client, "x", timeout=0.3).acquire(blocking=False)
    assert other.owned()


def test_a_hand_over_that_ran_out_before_it_was_read_is_not_taken_for_held(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pop = inbox.pop

    def late(*arguments: Any) -> Any:
        handed = pop(*arguments)
        eventually(lambda: not client.exists("x"), what="it has run out")
        return handed

    owner = Lock(client, "x")
    assert owner.acquire()
    monkeypatch.setattr(inbox, "pop", late)
    waiter = Lock(client, "x", timeout=0.3, thread_local=False)
    thread = in_thread(waiter.acquire)
    eventually(lambda: waiting(client, "x") == 1, what="the other one waits")
    owner.release()
    thread.join(10)
    assert waiter.owned()


def test_many_processes_never_hold_it_together(client: Any) -> None:
    inside, most, total = 0, 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most, total
        for _ in range(25):
            with Lock(client, "x", timeout=10):
                with guard:
                    inside += 1
                    most = max(most, inside)
                    total += 1
                with guard:
                    inside -= 1

    threads = [in_thread(work) for _ in range(8)]
    for thread in threads:
        thread.join(20)
    assert (most, total) == (1, 200)


# --- renewal


def test_a_renewed_lock_outlives_its_timeout(client: Any) -> None:
    with Lock(client, "x", timeout=2, renew=True) as lock:
        time.sleep(3)  # the time itself is tested
        assert lock.owned()
        lock.check()
    assert not client.exists("x")


def test_a_lost_lock_is_said_loudly(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    lock = Lock(client, "x", timeout=0.3, renew=True)
    lock.acquire()
    client.set("x", "somebody-else")
    assert lock.lost.wait(2)
    with pytest.raises(LockLostError):
        lock.check()
    assert "lost lock x" in caplog.text
    with pytest.raises(LockLostError):
        lock.release()
    assert client.get("x") == b"somebody-else"


def end_of_thread(client: Any) -> None:
    """Acquire in a thread that ends; the object itself stays."""
    lock = Lock(client, "x", timeout=0.4, renew=True)
    in_thread(lock.acquire).join()
    kept.append(lock)


def end_of_object(client: Any) -> None:
    assert Lock(client, "x", timeout=0.4, renew=True).acquire()


def end_of_shared_object(client: Any) -> None:
    lock = Lock(client, "x", timeout=0.4, renew=True, thread_local=False)
    in_thread(lock.acquire).join()


def end_of_object_in_a_circle(client: Any) -> None:
    circle: dict[str, Any] = {"lock": Lock(client, "x", timeout=0.4, renew=True)}
    circle["self"] = circle
    circle["lock"].acquire()


kept: list[Lock] = []


@pytest.mark.parametrize(
    "leave", [end_of_thread, end_of_object, end_of_shared_object, end_of_object_in_a_circle], ids=lambda it: it.__name__
)
def test_a_lock_that_nobody_has_any_more_is_not_renewed(
    client: Any, leave: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    leave(client)
    gc.collect()
    eventually(lambda: "is not renewed any more" in caplog.text, timeout=20)
    eventually(lambda: not client.exists("x"), timeout=20)


def test_a_shared_lock_is_renewed_after_the_thread_that_acquired_it_has_ended(client: Any) -> None:
    lock = Lock(client, "x", timeout=0.6, renew=True, thread_local=False)
    in_thread(lock.acquire).join()
    time.sleep(1.5)  # the time itself is tested
    assert lock.owned()
    lock.release()


def test_the_release_of_one_thread_does_not_stop_the_renewal_of_another(client: Any) -> None:
    lock = Lock(client, "x", timeout=0.6, renew=True)
    lock.acquire()
    client.delete("x")  # lost, and acquired by another thread with the same object
    acquired, done = threading.Event(), threading.Event()
    owned: list[bool] = []

    def work() -> None:
        lock.acquire()
        acquired.set()
        done.wait(20)
        owned.append(lock.owned())

    other = in_thread(work)
    assert acquired.wait(10)
    with pytest.raises(LockLostError):
        lock.release()
    time.sleep(1.5)  # the time itself is tested
    done.set()
    other.join(10)
    assert owned == [True]


@pytest.mark.alone
@pytest.mark.parametrize("timeout", [None, 60])
def test_a_lock_that_was_deleted_by_hand_goes_to_the_first_waiter_within_a_second(
    client: Any, timeout: float | None
) -> None:
    Lock(client, "x", timeout=timeout).acquire()
    served: list[int] = []

    def wait(number: int) -> None:
        with Lock(client, "x", timeout=timeout):
            served.append(number)

    threads = []
    for number in range(3):
        threads.append(in_thread(lambda number=number: wait(number)))
        eventually(lambda number=number: waiting(client, "x") == number + 1)
    client.delete("x")
    began = time.monotonic()
    eventually(lambda: served, lambda it: it == [0, 1, 2], timeout=20)
    assert time.monotonic() - began < 1.5


def test_renewing_stops_after_the_longest_hold(client: Any) -> None:
    lock = Lock(client, "x", timeout=0.3, renew=True, max_hold=0.5)
    lock.acquire()
    assert lock.lost.wait(3)
    eventually(lambda: not client.exists("x"))


def test_a_redis_that_is_away_loses_the_lock_after_its_timeout(
    client: Any, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    lock = Lock(client, "x", timeout=0.5, renew=True)
    lock.acquire()
    redis_server.kill()
    assert lock.lost.wait(5)
    assert "could not be renewed" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"renew": True}, "renew needs a timeout"),
        ({"timeout": 5, "max_hold": 5}, "max_hold needs renew"),
        ({"timeout": 0}, "at least a millisecond"),
    ],
    ids=["renewal without a timeout", "longest hold without renewal", "no time at all"],
)
def test_arguments_that_make_no_sense_are_refused(client: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lock(client, "x", **arguments)


@pytest.mark.parametrize(
    ("client", "message"),
    [
        (redis.asyncio.Redis(), "needs a synchronous client, such as redis.Redis.*; redis.asyncio.client.Redis is"),
        (redis.asyncio.RedisCluster("127.0.0.1"), "needs a synchronous client"),
        ("redis://localhost", "needs a client of redis-py, such as redis.Redis.*; builtins.str is not one"),
        (None, "needs a client of redis-py"),
    ],
    ids=["asyncio", "an asyncio Cluster", "a URL", "nothing"],
)
def test_what_is_not_a_synchronous_client_is_refused_with_a_sentence(client: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Lock(client, "x")


@pytest.mark.parametrize("option", ["timeout", "blocking_timeout", "max_hold"])
@pytest.mark.parametrize("value", ["30", dt.timedelta(seconds=30), (1, 2)], ids=repr)
def test_times_that_are_not_numbers_are_refused_with_a_sentence(client: Any, option: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{option} is .*: it must be a number of seconds"):
        Lock(client, "x", **{"timeout": 5, "renew": True, option: value})


@pytest.mark.parametrize("name", ["plain", "lock:{42}", "with space", "käse"])
def test_all_keys_of_a_lock_share_a_slot(name: str) -> None:
    names = [name, keys.fence(name), keys.waiters(name), keys.inbox_prefix(name) + "token"]
    assert len({key_slot(it.encode()) for it in names}) == 1
