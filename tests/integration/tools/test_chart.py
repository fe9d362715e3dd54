"""The chart is accepted by Helm and by a real API server, in every variant, and says what is wrong with its values."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from localcluster import build
from localcluster.controlplane import ControlPlane
from localcluster.paths import CHECKOUT, Cache

CHART = str(CHECKOUT / "charts/celeriac")
GOLDEN = CHECKOUT / "tests/golden/chart"
MONITORING = str(CHECKOUT / "tests/integration/tools/monitoring-definitions.yaml")
NAMESPACE = "celeriac-system"
DIGEST = "sha256:" + "0123456789abcdef" * 4
DEFINITION = "customresourcedefinition.apiextensions.k8s.io/celeryworkerpools.celeriac.dev"
POOL = """
apiVersion: celeriac.dev/v1alpha1
kind: CeleryWorkerPool
metadata: {name: kept, namespace: default}
spec: {app: "shop:app", image: shop}
"""

# Each starts an API server of its own, and a busy machine takes its time over that and over Helm.
pytestmark = pytest.mark.timeout(300)

Helm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def helm_program() -> str:
    cache = Cache.default()
    build.ensure_programs(cache, ["helm"])
    return str(cache.program("helm"))


@pytest.fixture(scope="module")
def helm(helm_program: str, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    home = tmp_path_factory.mktemp("helm")
    env = {**os.environ, "KUBECONFIG": "/dev/null"}
    env |= {f"HELM_{name}_HOME": str(home / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}

    def run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([helm_program, *arguments], env=env, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def control_plane() -> Iterator[ControlPlane]:
    # A fresh one for each test: installing is what is tested.
    with ControlPlane(controllers=True) as running:
        yield running


def test_helm_finds_nothing_to_object_to(helm: Helm):
    assert "1 chart(s) linted, 0 chart(s) failed" in helm("lint", "--strict", CHART).stdout


def test_everything_that_is_rendered_from_the_chart_is_up_to_date(helm_program: str):
    done = subprocess.run([CHECKOUT / "tools/render-manifests", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        pytest.param("watchNamespace=a", "additional properties 'watchNamespace' not allowed", id="an unknown key"),
        pytest.param("image.tagg=1", "additional properties 'tagg' not allowed", id="an unknown key further in"),
        *(
            pytest.param(f"resources.{where}={quantity}", f"'{quantity}' does not match pattern", id=quantity)
            for where, quantity in (
                ("limits.memory", "1Gb"),
                ("limits.memory", "512MB"),
                ("requests.memory", "1 Gi"),
                ("limits.cpu", "half"),
                ("requests.cpu", "-100m"),
                ("limits.memory", "1gi"),
            )
        ),
        pytest.param("image.digest=abc", "does not match pattern", id="a digest that is none"),
        pytest.param("workers.image.digest=sha256:12", "does not match pattern", id="a digest that is cut"),
        pytest.param("crds.enabled=perhaps", "want boolean", id="a word where yes or no is wanted"),
        pytest.param("image.pullPolicy=Sometimes", "value must be one of", id="an unknown pull policy"),
        pytest.param("watchNamespaces={Team A}", "does not match pattern", id="a namespace that cannot exist"),
        pytest.param("serviceAccount.create=false", "set serviceAccount.name", id="no account and none named"),
        pytest.param("metrics.alerts.enabled=true,metrics.port=0", "needs metrics.port", id="alerts on no metrics"),
        pytest.param("networkPolicy.apiServer.cidrs={there}", "does not match pattern", id="an address of no network"),
    ],
)
def test_wrong_values_are_refused_with_a_sentence(helm: Helm, setting: str, says: str):
    done = helm("template", "celeriac", CHART, "--set", setting, check=False)
    assert done.returncode != 0
    assert says in done.stderr


@pytest.mark.parametrize("quantity", ["1Gi", "512M", "1.5Gi", "2", "0.5", ".5", "100m", "128974848", "1e3", "129e6"])
def test_every_way_to_write_a_quantity_is_taken(helm: Helm, quantity: str):
    assert quantity in helm("template", "celeriac", CHART, "--set-string", f"resources.limits.memory={quantity}").stdout
    helm("template", "celeriac", CHART, "--set", f"resources.limits.memory={quantity}")


@pytest.mark.parametrize(
    ("settings", "image"),
    [
        pytest.param({}, "reg/x:0.1.0", id="neither"),
        pytest.param({"tag": "v2"}, "reg/x:v2", id="a tag"),
        pytest.param({"digest": DIGEST}, f"reg/x@{DIGEST}", id="a digest"),
        pytest.param({"tag": "v2", "digest": DIGEST}, f"reg/x:v2@{DIGEST}", id="both"),
    ],
)
def test_an_image_is_named_by_tag_or_digest(helm: Helm, settings: dict[str, str], image: str):
    options = [
        f"--set-string={section}.{key}={value}"
        for section in ("image", "workers.image")
        for key, value in {"repository": "reg/x", **settings}.items()
    ]
    said = helm("template", "celeriac", CHART, *options).stdout
    assert f"image: {image}\n" in said
    assert f'value: "{image}"\n' in said


def test_installing_says_what_to_do_next(helm: Helm, control_plane: ControlPlane):
    done = helm(*on(control_plane, "install", "celeriac", CHART, "--create-namespace"))
    assert f"kubectl --namespace {NAMESPACE} rollout status deployment/celeriac" in done.stdout
    assert "watches all namespaces" in done.stdout


def left_of_the_release(control_plane: ControlPlane) -> set[str]:
    """Every object in the cluster that carries the release's label."""
    kinds = control_plane.kubectl("api-resources", "--verbs=list", "--output=name").split()
    selector = ("--selector=app.kubernetes.io/instance=celeriac", "--ignore-not-found")
    return set(control_plane.kubectl("get", ",".join(kinds), "-A", "--output=name", *selector).split())


def test_uninstalling_leaves_the_definition_and_peoples_pools(helm: Helm, control_plane: ControlPlane):
    control_plane.kubectl("apply", "--server-side", "-f", MONITORING)
    values = str(GOLDEN / "everything.values.yaml")
    everything = (CHART, "--values", values, "--set", "crds.enabled=true")
    done = helm(*on(control_plane, "install", "celeriac", *everything, "--create-namespace"))
    assert "leaves the CeleryWorkerPool definition, every pool" in done.stdout
    control_plane.kubectl("wait", "--for=condition=Established", DEFINITION, "--timeout=90s")
    control_plane.kubectl("apply", "-f", "-", input=POOL)
    assert "networkpolicy.networking.k8s.io/celeriac" in left_of_the_release(control_plane)
    said = helm(*on(control_plane, "uninstall", "celeriac", "--wait"))
    assert "celeryworkerpools.celeriac.dev" in said.stdout + said.stderr, "Helm says what it keeps"
    # The operator's pods carry the label too, and there is no kubelet here to end them.
    assert {each for each in left_of_the_release(control_plane) if not each.startswith("pod/")} == set()
    assert "kept" in control_plane.kubectl("get", "cwp", "-o", "name")
    # and a person who comes back finds them working: the definition is taken over again
    helm(*on(control_plane, "install", "celeriac", CHART))
    assert "kept" in control_plane.kubectl("get", "cwp", "-o", "name")


def test_an_upgrade_upgrades_the_definition(helm: Helm, control_plane: ControlPlane):
    helm(*on(control_plane, "install", "celeriac", CHART, "--create-namespace"))
    control_plane.kubectl(
        "patch", DEFINITION, "--type=json", '--patch=[{"op": "remove", "path": "/spec/names/shortNames"}]'
    )
    helm(*on(control_plane, "upgrade", "celeriac", CHART))
    assert control_plane.kubectl("get", DEFINITION, "-o", "jsonpath={.spec.names.shortNames}") == '["cwp"]'


def test_the_rendered_manifest_is_accepted_as_it_is(control_plane: ControlPlane):
    control_plane.kubectl("apply", "--server-side", "-f", str(CHECKOUT / "deploy/celeriac.yaml"))
    control_plane.kubectl("wait", "--for=condition=Established", DEFINITION, "--timeout=90s")
    # The namespace admits restricted pods only: that the Deployment gets its pod shows that the operator's is one.
    selector = ("pod", "-l", "app.kubernetes.io/component=operator")
    control_plane.kubectl("-n", NAMESPACE, "wait", "--for=create", *selector, "--timeout=90s")
    assert "celeriac-" in control_plane.kubectl("-n", NAMESPACE, "get", *selector, "-o", "name")


def test_what_was_applied_with_kubectl_becomes_a_release_with_everything_in_it(helm: Helm, control_plane: ControlPlane):
    manifest = CHECKOUT / "deploy/celeriac.yaml"
    control_plane.kubectl("apply", "--server-side", "-f", str(manifest))
    control_plane.kubectl("wait", "--for=condition=Established", DEFINITION, "--timeout=90s")
    control_plane.kubectl("apply", "-f", "-", input=POOL)
    kept = control_plane.kubectl("get", "cwp/kept", "-o", "jsonpath={.metadata.uid}")
    install = ("upgrade", "--install", "celeriac", CHART, "--create-namespace")
    refused = helm(*on(control_plane, *install), check=False)
    assert refused.returncode != 0
    assert "cannot be imported into the current release" in refused.stderr
    helm(*on(control_plane, *install, "--take-ownership", "--force-conflicts"))
    owners = 'jsonpath={range .items[*]}{.metadata.annotations.meta\\.helm\\.sh/release-name}{"\\n"}{end}'
    objects = control_plane.kubectl("get", "-f", str(manifest), "-o", owners).splitlines()
    assert objects.count("celeriac") == len(objects) - 1, "each but the namespace, which no release contains"
    assert control_plane.kubectl("get", "cwp/kept", "-o", "jsonpath={.metadata.uid}") == kept
    # From now on an upgrade is an ordinary one, and what a value turns off is removed.
    helm(*on(control_plane, "upgrade", "celeriac", CHART, "--set=rbac.aggregate=false"))
    assert "celeriac-view" not in control_plane.kubectl("get", "clusterroles", "-o", "name")


def test_the_definition_of_somebody_else_is_taken_over_only_when_asked_to(helm: Helm, control_plane: ControlPlane):
    older = (CHECKOUT / "crds/celeriac.dev_celeryworkerpools.yaml").read_text().replace("    - cwp\n", "    - old\n")
    control_plane.kubectl("apply", "--server-side", "-f", "-", input=older)
    refused = helm(*on(control_plane, "upgrade", "--install", "celeriac", CHART, "--create-namespace"), check=False)
    assert refused.returncode != 0
    assert "celeryworkerpools.celeriac.dev" in refused.stderr
    asked = ("--take-ownership", "--force-conflicts")
    helm(*on(control_plane, "upgrade", "--install", "celeriac", CHART, "--create-namespace", *asked))
    assert control_plane.kubectl("get", DEFINITION, "-o", "jsonpath={.spec.names.shortNames}") == '["cwp"]'
    # From now on it is the release's, and an upgrade is an ordinary one.
    helm(*on(control_plane, "upgrade", "celeriac", CHART))


def test_the_definition_can_be_handed_over_and_taken_back_without_a_pool_being_lost(
    helm: Helm, control_plane: ControlPlane
):
    definition = CHECKOUT / "crds/celeriac.dev_celeryworkerpools.yaml"
    helm(*on(control_plane, "install", "celeriac", CHART, "--create-namespace"))
    control_plane.kubectl("wait", "--for=condition=Established", DEFINITION, "--timeout=90s")
    control_plane.kubectl("apply", "-f", "-", input=POOL)
    uid = control_plane.kubectl("get", "cwp/kept", "-o", "jsonpath={.metadata.uid}")
    helm(*on(control_plane, "upgrade", "celeriac", CHART, "--set", "crds.enabled=false"))
    newer = definition.read_text().replace("    - cwp\n", "    - cwp\n    - newer\n")
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=newer)
    assert "newer" in control_plane.kubectl("get", DEFINITION, "-o", "jsonpath={.spec.names.shortNames}")
    back = ("--set", "crds.enabled=true", "--take-ownership", "--force-conflicts")
    helm(*on(control_plane, "upgrade", "celeriac", CHART, *back))
    assert control_plane.kubectl("get", DEFINITION, "-o", "jsonpath={.spec.names.shortNames}") == '["cwp"]'
    assert control_plane.kubectl("get", "cwp/kept", "-o", "jsonpath={.metadata.uid}") == uid


def test_one_operator_becomes_two_and_one_again(helm: Helm, control_plane: ControlPlane):
    seen = []
    for replicas in (1, 2, 1):
        settings = ("--install", "--create-namespace", "--set", f"replicas={replicas}")
        helm(*on(control_plane, "upgrade", "celeriac", CHART, *settings))
        fields = "jsonpath={.spec.replicas} {.spec.strategy.type}"
        seen.append(control_plane.kubectl("-n", NAMESPACE, "get", "deployment/celeriac", "-o", fields))
    assert seen == ["1 Recreate", "2 RollingUpdate", "1 Recreate"]
    assert control_plane.kubectl("-n", NAMESPACE, "get", "pdb", "-o", "name") == ""


@pytest.mark.parametrize("variant", ["customised", "namespaced", "everything"])
def test_each_variant_is_accepted_by_the_api_server(control_plane: ControlPlane, variant: str):
    control_plane.kubectl("apply", "--server-side", "-f", MONITORING)
    control_plane.kubectl("wait", "--for=condition=Established", "-f", MONITORING, "--timeout=90s")
    for namespace in (NAMESPACE, "team-a", "team-b"):
        control_plane.kubectl("create", "namespace", namespace)
    said = control_plane.kubectl("apply", "--server-side", "-f", str(GOLDEN / f"{variant}.yaml"))
    objects = (GOLDEN / f"{variant}.yaml").read_text().count("\nkind: ")
    assert said.count(" serverside-applied\n") == objects


def test_everyone_who_may_edit_a_namespace_may_edit_its_pools(helm: Helm, control_plane: ControlPlane):
    helm(*on(control_plane, "install", "celeriac", CHART, "--create-namespace"))
    control_plane.kubectl("create", "rolebinding", "dev", "--clusterrole=edit", "--user=dev", "-n", "default")
    may = {
        subresource: control_plane.kubectl(
            *("auth", "can-i", "patch", "cwp", f"--subresource={subresource}", "--as=dev", "-n", "default"), check=False
        ).strip()
        for subresource in ("", "scale", "status")
    }
    assert may == {"": "yes", "scale": "yes", "status": "no"}


def on(control_plane: ControlPlane, *arguments: str) -> list[str]:
    """A helm command against this control plane, in the operator's namespace."""
    return [*arguments, "--kubeconfig", str(control_plane.kubeconfig), "--namespace", NAMESPACE]
