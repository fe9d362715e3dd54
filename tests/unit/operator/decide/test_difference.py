from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac_operator.decide import difference


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        pytest.param({"a": 1}, {"a": 1, "b": 2}, id="what others add is left"),
        pytest.param({"limits": {"cpu": 2}}, {"limits": {"cpu": "2"}}, id="2 reads back as '2'"),
        pytest.param({"limits": {"cpu": "1000m"}}, {"limits": {"cpu": "1"}}, id="1000m reads back as 1"),
        pytest.param({"emptyDir": {"sizeLimit": "1024Mi"}}, {"emptyDir": {"sizeLimit": "1Gi"}}, id="sizes of volumes"),
        pytest.param({"tolerations": []}, {}, id="an empty list is dropped by the server"),
        pytest.param({"hostNetwork": False}, {}, id="false is dropped by the server"),
        pytest.param({"securityContext": {}}, {}, id="an empty map is dropped by the server"),
        pytest.param({"securityContext": {"x": None}}, {}, id="null is dropped by the server"),
        pytest.param(
            {"env": [{"name": "A", "value": "1"}]},
            {"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]},
            id="items that are told apart by a key may stand anywhere and have company",
        ),
        pytest.param(
            {"ports": [{"containerPort": 1}]},
            {"ports": [{"containerPort": 1, "protocol": "TCP"}]},
            id="the protocol is filled in by the server",
        ),
    ],
)
def test_is_no_difference(wanted: Any, there: Any) -> None:
    assert difference.first(wanted, there) is None


@pytest.mark.parametrize(
    ("wanted", "there", "sentence"),
    [
        pytest.param({"a": {"b": 1}}, {"a": {"b": 2}}, "a.b is 2, not 1", id="a value"),
        pytest.param({"a": 1}, {}, "a is absent, not 1", id="a field that is not there"),
        pytest.param({"a": True}, {"a": 1}, "a is 1, not True", id="1 is not true"),
        pytest.param({"command": ["a"]}, {"command": ["a", "b"]}, "command has 2 items, not 1", id="a longer list"),
        pytest.param({"command": ["a"]}, {"command": ["b"]}, "command[0] is b, not a", id="an item of a list"),
        pytest.param({"env": [{"name": "A"}]}, {"env": []}, "env[A] is missing", id="an item with a key"),
        pytest.param(
            {"env": [{"name": "A", "value": "secret"}]},
            {"env": [{"name": "A", "value": "other"}]},
            "env[A].value differs",
            id="values of variables are not shown",
        ),
        pytest.param({"limits": {"cpu": "2"}}, {"limits": {"cpu": "1"}}, "limits.cpu is 1, not 2", id="another amount"),
        pytest.param(
            {"cpu": "1000m"}, {"cpu": "1"}, "cpu is 1, not 1000m", id="what is not a quantity is compared as text"
        ),
    ],
)
def test_names_the_first_difference(wanted: Any, there: Any, sentence: str) -> None:
    assert difference.first(wanted, there) == sentence


def test_long_values_are_cut() -> None:
    found = difference.first({"a": "x" * 500}, {"a": "y" * 500})
    assert found is not None
    assert len(found) < 150


trees = st.recursive(
    st.one_of(st.integers(), st.text(max_size=3), st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
)


@given(st.dictionaries(st.text(max_size=3), trees, max_size=4), st.dictionaries(st.text(min_size=4), trees, max_size=2))
def test_a_thing_never_differs_from_itself_whatever_others_add(wanted: dict[str, Any], more: dict[str, Any]) -> None:
    assert difference.first(wanted, {**wanted, **more}) is None
