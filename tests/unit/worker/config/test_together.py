"""Do the installed releases go together?"""

from __future__ import annotations

import pytest
import redis

from celeriac.config import together


def test_kombu_takes_the_redis_py_beside_it() -> None:
    assert together.refused_by_kombu() == ""


def test_what_kombu_says_against_an_older_redis_py_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "VERSION", (3, 1, 0))
    assert "Redis transport requires redis-py" in together.refused_by_kombu()
