"""Keys of one thing share a Cluster slot, and no two things share a key."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from celeriac.store import keys

names = st.text(st.characters(codec="utf-8", exclude_characters="{}"), min_size=1, max_size=50)


def slot(key: str) -> int:
    return key_slot(key.encode())


@given(names)
def test_a_locks_keys_share_the_slot_of_its_name(name: str) -> None:
    for key in (keys.fence(name), keys.waiters(name), keys.inbox_prefix(name) + "t"):
        assert slot(key) == slot(name)


@given(names, names)
def test_a_lock_with_a_hash_tag_keeps_it(tag: str, rest: str) -> None:
    name = f"lock:{{{tag}}}{rest}"
    for key in (keys.fence(name), keys.waiters(name), keys.inbox_prefix(name) + "t"):
        assert slot(key) == slot(name) == slot(tag)


@given(st.text(), st.text(), st.text(), st.text())
def test_different_calls_have_different_keys(task: str, key: str, other_task: str, other_key: str) -> None:
    if (task, key) != (other_task, other_key) and f"{task}/{key}" != f"{other_task}/{other_key}":
        assert keys.throttle(task, key) != keys.throttle(other_task, other_key)
        assert keys.exclusive(task, key) != keys.exclusive(other_task, other_key)


@given(st.text(max_size=500))
def test_policy_keys_are_short_and_have_one_tag(key: str) -> None:
    made = keys.throttle("shop.tasks.notify", key)
    assert len(made) < 300
    assert made.count("{") == made.count("}") == 1


def test_a_prefix_stands_in_front() -> None:
    assert keys.held("mail", prefix="shop-") == "shop-celeriac:held:{mail}"
    assert keys.dead("mail") == "celeriac:dead:{mail}"
