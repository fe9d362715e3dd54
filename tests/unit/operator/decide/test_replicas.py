"""Was `replicas` taken out of an applied manifest, and which number was lost?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from celeriac_operator.decide import replicas


def pool(number: int | None, applied: Any = None, *, uid: str = "1") -> dict[str, Any]:
    annotations = {} if applied is None else {replicas.LAST_APPLIED: applied}
    spec = {} if number is None else {"replicas": number}
    return {"metadata": {"uid": uid, "annotations": annotations}, "spec": spec}


WITH = json.dumps({"spec": {"replicas": 2}})
WITHOUT = json.dumps({"spec": {}})


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        pytest.param(pool(20, WITH), pool(1, WITHOUT), 20, id="taken out: the number is lost"),
        pytest.param(pool(20, WITH), pool(None, WITHOUT), 20, id="taken out, without a default"),
        pytest.param(pool(20, WITH), pool(20, WITHOUT), None, id="taken out, and kept"),
        pytest.param(pool(1, WITH), pool(1, WITHOUT), None, id="taken out at 1"),
        pytest.param(pool(20, WITHOUT), pool(1, WITHOUT), None, id="scaled to 1 by hand"),
        pytest.param(pool(20, WITH), pool(1, WITH), None, id="scaled to 1 by hand, with the field"),
        pytest.param(pool(20, WITH), pool(1), None, id="kubectl has not applied it"),
        pytest.param(pool(20, "["), pool(1, WITHOUT), None, id="nonsense before"),
        pytest.param(pool(20, WITH), pool(1, "[]"), None, id="invalid now, which is not a manifest without the field"),
        pytest.param(pool(20, WITH), pool(1, WITHOUT, uid="2"), None, id="another pool of the name"),
        pytest.param(None, pool(1, WITHOUT), None, id="a new pool"),
    ],
)
def test_the_number_that_was_lost(before: dict[str, Any] | None, now: dict[str, Any], expected: int | None) -> None:
    assert replicas.before_removal(before, now) == expected


def owned(number: int, *operations: str) -> dict[str, Any]:
    """A pool whose number was set in these ways, as the API server records it."""
    found = pool(number)
    found["metadata"]["managedFields"] = [
        {"manager": f"m{place}", "operation": operation, "fieldsV1": {"f:spec": {"f:replicas": {}, "f:image": {}}}}
        for place, operation in enumerate(operations)
    ] + [{"manager": "other", "operation": "Apply", "fieldsV1": {"f:spec": {"f:image": {}}}}]
    return found


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        pytest.param(owned(20, "Apply"), owned(1), 20, id="taken out of a manifest that is applied server-side"),
        pytest.param(owned(20, "Apply", "Update"), owned(1), 20, id="which somebody has scaled to the same number"),
        pytest.param(owned(20, "Apply"), owned(1, "Update"), None, id="scaled to 1, or replaced by a manifest without"),
        pytest.param(owned(20, "Apply"), owned(1, "Apply"), None, id="applied with 1"),
        pytest.param(owned(20, "Update"), owned(1), None, id="nobody had applied a number"),
        pytest.param(owned(20), owned(1), None, id="nobody had set a number"),
        pytest.param(owned(1, "Apply"), owned(1), None, id="taken out at 1"),
    ],
)
def test_the_number_that_a_server_side_apply_gave_up(
    before: dict[str, Any], now: dict[str, Any], expected: int | None
) -> None:
    assert replicas.before_removal(before, now) == expected
    remembered = {**before["metadata"], "managedFields": replicas.keep(before["metadata"]["managedFields"])}
    assert replicas.before_removal({**before, "metadata": remembered}, now) == expected
