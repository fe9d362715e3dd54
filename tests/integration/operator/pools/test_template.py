"""A pool's `template` against the API server's own strategic merge: the same patch, laid over the same pod template.

Both results are sent through a PodTemplate, which holds a pod template and starts nothing, so that the server's
defaults are the same on both sides.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.integration.operator.machine import Api, Manifest

from celeriac_operator.desired import strategic_merge
from celeriac_operator.resource import pod_patch

PATH = "/api/v1/namespaces/default/podtemplates"

BASE: Manifest = {
    "metadata": {"labels": {"app": "x"}, "annotations": {"a": "1"}},
    "spec": {
        "initContainers": [{"name": "inject", "image": "library:1", "command": ["copy"]}],
        "containers": [
            {
                "name": "worker",
                "image": "shop:1",
                "command": ["python", "-m", "celeriac"],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "ports": [{"name": "celeriac", "containerPort": 8787, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
                "volumeMounts": [{"name": "celeriac", "mountPath": "/celeriac", "readOnly": True}],
                "livenessProbe": {"httpGet": {"path": "/livez", "port": "celeriac"}, "periodSeconds": 10},
            }
        ],
        "volumes": [{"name": "celeriac", "emptyDir": {"sizeLimit": "128Mi"}}],
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "imagePullSecrets": [{"name": "one"}],
        "topologySpreadConstraints": [
            {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}
        ],
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    },
}


def worker(**fields: Any) -> Manifest:
    return {"spec": {"containers": [{"name": "worker", **fields}]}}


PATCHES: dict[str, Manifest] = {
    "nothing": {},
    "labels and annotations": {"metadata": {"labels": {"team": "mail"}, "annotations": {"a": "2"}}},
    "a map, merged": {"spec": {"nodeSelector": {"disk": "fast"}, "securityContext": {"runAsUser": 1000}}},
    "null deletes a field": {"spec": {"securityContext": {"runAsNonRoot": None}, "hostAliases": None}},
    "$patch: replace in a map": {"spec": {"securityContext": {"$patch": "replace", "runAsUser": 1}}},
    "$patch: delete in a map": {"spec": {"securityContext": {"$patch": "delete"}}},
    "a variable added": worker(env=[{"name": "C", "value": "3"}]),
    "a variable changed": worker(env=[{"name": "A", "value": "9"}]),
    "a variable removed": worker(env=[{"name": "A", "$patch": "delete"}]),
    "all variables replaced": worker(env=[{"$patch": "replace"}, {"name": "C", "value": "3"}]),
    "an atomic list replaced": worker(command=["other"]),
    "an atomic list of maps replaced": {"spec": {"tolerations": [{"key": "b", "operator": "Exists"}]}},
    "limits merged": worker(resources={"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}),
    "a limit removed": worker(resources={"limits": {"memory": None}}),
    "another port": worker(ports=[{"containerPort": 9090, "protocol": "TCP", "name": "metrics"}]),
    "the port renamed": worker(ports=[{"containerPort": 8787, "protocol": "TCP", "name": "health"}]),
    "another mount": {
        "spec": {
            "containers": [{"name": "worker", "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}],
            "volumes": [{"name": "scratch", "emptyDir": {}}],
        }
    },
    "a mount changed": worker(volumeMounts=[{"mountPath": "/celeriac", "readOnly": False}]),
    "a probe changed": worker(livenessProbe={"periodSeconds": 30, "httpGet": {"path": "/other"}}),
    "a probe removed": worker(livenessProbe=None),
    "a container added": {"spec": {"containers": [{"name": "proxy", "image": "proxy:1"}]}},
    "a container removed and another added": {
        "spec": {"initContainers": [{"name": "inject", "$patch": "delete"}, {"name": "wait", "image": "wait:1"}]}
    },
    "all init containers replaced": {
        "spec": {"initContainers": [{"$patch": "replace"}, {"name": "w", "image": "w:1"}]}
    },
    "an init container changed": {"spec": {"initContainers": [{"name": "inject", "args": ["x"]}]}},
    "a volume's size": {"spec": {"volumes": [{"name": "celeriac", "emptyDir": {"sizeLimit": "1Gi"}}]}},
    "a volume of another kind": {
        "spec": {"volumes": [{"name": "celeriac", "emptyDir": None, "hostPath": {"path": "/x"}}]}
    },
    "sources of a projected volume": {
        "spec": {"volumes": [{"name": "p", "projected": {"sources": [{"secret": {"name": "a"}}]}}]}
    },
    "a pull secret added": {"spec": {"imagePullSecrets": [{"name": "two"}]}},
    "a pull secret removed": {"spec": {"imagePullSecrets": [{"name": "one", "$patch": "delete"}]}},
    "a spread changed": {"spec": {"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 2}]}},
    "a spread added": {
        "spec": {
            "topologySpreadConstraints": [
                {"topologyKey": "host", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
            ]
        }
    },
    "a host alias": {"spec": {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["b"]}, {"ip": "10.0.0.2"}]}},
    "affinity": {
        "spec": {
            "affinity": {
                "podAntiAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {"weight": 1, "podAffinityTerm": {"topologyKey": "host", "labelSelector": {}}}
                    ]
                }
            }
        }
    },
}


@pytest.fixture(scope="module")
def stored(api: Api) -> str:
    """The path of the base, as the API server keeps it."""
    api.request("POST", PATH, {"metadata": {"name": "base"}, "template": BASE})
    return f"{PATH}/base"


def by_name(template: Manifest) -> Manifest:
    """Without the order of merged lists, which the server arranges in its own way."""
    spec = copy.deepcopy(template["spec"])
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        for key, items in container.items():
            if key in strategic_merge.CONTAINER_LISTS:
                items.sort(key=str)
    for key in (
        "containers",
        "initContainers",
        "volumes",
        "imagePullSecrets",
        "topologySpreadConstraints",
        "hostAliases",
    ):
        spec.get(key, []).sort(key=str)
    return {**template, "spec": spec}


@pytest.mark.parametrize("patch", [pytest.param(patch, id=name) for name, patch in PATCHES.items()])
def test_merges_as_the_api_server_does(api: Api, stored: str, patch: Manifest) -> None:
    theirs = api.request("PATCH", f"{stored}?dryRun=All", {"template": patch}, "application/strategic-merge-patch+json")
    merged = strategic_merge.merge(copy.deepcopy(BASE), patch)
    ours = api.request("POST", f"{PATH}?dryRun=All", {"metadata": {"name": "ours"}, "template": merged})
    assert by_name(ours["template"]) == by_name(theirs["template"])


def test_every_field_of_a_pods_spec_is_known_with_its_type(api: Api) -> None:
    schemas = api.request("GET", "/openapi/v3/api/v1")["components"]["schemas"]
    theirs = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]
    ours = pod_patch.POD_SPEC["properties"]
    assert {name: field.get("type", "object") for name, field in theirs.items()} == {
        name: field["type"] for name, field in ours.items()
    }
