"""The policies' scripts in a real Redis, against their model in Python, with random calls.

The model is what users' tests run on (`celeriac.testing`). Both get the same calls; answers and every key must be the
same after each. Times are either far away or over before the next call, so that it does not matter how fast this
machine is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from tests.integration.worker.processes import RedisServer

from celeriac.locks import scripts as lock_scripts
from celeriac.policies import scripts as policy_scripts
from celeriac.store.script import Script
from celeriac.testing.clock import Clock
from celeriac.testing.model import ModelRedis

LONG, OVER = 600_000, 1
"""Milliseconds."""

spans = st.sampled_from([LONG, OVER])
ids = st.sampled_from(["a", "b", "c"])
numbers = st.integers(1, 4)
CLAIM, COVERED, BURST, WAITING, RUNNING, QUEUE = "claim", "covered", "burst", "waiting", "running", "queue"
QUEUED, REVOKED = "queued", "revoked:"
TIMES = {"first", "due", "look", "ends"}


def rough(value: Any, now: int) -> Any:
    """An answer or a value without what a few milliseconds change: times are far away or over."""
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, str) and value.startswith(("wait ", "guard ")):
        return value.split()[0], rough(int(value.split()[1]), now)
    if isinstance(value, int) and value > LONG / 2:
        return "far" if value > now + LONG / 2 or value < 2 * LONG else "over"
    return value


class ScriptsAndModel(RuleBasedStateMachine):
    """A real Redis and the model, asked the same things."""

    client: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.clock = Clock()
        self.model = ModelRedis(self.clock)

    def ask(self, script: Script, keys: list[str], args: list[Any]) -> None:
        now = self.after_what_is_over()
        answer = script.run(self.client, keys, args)
        expected = script.run(self.model, keys, args)
        assert rough(answer, now) == rough(expected, now), script
        now = self.after_what_is_over()
        for key in (CLAIM, COVERED, QUEUED, BURST, WAITING, RUNNING, QUEUE):
            assert self.real(key, now) == self.modelled(key, now), (script, key)

    def after_what_is_over(self) -> int:
        """Wait until every short time is over; the server's time, which is the model's, too."""
        began = self.server_time()
        while self.server_time() < began + OVER + 2:
            pass
        now = self.server_time()
        self.clock.now = now / 1000
        return now

    def server_time(self) -> int:
        seconds, microseconds = self.client.time()
        return int(seconds * 1000 + microseconds // 1000)

    def real(self, key: str, now: int) -> Any:
        kind = self.client.type(key).decode()
        read = {
            "none": lambda: None,
            "string": lambda: self.client.get(key),
            "set": lambda: {it.decode() for it in self.client.smembers(key)},
            "list": lambda: [it.decode() for it in self.client.lrange(key, 0, -1)],
            "hash": lambda: {name.decode(): value.decode() for name, value in self.client.hgetall(key).items()},
        }[kind]
        return self.shape(read(), self.client.pttl(key), now)

    def modelled(self, key: str, now: int) -> Any:
        return self.shape(self.model._read(key) or None, self.model.pttl(key), now)

    def shape(self, value: Any, left: int, now: int) -> Any:
        if value is None:
            return None
        if isinstance(value, dict):
            value = {name: rough(int(it), now) if name in TIMES else it for name, it in value.items()}
        return rough(value, now), rough(left, now)

    # --- Throttle and Unique

    @rule(owner=ids, span=spans, phase=st.sampled_from(["q:", "r:"]))
    def claim(self, owner: str, span: int, phase: str) -> None:
        noted = owner if phase == "q:" else ""
        arguments = [phase + owner, span, noted, REVOKED, f"message of {owner}"]
        self.ask(policy_scripts.CLAIM, [CLAIM, QUEUED, QUEUE], arguments)

    @rule(span=st.sampled_from([0, LONG, OVER]), looks=st.booleans())
    def look(self, span: int, looks: bool) -> None:
        self.ask(policy_scripts.LOOK, [CLAIM], [span, REVOKED if looks else ""])

    @rule(owner=ids)
    def revoke(self, owner: str) -> None:
        for it in (self.client, self.model):
            it.set(REVOKED + owner, "", ex=LONG)

    @rule(owner=ids)
    def unique_abandon(self, owner: str) -> None:
        self.ask(policy_scripts.UNIQUE_ABANDON, [CLAIM, COVERED, QUEUED], [owner])

    @rule(owner=ids, phase=st.sampled_from(["q:", "r:"]))
    def forget(self, owner: str, phase: str) -> None:
        self.ask(policy_scripts.FORGET, [CLAIM], [phase + owner])

    @rule(owner=ids, span=spans)
    def renew(self, owner: str, span: int) -> None:
        self.ask(policy_scripts.RENEW, [CLAIM], [f"r:{owner}", span])

    @rule(owner=ids, span=spans, how=st.sampled_from(["add", "set"]))
    def extend(self, owner: str, span: int, how: str) -> None:
        self.ask(lock_scripts.EXTEND, [CLAIM], [f"q:{owner}", span, how])

    @rule(owner=ids, span=spans)
    def hold(self, owner: str, span: int) -> None:
        self.ask(policy_scripts.HOLD, [CLAIM], [f"q:{owner}", span, f"q:{owner}", f"r:{owner}"])

    @rule(owner=ids, span=st.sampled_from([LONG, OVER, 0]))
    def start(self, owner: str, span: int) -> None:
        self.ask(policy_scripts.UNIQUE_START, [CLAIM, COVERED, QUEUED], [owner, span, REVOKED])

    # --- Debounce

    @rule(
        burst=ids,
        own=ids,
        quiet=spans,
        longest=st.sampled_from([0, LONG, OVER]),
        number=numbers,
        has_waker=st.booleans(),
    )
    def debounce(self, *, burst: str, own: str, quiet: int, longest: int, number: int, has_waker: bool) -> None:
        waker = f"waker {number}" if has_waker else ""
        arguments = [burst, quiet, longest, QUEUE, f"call {number}", f"token {number}", waker, OVER, own, REVOKED]
        self.ask(policy_scripts.DEBOUNCE, [BURST, QUEUE], arguments)

    @rule(number=numbers)
    def fire(self, number: int) -> None:
        self.ask(policy_scripts.FIRE, [BURST], [f"token {number}", OVER])

    # --- Coalesce

    @rule(
        owner=ids,
        own=ids,
        number=numbers,
        patience=spans,
        has_guard=st.booleans(),
        life=st.sampled_from([0, LONG, OVER]),
    )
    def coalesce(self, *, owner: str, own: str, number: int, patience: int, has_guard: bool, life: int) -> None:
        guard = f"guard {number}" if has_guard else ""
        arguments = [owner, f"coalesce:{number}", f"call {number}", patience, f"guard:{number}", guard, LONG]
        arguments += [own, life, REVOKED]
        self.ask(policy_scripts.COALESCE, [WAITING, RUNNING, QUEUE], arguments)

    @rule(owner=ids, kind=st.sampled_from(["coalesce", "guard"]), number=numbers, span=spans)
    def coalesce_start(self, owner: str, kind: str, number: int, span: int) -> None:
        self.ask(
            policy_scripts.COALESCE_START, [WAITING, RUNNING], [f"{kind}:{number} {owner}", f"{kind}:{number}", span]
        )

    @rule(owner=ids, number=numbers)
    def coalesce_end(self, owner: str, number: int) -> None:
        self.ask(policy_scripts.COALESCE_END, [WAITING, RUNNING], [f"coalesce:{number} {owner}"])

    @rule(owner=ids, kind=st.sampled_from(["coalesce", "guard"]), number=numbers, is_expired=st.booleans())
    def coalesce_abandon(self, owner: str, kind: str, number: int, is_expired: bool) -> None:
        mark = f"{kind}:{number}"
        arguments = [f"{mark} {owner}", mark, owner, "1" if is_expired else ""]
        self.ask(policy_scripts.COALESCE_ABANDON, [WAITING, RUNNING], arguments)


@pytest.fixture
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    server = RedisServer(tmp_path_factory.mktemp("redis"), appendonly="no").start()
    with redis.Redis.from_url(server.url) as it:
        yield it
    server.kill()


def test_the_scripts_do_what_their_model_does(client: Any) -> None:
    machine = type("Machine", (ScriptsAndModel,), {"client": client})
    unhurried = settings(max_examples=30, stateful_step_count=25, deadline=None, database=None, print_blob=True)
    run_state_machine_as_test(machine, settings=settings(unhurried, suppress_health_check=list(HealthCheck)))


def test_every_script_of_the_policies_has_a_model() -> None:
    made = {it.sha for it in vars(policy_scripts).values() if isinstance(it, Script)}
    assert made <= set(ModelRedis.scripts())
