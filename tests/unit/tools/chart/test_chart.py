"""The chart's files agree with each other and with what they are copied from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from localcluster.paths import CHECKOUT

CHART = CHECKOUT / "charts/celeriac"
GOLDEN = CHECKOUT / "tests/golden/chart"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = (CHART / "values.yaml").read_text()
# Kubernetes' own shapes, which a person fills in, and what Helm puts there.
OPEN = {"resources", "global"}


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A part of the schema with what it refers to."""
    if "$ref" not in schema:
        return schema
    return {**SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], **schema}


def parts_of(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every part of the schema, with its path."""
    for name, part in schema.get("properties", {}).items():
        whole = resolved(part)
        yield f"{path}{name}", whole
        yield from parts_of(whole, f"{path}{name}.")
        yield from parts_of(whole.get("items", {}), f"{path}{name}[].")


def keys_of_schema(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Every value that the schema knows."""
    for name, part in schema.get("properties", {}).items():
        whole = resolved(part)
        if name not in OPEN and "properties" in whole:
            yield from keys_of_schema(whole, f"{path}{name}.")
        elif name != "global":
            yield f"{path}{name}"


def keys_of_values(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Every value that has a default."""
    for name, value in values.items():
        if name not in OPEN and isinstance(value, dict) and value:
            yield from keys_of_values(value, f"{path}{name}.")
        else:
            yield f"{path}{name}"


def rendered(variant: str) -> Mapping[str, Mapping[str, Any]]:
    """The objects of a golden rendering, by kind and name."""
    documents = yaml.safe_load_all((GOLDEN / f"{variant}.yaml").read_text())
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in documents if each}


def test_every_value_that_is_allowed_has_a_default_and_the_other_way_round():
    assert set(keys_of_schema(SCHEMA)) == set(keys_of_values(yaml.safe_load(VALUES)))


def test_every_object_of_the_schema_refuses_unknown_keys():
    lenient = [
        path
        for path, part in parts_of(SCHEMA)
        if "properties" in part and part.get("additionalProperties") is not False
    ]
    assert lenient == []
    assert SCHEMA["additionalProperties"] is False


def test_every_value_says_what_it_is_for():
    assert [path for path, part in parts_of(SCHEMA) if not part.get("description")] == []


def test_the_chart_carries_the_definition_as_generated():
    generated = CHECKOUT / "crds/celeriac.dev_celeryworkerpools.yaml"
    assert (CHART / "files/celeryworkerpools.yaml").read_text() == generated.read_text(), "run `make manifests`"


def test_the_chart_is_of_the_same_version_as_the_programs():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    operator = (CHECKOUT / "operator/pyproject.toml").read_text()
    assert f'version = "{chart["appVersion"]}"' in operator


def test_the_operators_pods_are_selected_by_everything_that_is_about_them():
    objects = rendered("everything")
    labels = objects["Deployment/celeriac"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        objects["PodDisruptionBudget/celeriac"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy/celeriac"]["spec"]["podSelector"]["matchLabels"],
        objects["PodMonitor/celeriac"]["spec"]["selector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    # and the pod of `helm test` is none of them
    assert not any(
        selector.items() <= objects["Pod/celeriac-check"]["metadata"]["labels"].items() for selector in selectors
    )


def allowed(rules: list[Mapping[str, Any]], peers: str, port: int | str) -> list[Any]:
    """The peers for which some rule of a NetworkPolicy lets a port through; None: for anybody."""
    return [
        rule.get(peers)
        for rule in rules
        if any(each["port"] == port and each["protocol"] == "TCP" for each in rule["ports"])
    ]


def test_the_network_policy_lets_in_probes_and_scrapes_and_nothing_else():
    objects = rendered("everything")
    (container,) = objects["Deployment/celeriac"]["spec"]["template"]["spec"]["containers"]
    policy = objects["NetworkPolicy/celeriac"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    ports = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    assert ports == {port["name"] for port in container["ports"]} == {"health", "metrics"}
    assert allowed(policy["ingress"], "from", "health") == [None]
    assert allowed(policy["ingress"], "from", "metrics") == [
        [{"namespaceSelector": {"matchLabels": {"team": "observability"}}}]
    ]


def test_the_network_policy_lets_out_what_the_operator_asks_for_and_nothing_else():
    policy = rendered("everything")["NetworkPolicy/celeriac"]["spec"]
    names, api_server, brokers, workers = policy["egress"]
    assert names == {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}
    assert api_server == {
        "ports": [{"protocol": "TCP", "port": 6443}],
        "to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}],
    }
    assert brokers == {
        "ports": [{"protocol": "TCP", "port": 6379}],
        "to": [{"podSelector": {"matchLabels": {"app": "redis"}}, "namespaceSelector": {}}],
    }
    assert workers == {
        "ports": [{"protocol": "TCP", "port": 8787}],
        "to": [
            {
                "namespaceSelector": {},
                "podSelector": {"matchLabels": {"app.kubernetes.io/name": "celeriac-worker"}},
            }
        ],
    }


def test_without_an_address_the_api_server_may_be_anywhere_on_its_two_usual_ports():
    values = yaml.safe_load(VALUES)["networkPolicy"]
    assert values == {
        "enabled": False,
        "apiServer": {"ports": [443, 6443], "cidrs": []},
        "brokers": {"ports": [], "to": []},
        "workers": {"ports": [8787]},
        "metricsFrom": [],
    }


def test_several_operators_run_on_different_nodes_and_are_drained_one_at_a_time():
    objects = rendered("everything")
    (spread,) = objects["Deployment/celeriac"]["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    assert objects["PodDisruptionBudget/celeriac"]["spec"]["maxUnavailable"] == 1


def test_a_single_operator_has_no_budget_that_would_keep_its_node_from_being_drained():
    assert "PodDisruptionBudget/celeriac" not in rendered("namespaced")


@pytest.mark.parametrize("variant", ["everything", "customised", "namespaced"])
def test_what_is_limited_to_namespaces_has_no_right_in_the_cluster(variant: str):
    objects = rendered(variant)
    deployment = next(each for name, each in objects.items() if name.startswith("Deployment/"))
    limited = "CELERIAC_WATCH_NAMESPACES" in {
        each["name"] for each in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    granted = {name.partition("/")[0] for name in objects} & {"ClusterRole", "ClusterRoleBinding"}
    assert granted == (set() if limited else {"ClusterRole", "ClusterRoleBinding"})


def test_the_operations_guide_lists_the_operators_rights():
    objects = rendered("everything")
    granted: dict[str, set[str]] = {}
    for role in ("ClusterRole/celeriac", "Role/celeriac-leader"):
        for rule in objects[role]["rules"]:
            for resource in rule["resources"]:
                granted.setdefault(resource, set()).update(rule["verbs"])
    page = (CHECKOUT / "docs/operations/operating.md").read_text().partition("## Rights")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([\w/]+)` \| ([\w, ]+) \|", page, re.MULTILINE)
    assert {resource: set(verbs.split(", ")) for resource, verbs in rows} == granted


def test_the_check_of_helm_test_may_only_touch_its_own_pool():
    role = rendered("everything")["Role/celeriac-check"]
    assert role["rules"] == [
        {
            "apiGroups": ["celeriac.dev"],
            "resources": ["celeryworkerpools"],
            "resourceNames": ["celeriac-check"],
            "verbs": ["get", "delete"],
        },
        {"apiGroups": ["celeriac.dev"], "resources": ["celeryworkerpools"], "verbs": ["create"]},
    ]
