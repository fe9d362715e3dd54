"""Golden manifests: tests/golden/operator/<case>.pool.yaml goes in, <case>.objects.yaml comes out.

Every byte of a pod template counts: what differs for an unchanged pool restarts its workers at an operator upgrade.
REWRITE_GOLDEN=1 writes the files anew; look at the difference before you commit it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.operator.factories import LIBRARY, a_pool, wanted

from celeriac_operator import bounded, labels
from celeriac_operator.desired import build
from celeriac_operator.desired.build import Choices, TemplateError
from celeriac_operator.resource import CeleryWorkerPool

GOLDEN = Path(__file__).parents[3] / "golden" / "operator"
CASES = sorted(path.name.removesuffix(".pool.yaml") for path in GOLDEN.glob("*.pool.yaml"))
CHOICES = Choices(library_image="celeriac-worker:1.0.0", secrets_digest="0123456789abcdef")


class Dumper(yaml.SafeDumper):
    def ignore_aliases(self, _data: Any) -> bool:
        return True


@pytest.mark.parametrize("case", CASES)
def test_builds_the_golden_objects(case: str) -> None:
    pool = CeleryWorkerPool.parse(yaml.safe_load((GOLDEN / f"{case}.pool.yaml").read_text()))
    names_secrets = any(section and section.url_from for section in (pool.spec.broker, pool.spec.result_backend))
    built = build.build(pool, CHOICES if names_secrets else Choices(library_image=CHOICES.library_image))
    text = yaml.dump_all(built, Dumper=Dumper, sort_keys=False, width=120, allow_unicode=True)
    path = GOLDEN / f"{case}.objects.yaml"
    if os.environ.get("REWRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_there_are_golden_manifests() -> None:
    assert {"minimal", "full", "template", "never-injected"} <= set(CASES)


def pod(**spec: Any) -> dict[str, Any]:
    template: dict[str, Any] = wanted(a_pool(**spec), "Deployment")["spec"]["template"]
    return template


def worker(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in pod(**spec)["spec"]["containers"] if each["name"] == "worker")
    return found


def variable(container: dict[str, Any], name: str) -> str:
    return str(next(each["value"] for each in container["env"] if each["name"] == name))


def template_hash(**spec: Any) -> str:
    return str(pod(**spec)["metadata"]["annotations"][labels.TEMPLATE_HASH])


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"replicas": 7}, id="the number of workers"),
        pytest.param({"suspend": True}, id="suspension"),
        pytest.param({"rollout": {"maxSurge": 2, "maxUnavailable": 1}}, id="how a change rolls out"),
        pytest.param({"disruption": {"minAvailable": 1}}, id="how many a drain of nodes takes away"),
    ],
)
def test_workers_are_not_restarted_by(spec: dict[str, Any]) -> None:
    assert template_hash(**spec) == template_hash()


def test_dollar_signs_reach_the_worker_as_they_are() -> None:
    # Kubernetes expands $(NAME) in values and reads $$ as $.
    container = worker(logging={"taskFormat": "$(HOME) $$"}, broker={"url": "redis://h/$(X)"})
    assert '"taskFormat":"$$(HOME) $$$$"' in variable(container, "CELERIAC_CONFIG")
    assert variable(container, "CELERIAC_BROKER_URL") == "redis://h/$$(X)"


def test_the_cpu_limit_of_the_template_counts_for_concurrency() -> None:
    patch = {"spec": {"containers": [{"name": "worker", "resources": {"limits": {"cpu": "3"}}}]}}
    container = worker(resources={"limits": {"cpu": 1}}, template=patch)
    assert '"concurrency":3' in variable(container, "CELERIAC_CONFIG")


def test_the_injector_has_the_workers_requests_and_limits_and_no_devices() -> None:
    amounts = {"cpu": "2", "memory": "1Gi", "nvidia.com/gpu": 1}
    (injector,) = pod(resources={"limits": amounts, "requests": amounts})["spec"]["initContainers"]
    same = {"cpu": "2", "memory": "1Gi"}
    assert injector["resources"] == {"limits": same, "requests": same}


def test_a_template_may_give_the_injector_its_own_resources() -> None:
    patch = {"spec": {"initContainers": [{"name": "celeriac-inject", "resources": {"limits": {"cpu": "1"}}}]}}
    (injector,) = pod(resources={"limits": {"cpu": 2}}, template=patch)["spec"]["initContainers"]
    assert injector["resources"] == {"limits": {"cpu": "1"}}


def test_null_in_a_template_deletes() -> None:
    patch = {"spec": {"securityContext": {"runAsNonRoot": None, "runAsUser": 0}}}
    context = pod(template=patch)["spec"]["securityContext"]
    assert context == {"seccompProfile": {"type": "RuntimeDefault"}, "runAsUser": 0}


def test_the_grace_period_covers_the_drain_and_the_probes_have_a_short_one() -> None:
    spec = pod(drain={"timeoutSeconds": 1000})["spec"]
    (container,) = spec["containers"]
    assert spec["terminationGracePeriodSeconds"] > 1000
    assert container["livenessProbe"]["terminationGracePeriodSeconds"] <= 10
    assert container["startupProbe"]["terminationGracePeriodSeconds"] <= 10


def test_an_inline_dsn_becomes_an_owned_secret_that_is_mounted() -> None:
    secret, deployment = build.build(
        a_pool(sentry={"dsn": "https://key@sentry.example/1"}), Choices(library_image=LIBRARY)
    )
    (volume,) = (v for v in deployment["spec"]["template"]["spec"]["volumes"] if "secret" in v)
    assert secret["metadata"]["ownerReferences"] == deployment["metadata"]["ownerReferences"]
    assert secret["metadata"]["name"] == volume["secret"]["secretName"] == "emails-sentry"
    assert volume["secret"]["optional"] is True
    assert "sentry.example" not in str(deployment)


@pytest.mark.parametrize(
    ("patch", "sentence"),
    [
        pytest.param(
            {"containers": [{"name": "worker", "$patch": "delete"}]},
            "template.spec.containers deletes the container worker, which is the worker",
            id="without the worker's container",
        ),
        pytest.param(
            {"containers": None},
            "template.spec.containers deletes the container worker, which is the worker",
            id="without any container",
        ),
        pytest.param(
            {"containers": [{"name": "worker", "env": [{"name": "CELERIAC_CONFIG", "value": "{}"}]}]},
            "template.spec.containers sets CELERIAC_CONFIG: names that start with CELERIAC_ are reserved for the "
            "operator: use the pool's fields",
            id="that sets the operator's own variables",
        ),
        pytest.param(
            {"containers": [{"name": "worker", "resources": {"limits": {"cpu": "many"}}}]},
            "template.spec.containers: the cpu limit is not a quantity: 'many'",
            id="with a cpu limit that is not a quantity",
        ),
        pytest.param({"containers": "x"}, "template.spec.containers must be a list", id="of the wrong shape"),
        *(
            pytest.param(
                {"initContainers": [{"name": "x", "resources": {kind: {"memory": amount}}}]},
                "template.spec: memory is a quantity of too many digits",
                id=f"with a quantity in {kind} that fills the memory: {str(amount)[:12]}",
            )
            for kind in ("limits", "requests")
            for amount in ("1e1000000", "1E-100000", "9" * 1000, 10**200)
        ),
        pytest.param(
            {"volumes": [{"name": "x", "emptyDir": {"sizeLimit": "1e999999"}}]},
            "template.spec: sizeLimit is a quantity of too many digits",
            id="with such a size limit",
        ),
        pytest.param(
            {"affinity": {"a": {"b": [bounded.CUT]}}},
            "template.spec is nested more than about 60 levels deep",
            id="of which a part was cut off",
        ),
    ],
)
def test_a_template_is_refused(patch: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TemplateError) as caught:
        pod(template={"spec": patch})
    assert str(caught.value) == sentence


@pytest.mark.parametrize("resources", ["x", {"limits": "x"}, {"limits": {"cpu": None}}, None])
def test_what_the_api_server_will_refuse_is_passed_on(resources: Any) -> None:
    patch = {"spec": {"containers": [{"name": "worker", "resources": resources}]}}
    assert worker(template=patch)["env"]


def budget(**spec: Any) -> dict[str, Any] | None:
    manifests = build.build(a_pool(**spec), Choices(library_image=LIBRARY))
    return next((each["spec"] for each in manifests if each["kind"] == "PodDisruptionBudget"), None)


@pytest.mark.parametrize(
    ("spec", "limit"),
    [
        pytest.param({}, None, id="one worker: none"),
        pytest.param({"replicas": 0}, None, id="no worker: none"),
        pytest.param({"replicas": 2}, {"maxUnavailable": 1}, id="two workers: one at a time"),
        pytest.param(
            {"replicas": 2, "suspend": True}, {"maxUnavailable": 1}, id="suspended: it stays for when they come back"
        ),
        pytest.param({"disruption": {"minAvailable": 1}}, {"minAvailable": 1}, id="one worker, but it was asked for"),
        pytest.param(
            {"replicas": 8, "disruption": {"maxUnavailable": "25%"}}, {"maxUnavailable": "25%"}, id="as the pool says"
        ),
        pytest.param(
            {"replicas": 2, "disruption": {"maxUnavailable": 0}}, {"maxUnavailable": 0}, id="none may be taken"
        ),
        pytest.param({"replicas": 2, "disruption": {"maxUnavailable": "100%"}}, None, id="all may be taken: none"),
        pytest.param({"replicas": 2, "disruption": {"minAvailable": 0}}, None, id="none must stay: none"),
        pytest.param({"replicas": 2, "disruption": {"minAvailable": "0%"}}, None, id="no share must stay: none"),
    ],
)
def test_the_budget_of_a_pool_with(spec: dict[str, Any], limit: dict[str, Any] | None) -> None:
    rest = {
        "selector": {"matchLabels": {"app.kubernetes.io/name": "celeriac-worker", "celeriac.dev/pool": "emails"}},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    assert budget(**spec) == ({**limit, **rest} if limit else None)


URL = {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}
OWN = {"name": "CELERY_BROKER_URL", "value": "redis://own"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, {"name": "CELERY_BROKER_URL", "valueFrom": URL["urlFrom"]}, id="the pool's"),
        pytest.param({"env": [OWN]}, OWN, id="the pool's env comes first"),
        pytest.param(
            {"template": {"spec": {"containers": [{"name": "worker", "env": [OWN]}]}}},
            OWN,
            id="and so does its template",
        ),
    ],
)
def test_celerys_own_variable_is_there_once(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    (worker,) = pod(broker=URL, **changes)["spec"]["containers"]
    assert [it for it in worker["env"] if it["name"] == "CELERY_BROKER_URL"] == [expected]


def test_the_command_of_an_injected_library_is_on_the_path_and_starts_the_pools_python() -> None:
    spec = pod(worker={"python": ["/app/bin/python", "-X", "utf8"]})["spec"]
    assert spec["initContainers"][0]["command"][-3:] == ["--python=/app/bin/python", "--python=-X", "--python=utf8"]
    mounts = {it["mountPath"]: it for it in spec["containers"][0]["volumeMounts"]}
    assert mounts["/usr/local/bin/celeriac"]["subPath"] == "celeriac"
    assert mounts["/usr/local/bin/celeriac"]["name"] == mounts["/celeriac"]["name"]
