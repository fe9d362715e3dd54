from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac_operator.desired.strategic_merge import PatchError, merge

BASE: dict[str, Any] = {
    "metadata": {"labels": {"a": "1"}},
    "spec": {
        "containers": [
            {
                "name": "worker",
                "image": "shop:1",
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "ports": [{"name": "celeriac", "containerPort": 8787, "protocol": "TCP"}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }
        ],
        "volumes": [{"name": "data", "emptyDir": {}}],
        "tolerations": [{"key": "old"}],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    },
}


def worker(**patch: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "worker", **patch}]}}


@pytest.mark.parametrize(
    ("patch", "path", "expected"),
    [
        pytest.param({"metadata": {"labels": {"b": "2"}}}, "metadata.labels", {"a": "1", "b": "2"}, id="maps merge"),
        pytest.param({"metadata": {"labels": {"a": None}}}, "metadata.labels", {}, id="null deletes a key"),
        pytest.param(
            {"spec": {"securityContext": {"runAsUser": 7}}},
            "spec.securityContext",
            {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, "runAsUser": 7},
            id="a map inside is merged, not replaced",
        ),
        pytest.param(
            {"spec": {"securityContext": {"$patch": "replace", "runAsUser": 7}}},
            "spec.securityContext",
            {"runAsUser": 7},
            id="$patch: replace replaces a map",
        ),
        pytest.param(
            {"spec": {"tolerations": [{"key": "new"}]}},
            "spec.tolerations",
            [{"key": "new"}],
            id="tolerations are replaced as a whole",
        ),
        pytest.param(
            {"spec": {"volumes": [{"name": "more", "emptyDir": {}}]}},
            "spec.volumes",
            [{"name": "data", "emptyDir": {}}, {"name": "more", "emptyDir": {}}],
            id="a volume with a new name is added",
        ),
        pytest.param(
            {"spec": {"volumes": [{"name": "data", "$patch": "delete"}]}},
            "spec.volumes",
            [],
            id="$patch: delete removes an item",
        ),
        pytest.param(
            {"spec": {"volumes": [{"$patch": "replace"}, {"name": "only"}]}},
            "spec.volumes",
            [{"name": "only"}],
            id="$patch: replace as an item replaces the list",
        ),
        pytest.param(worker(image="shop:2"), "spec.containers.0.image", "shop:2", id="containers merge by name"),
        pytest.param(
            worker(env=[{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]),
            "spec.containers.0.env",
            [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}, {"name": "C", "value": "4"}],
            id="variables merge by name and keep their order",
        ),
        pytest.param(
            worker(ports=[{"containerPort": 8787, "name": "health"}]),
            "spec.containers.0.ports",
            [{"name": "health", "containerPort": 8787, "protocol": "TCP"}],
            id="a port without protocol is the TCP port",
        ),
        pytest.param(
            worker(ports=[{"containerPort": 8787, "protocol": "UDP"}]),
            "spec.containers.0.ports.1",
            {"containerPort": 8787, "protocol": "UDP"},
            id="the same port over UDP is another one",
        ),
        pytest.param(
            worker(volumeMounts=[{"mountPath": "/data", "readOnly": True}]),
            "spec.containers.0.volumeMounts",
            [{"name": "data", "mountPath": "/data", "readOnly": True}],
            id="mounts merge by path",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "proxy", "image": "proxy:1"}]}},
            "spec.containers.1",
            {"name": "proxy", "image": "proxy:1"},
            id="a further container is added after the worker",
        ),
        pytest.param(
            {"spec": {"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1}]}},
            "spec.topologySpreadConstraints",
            [{"topologyKey": "zone", "maxSkew": 1}],
            id="a list that was not there appears",
        ),
        pytest.param(worker(command=["sh"]), "spec.containers.0.command", ["sh"], id="a list of words is replaced"),
    ],
)
def test_merges(patch: dict[str, Any], path: str, expected: Any) -> None:
    found: Any = merge(BASE, patch)
    for part in path.split("."):
        found = found[int(part)] if part.isdigit() else found[part]
    assert found == expected


@pytest.mark.parametrize(
    ("patch", "sentence"),
    [
        pytest.param({"spec": {"containers": {}}}, "template.spec.containers must be a list", id="a map for a list"),
        pytest.param(
            {"spec": {"volumes": [{"emptyDir": {}}]}},
            "an item of template.spec.volumes has no name, which identifies the item",
            id="an item without its key",
        ),
        pytest.param(
            {"spec": {"volumes": [{"name": "data", "$patch": "replace", "hostPath": {"path": "/x"}}]}},
            "an item of template.spec.volumes has $patch: replace, which is allowed only in a map or as a list "
            "item of its own; to replace this item, set the keys that it must lose to null",
            id="$patch: replace inside an item",
        ),
        pytest.param(
            {"spec": {"volumes": ["x"]}},
            "every item of template.spec.volumes must be a map",
            id="an item that is not a map",
        ),
        pytest.param(
            {"spec": {"$setElementOrder/volumes": []}},
            "template.spec has the directive $setElementOrder/volumes; only $patch is known here: delete or replace",
            id="a directive of computed patches",
        ),
        pytest.param(
            {"spec": {"$patch": "remove"}},
            "template.spec has $patch: remove; it can be delete, replace or merge",
            id="a directive that does not exist",
        ),
        pytest.param(
            {"spec": {"volumes": [{"name": ["x"]}]}},
            "in an item of template.spec.volumes, name must be plain values",
            id="a key that is a list",
        ),
    ],
)
def test_refuses(patch: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PatchError) as caught:
        merge(BASE, patch)
    assert str(caught.value) == sentence


names = st.sampled_from(["worker", "A", "B", "data", "x"])
values = st.one_of(st.none(), st.integers(), st.text(max_size=3), st.lists(st.text(max_size=2), max_size=2))
items = st.fixed_dictionaries({"name": names}, optional={"value": values, "image": values})
patches = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries({"labels": st.dictionaries(names, values, max_size=3)}),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "containers": st.lists(items, max_size=3),
                "volumes": st.lists(items, max_size=3),
                "tolerations": st.lists(items, max_size=2),
            },
        ),
    },
)


@given(patches)
def test_applying_a_patch_twice_changes_nothing_more_and_the_base_is_left_alone(patch: dict[str, Any]) -> None:
    before = copy.deepcopy(BASE)
    once = merge(BASE, patch)
    assert merge(once, patch) == once
    assert before == BASE


@given(patches)
def test_items_keep_their_order_and_their_keys_stay_unique(patch: dict[str, Any]) -> None:
    merged = merge(BASE, patch)["spec"]["containers"]
    found = [item["name"] for item in merged]
    assert len(set(found)) == len(found)
    assert found[0] == "worker"


def test_an_empty_patch_is_nothing() -> None:
    assert merge(BASE, {}) == BASE
