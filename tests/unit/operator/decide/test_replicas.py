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
