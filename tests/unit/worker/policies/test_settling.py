"""A call that a policy puts back exists in one message only: what happens when the next one cannot be published?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import Reject
from kombu.exceptions import OperationalError

from celeriac.policies import settling


def task_that_raises(*errors: BaseException) -> Any:
    """A task whose call is published after these errors, in this order."""
    left = list(errors)

    def apply_async() -> None:
        if left:
            raise left.pop(0)

    return SimpleNamespace(
        name="shop.send",
        request=SimpleNamespace(id="5", headers={}, retries=0),
        signature_from_request=lambda *_, **__: SimpleNamespace(apply_async=apply_async),
        left=left,
    )


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling.time, "sleep", lambda _: None)


@pytest.mark.parametrize(
    "error",
    [AttributeError("'NoneType' object has no attribute 'client'"), RuntimeError("x"), TypeError("x"), KeyError("x")],
    ids=lambda it: type(it).__name__,
)
def test_a_call_that_cannot_be_put_back_is_given_back_and_does_not_fail(error: Exception) -> None:
    """kombu raises some of these when its connection breaks at the wrong moment."""
    with pytest.raises(Reject) as raised:
        settling.put_back(task_that_raises(error), "another run is under way")
    assert raised.value.requeue


def test_a_call_is_put_back_as_soon_as_redis_answers() -> None:
    task = task_that_raises(OperationalError("away"), OperationalError("away"))
    with pytest.raises(settling.Errand):
        settling.put_back(task, "another run is under way")
    assert task.left == []


def test_a_call_is_given_back_when_redis_does_not_answer_for_long() -> None:
    with pytest.raises(Reject) as raised:
        settling.put_back(task_that_raises(*[OperationalError("away")] * 100), "another run is under way")
    assert raised.value.requeue
