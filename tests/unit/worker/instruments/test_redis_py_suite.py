"""What is said of redis-py's own tests of its lock: which may fail, and how many must have run."""

from __future__ import annotations

import pytest
from tests.integration.worker.locks.redis_py import __main__ as suite

ALL = dict.fromkeys((f"test_{number}" for number in range(suite.FEWEST)), True)
FAKE = dict.fromkeys(suite.FAKE_THE_CLOCK, False)


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ({**ALL, **FAKE}, []),
        (ALL, []),
        ({**ALL, "test_more": False}, ["test_more failed"]),
        (FAKE, ["only 0 tests passed, not 30 or more"]),
        ({}, ["only 0 tests passed, not 30 or more"]),
    ],
    ids=["as it was", "without those that fake the clock", "another one fails", "none passes", "none found"],
)
def test_only_the_tests_that_fake_the_clock_may_fail(found: dict[str, bool], wrong: list[str]) -> None:
    assert suite.verdict(found) == wrong


def test_the_lock_pins_a_version_with_its_hashes() -> None:
    first, *hashes = suite.pinned(suite.LOCK.read_text()).splitlines()
    assert first.startswith("redis==")
    assert hashes
    assert all(it.strip().startswith("--hash=sha256:") for it in hashes)
