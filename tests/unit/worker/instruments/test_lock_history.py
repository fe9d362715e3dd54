"""The checker of lock histories finds each kind of broken promise, and nothing in a good history."""

from __future__ import annotations

import pytest
from tests.chaos.worker.lock.history import Acquisition, Write, check


def held(client: str, fence: int, asked: float, had: float, until: float) -> Acquisition:
    return Acquisition(client=client, fence=fence, asked=asked, had=had, certain_until=until)


def write(client: str, fence: int, *, accepted: bool = True) -> Write:
    return Write(client=client, fence=fence, accepted=accepted)


GOOD = [held("a", 1, 0.0, 0.1, 1.0), held("b", 2, 0.5, 1.1, 2.0), held("a", 3, 1.5, 2.1, 2.2)]


@pytest.mark.parametrize(
    ("acquisitions", "writes"),
    [
        ([], []),
        (GOOD, [write("a", 1), write("b", 2), write("a", 1, accepted=False), write("a", 3)]),
        # The time of `a` was over before it let go: from then on nothing is certain.
        ([held("a", 1, 0, 0.1, 1.0), held("b", 2, 0.5, 1.2, 2.0)], [write("b", 2), write("a", 1, accepted=False)]),
        # A lock lost before it was confirmed was never held for certain.
        ([held("a", 1, 0, 5.0, 1.0), held("b", 2, 0.5, 1.2, 9.0)], []),
        # Asked for at the same time: either may be first.
        ([held("a", 2, 0.0, 1.5, 1.6), held("b", 1, 0.0, 0.5, 0.6)], []),
    ],
    ids=["nothing happened", "one after the other", "a late owner is refused", "lost at once", "asked for together"],
)
def test_a_good_history_has_no_fault(acquisitions: list[Acquisition], writes: list[Write]) -> None:
    assert check(acquisitions, writes) == []


@pytest.mark.parametrize(
    ("acquisitions", "writes", "said"),
    [
        ([held("a", 1, 0, 0.1, 1.0), held("b", 2, 0.5, 0.75, 2.0)], [], "both held the lock for 250.0 ms"),
        (
            [held("a", 1, 0, 0.1, 9.0), held("b", 2, 0.2, 9.5, 9.6), held("c", 3, 0.3, 8.0, 8.5)],
            [],
            "a (fence 1) and c (fence 3) both held",
        ),
        ([held("a", 1, 0, 0.1, 0.2), held("b", 1, 0.15, 0.3, 0.4)], [], "both given fence 1"),
        ([held("a", 5, 0, 0.1, 0.2), held("b", 4, 0.3, 0.4, 0.5)], [], "fence 4 after somebody had 5"),
        ([], [write("b", 2), write("a", 1)], "accepted a write of a with fence 1 after one with 2"),
    ],
    ids=["two at once", "one inside a longer one", "one fence twice", "a fence that fell", "a stale write"],
)
def test_a_broken_promise_is_found(acquisitions: list[Acquisition], writes: list[Write], said: str) -> None:
    (found,) = check(acquisitions, writes)
    assert said in found
