"""Which messages may reach Celery."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone
from typing import Any

import pytest

from celeriac.delivery.values import protocol

GOOD: dict[str, Any] = {"task": "shop.send", "id": "1"}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"id": uuid.uuid4()},
        {"id": 5},
        {"timelimit": [None, None], "retries": 0, "eta": None, "shadow": None, "stamps": {}, "stamped_headers": None},
        {"timelimit": (10, 2.5), "retries": 3, "eta": "2030-01-01T00:00:00", "shadow": "", "stamped_headers": ["a"]},
        {"expires": datetime.now(timezone.utc), "root_id": "", "group": "", "parent_id": [1], "unknown": object()},
    ],
)
def test_a_call_of_celerys_or_of_another_language_is_let_through(fields: dict[str, Any]) -> None:
    assert protocol.why_no_call({**GOOD, **fields}) is None


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"id": None}, "its id is 'None', not a text"),
        ({"id": ""}, "its id is '', not a text"),
        ({"id": [1]}, "its id is '[1]', not a text"),
        ({"id": True}, "its id is 'True', not a text"),
        ({"task": 5}, "its task is '5', not a text"),
        ({"task": "a\ud800"}, r"its task is 'a\\ud800', not a text"),
        ({"timelimit": "abc"}, "its timelimit is 'abc', not two numbers of seconds"),
        ({"timelimit": ["a", "b"]}, "its timelimit is \"['a', 'b']\", not two numbers of seconds"),
        ({"timelimit": [float("inf"), None]}, "its timelimit is '[inf, None]', not two numbers of seconds"),
        ({"timelimit": [10**400, None]}, "not two numbers of seconds"),
        ({"retries": "many"}, "its retries is 'many', not a number"),
        ({"eta": 12}, "its eta is '12', not an ISO 8601 time"),
        ({"shadow": [1]}, "its shadow is '[1]', not a text"),
        ({"stamped_headers": 5}, "its stamped_headers is '5', not an array of texts"),
        ({"stamps": "x"}, "its stamps is 'x', not an object"),
    ],
)
def test_a_call_that_would_end_the_worker_is_not(fields: dict[str, Any], why: str) -> None:
    assert why in (protocol.why_no_call({**GOOD, **fields}) or "")


def test_what_is_missing_is_named() -> None:
    assert protocol.why_no_call({"task": "x"}) == "it has no id"
    assert protocol.why_no_call({"id": "x"}) == "it has no task"


@pytest.mark.parametrize(
    "body",
    [
        [[], {}, {}],
        ([1], {"a": 2}, None),
        [[], {}, {"callbacks": None, "errbacks": [{"task": "x"}], "chain": [], "chord": {"task": "y"}}],
        {"args": [], "kwargs": {}},
    ],
)
def test_a_body_of_celerys_is_let_through(body: Any) -> None:
    assert protocol.why_no_body(body) is None


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (None, "its body is None, not [args, kwargs, embed]"),
        ([1, 2], "its body is [1, 2], not"),
        ([[], {}, {}, {}], "not [args, kwargs, embed]"),
        ({"a": 1}, "its body is an object without args"),
        ("abc", "its body is abc, not"),
        (["abc", {}, {}], "its args are abc, not an array"),
        ([[], [1], {}], "its kwargs are [1], not an object"),
        ([[], {}, [1]], "its embed is [1], not an object"),
        ([[], {}, {"chain": 5}], "its chain is '5', not an array of signatures"),
        ([[], {}, {"errbacks": ["x"]}], "not an array of signatures"),
        ([[], {}, {"chord": []}], "its chord is '[]', not a signature"),
    ],
)
def test_another_body_is_not(body: Any, why: str) -> None:
    assert why in (protocol.why_no_body(body) or "")
