from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from celeriac.hooks.reaper import INLINE_PATIENCE_SECONDS, PATIENCE_SECONDS, Reaper, choose, zombies_of


@pytest.mark.parametrize(
    ("zombies", "pool", "seen", "reaped"),
    [
        pytest.param([7], [], {7: 0.0}, {7}, id="an orphan that has been dead for long"),
        pytest.param([7], [], {7: 50.0}, set(), id="one that has died just now"),
        pytest.param([7], [], {}, set(), id="one that nobody has seen before"),
        pytest.param([7], [7], {7: 0.0}, set(), id="one of the pool's own, which the pool asks for"),
    ],
)
def test_which_zombies_are_reaped(
    zombies: list[int], pool: list[int], seen: dict[int, float], reaped: set[int]
) -> None:
    assert choose(zombies, pool, seen, now=100.0, patience_seconds=60) == reaped


def test_a_zombie_is_reaped_after_the_patience_and_not_before() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 10
    while child.pid not in zombies_of(os.getpid()):
        assert time.monotonic() < deadline
    prefork = Reaper(list)
    assert prefork.run_once(now=0) == set()
    assert child.pid not in Reaper(lambda: None).run_once(now=0)
    assert prefork.run_once(now=PATIENCE_SECONDS - 1) == set()
    assert child.pid in prefork.run_once(now=PATIENCE_SECONDS)
    assert child.pid not in zombies_of(os.getpid())
    assert INLINE_PATIENCE_SECONDS > PATIENCE_SECONDS
    child.wait()


def test_nobody_but_process_one_buries_anybody() -> None:
    before = os.listdir(f"/proc/{os.getpid()}/task")  # noqa: PTH208 - names are enough
    Reaper(list).start()
    assert os.listdir(f"/proc/{os.getpid()}/task") == before  # noqa: PTH208 - names are enough
