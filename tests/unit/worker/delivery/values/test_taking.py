"""What the script that takes messages is given, and what it answers."""

from __future__ import annotations

from celeriac.delivery.values import taking
from celeriac.store import keys


def test_a_queue_that_is_only_settled_in_comes_after_those_that_are_consumed() -> None:
    names, args = taking.Take(
        queues=["b", "a"],
        lists=["b", "a"],
        settle=[("id:1", "a"), ("id:2", "z")],
        most=3,
        lease_seconds=1.5,
        identity="me",
        first=7,
    ).build()
    held = [name for queue in ("b", "a", "z") for name in (keys.held(queue), keys.leases(queue))]
    assert names == [*held, keys.line("a"), "b", "a"]
    assert args == [2, 1, 3, 1500, "me:", 7, "strict", "take", 2, 2, "id:1", 3, "id:2"]


def test_the_transports_prefix_stands_before_every_key_of_this_library() -> None:
    names, _ = taking.Take(queues=["a"], lists=["shop-a"], prefix="shop-").build()
    assert names == ["shop-celeriac:held:{a}", "shop-celeriac:leases:{a}", "shop-celeriac:line:{a}", "shop-a"]


def test_an_answer_is_read_whatever_the_client_decodes() -> None:
    answer = taking.read([0, [b"id:1", "id:2"], [1, b"WRONGTYPE", -1, "NOPERM"], 1, 1, b"second", 0, 0, b"first"])
    assert answer == taking.Answer(
        place=None,
        lost=["id:1", "id:2"],
        taken=[(0, 0, b"first"), (1, 1, b"second")],
        failed={1: "WRONGTYPE", -1: "NOPERM"},
    )


def test_the_place_in_the_line_is_known_when_everything_was_empty() -> None:
    assert taking.read([3, [], []]) == taking.Answer(place=2, lost=[], taken=[])
