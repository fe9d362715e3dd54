"""How is everything installed? The chart with helm, the shop and its services with kubectl."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from demo import waiting
from demo.kubernetes import POOLS, HttpError, Kube, Programs, condition_of
from localcluster import providers
from localcluster.paths import Cache

ROOT = Path(__file__).resolve().parent.parent.parent
OPERATOR_NAMESPACE = "celeriac-system"
RELEASE = "celeriac"
DEFINITION = "celeryworkerpools.celeriac.dev"
DEFINITION_PATH = f"apis/apiextensions.k8s.io/v1/customresourcedefinitions/{DEFINITION}"
WORKERS = "celeriac.dev%2Fpool"  # a label selector, as in an address
# In this order: what others need first.
MANIFESTS = ("redis.yaml", "mail.yaml", "sentry.yaml", "flower.yaml", "shop.yaml", "plain.yaml")
DEMO_IMAGES = (
    "celeriac-operator",
    "celeriac-worker",
    "celeriac-demo-shop",
    "celeriac-demo-plain",
    "celeriac-demo-redis",
    "celeriac-demo-mail",
    "celeriac-demo-sentry",
    "celeriac-demo-flower",
)
IMAGE = re.compile(r"\blocalhost/(?P<name>[a-z0-9-]+):dev\b")


class SetUpError(Exception):
    """The demo cannot be set up in this cluster, or the cluster or the images could not be created."""


@dataclass(frozen=True)
class Cluster:
    """A running cluster: its programs, and whether it was started just now."""

    programs: Programs
    was_started: bool
    how_to_reach: str  # what a person types first, so that kubectl is found and talks to it
    is_named: bool  # the person's own, in which others may have installed things


def start_cluster() -> Cluster:
    """Start the cluster unless it runs; progress is shown on standard error."""
    provider = providers.current()
    was_up = provider.name == "named" or provider.is_up()
    provider.up()
    return reach(provider, was_started=not was_up)


def local_cluster(*arguments: str) -> str:
    """Run the local cluster's own command and return what it printed; it shows its progress on standard error.

    Raises:
        SetUpError: it ended with an error, which it has said.
    """
    command = [sys.executable, "-m", "localcluster", *arguments]
    done = subprocess.run(command, cwd=ROOT / "tools", stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SetUpError(f"`localcluster {' '.join(arguments)}` ended with {done.returncode}")
    return done.stdout


def build_images(names: Iterable[str]) -> dict[str, str]:
    """Build the images that are not there yet, bring them into the cluster, and return their references by name."""
    references: dict[str, str] = json.loads(local_cluster("images", "--json", *names))
    return references


def find_cluster() -> Cluster | None:
    """Return the cluster if it runs."""
    provider = providers.current()
    return reach(provider, was_started=False) if provider.is_up() else None


def reach(provider: providers.Provider, *, was_started: bool) -> Cluster:
    """Return how to talk to a cluster that runs."""
    environment = providers.environment(provider, Cache.default(), os.environ.get("PATH", ""))
    how_to_reach = 'eval "$(PYTHONPATH=tools python3 -m localcluster env)"'
    return Cluster(Programs({**os.environ, **environment}), was_started, how_to_reach, provider.name == "named")


def render(manifest: str, images: Mapping[str, str]) -> str:
    """Return a manifest with each image of the examples replaced by the one that was built.

    Raises:
        SetUpError: the manifest names an image that was not built.
    """

    def replace(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in images:
            raise SetUpError(
                f"the manifest names the image {name}, which is not among those built: {', '.join(images)}"
            )
        return images[name]

    return IMAGE.sub(replace, manifest)


def install_chart(
    programs: Programs,
    images: Mapping[str, str],
    *settings: str,
    release: str = RELEASE,
    namespace: str = OPERATOR_NAMESPACE,
) -> None:
    """Install the chart, or upgrade it, and wait until the operator is up.

    Args:
        programs: helm, and the cluster.
        images: references of the operator's and the worker's image.
        settings: values, as `--set` takes them.
        release: name of the release.
        namespace: where the operator runs.
    """
    operator, worker = (split(images[name]) for name in ("celeriac-operator", "celeriac-worker"))
    tags = [f"image.tag={operator[1]}", f"workers.image.tag={worker[1]}"]
    values = [
        f"image.repository={operator[0]}",
        f"workers.image.repository={worker[0]}",
        "stalledAfterSeconds=10",  # a mistake in the demo or a test shows soon, not after 90 s
        *settings,
    ]
    programs.run(
        [
            *("helm", "upgrade", release, str(ROOT / "charts/celeriac"), "--install", "--wait", "--timeout=240s"),
            *("--namespace", namespace, "--create-namespace"),
            # A tag may consist of digits, but it is always a string.
            *(f"--set-string={value}" for value in tags),
            *(f"--set={value}" for value in values),
        ],
        seconds=270,
    )


def split(image: str) -> tuple[str, str]:
    """Return an image's repository and its tag."""
    repository, _, tag = image.rpartition(":")
    return repository, tag


def ensure_namespace(kube: Kube, annotations: Iterable[str] = ()) -> None:
    """Create the namespace unless it is there; one that is still being deleted is waited for."""
    path = f"api/v1/namespaces/{kube.namespace}"
    waiting.until(
        f"namespace {kube.namespace} is not being deleted any more",
        lambda: kube.read(path)["status"]["phase"] if exists(kube, path) else "gone",
        lambda phase: phase != "Terminating",
        seconds=120,
    )
    if not exists(kube, path):
        kube.kubectl("create", "namespace", kube.namespace)
    for annotation in annotations:
        kube.kubectl("annotate", "namespace", kube.namespace, annotation, "--overwrite")


def apply(kube: Kube, images: Mapping[str, str], manifests: Iterable[str] = MANIFESTS) -> None:
    """Apply the examples' manifests."""
    for name in manifests:
        text = (ROOT / "examples" / name).read_text()
        kube.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=render(text, images))


def wait_for_all(kube: Kube, seconds: float = 120) -> None:
    """Wait until every Deployment and every pool of the namespace is ready.

    Raises:
        TimedOutError: it names what is not ready.
    """
    waiting.until("everything is ready", lambda: list_unready(kube), lambda names: not names, seconds=seconds)


def list_unready(kube: Kube) -> list[str]:
    """List the Deployments and pools that are not ready, each with its own message."""
    unready = []
    for item in kube.read(f"apis/apps/v1/namespaces/{kube.namespace}/deployments")["items"]:
        wanted, status = item["spec"]["replicas"], item.get("status", {})
        is_current = status.get("observedGeneration") == item["metadata"]["generation"]
        if not is_current or status.get("updatedReplicas", 0) != wanted or status.get("availableReplicas", 0) != wanted:
            unready.append(f"deployment {item['metadata']['name']}")
    for item in kube.read(f"{POOLS}/namespaces/{kube.namespace}/celeryworkerpools")["items"]:
        ready = condition_of(item, "Ready")
        if ready.status != "True" or not ready.is_current:
            unready.append(f"pool {item['metadata']['name']} ({ready})")
    return unready


def uninstall(kube: Kube) -> None:
    """Remove the chart; the definition goes too unless somebody else has pools."""
    kube.programs.run(["helm", "uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--ignore-not-found", "--wait"])
    remove_namespace(kube.at(OPERATOR_NAMESPACE))
    if exists(kube, DEFINITION_PATH) and not kube.read(f"{POOLS}/celeryworkerpools")["items"]:
        kube.kubectl("delete", "crd", DEFINITION)


def remove_namespace(kube: Kube) -> None:
    """Remove a namespace, its pods first.

    Kubernetes checks a namespace that is being deleted again only after half the longest grace period of its pods,
    which is long for workers. A namespace without pods is deleted at once.
    """
    if not exists(kube, f"api/v1/namespaces/{kube.namespace}"):
        return
    if exists(kube, DEFINITION_PATH):
        kube.kubectl("delete", "celeryworkerpools", "--all")
    # Workers give their messages back to Redis, so Redis is removed after them.
    waiting.until("the workers have left", lambda: count_pods(kube, WORKERS), lambda count: count == 0, seconds=300)
    kube.kubectl("delete", "deployments", "--all")
    waiting.until("all pods have left", lambda: count_pods(kube, ""), lambda count: count == 0, seconds=90)
    kube.kubectl("delete", "namespace", kube.namespace, "--timeout=120s", seconds=150)


def annotations_of(kube: Kube) -> dict[str, str]:
    """The annotations of the namespace; none if there is no such namespace."""
    path = f"api/v1/namespaces/{kube.namespace}"
    found: dict[str, str] = kube.read(path)["metadata"].get("annotations", {}) if exists(kube, path) else {}
    return found


def exists(kube: Kube, path: str) -> bool:
    """Whether the cluster has an object at this path."""
    try:
        kube.read(path)
    except HttpError as error:
        if error.status != 404:
            raise
        return False
    return True


def count_pods(kube: Kube, selector: str) -> int:
    """Return how many pods there are, also those that are leaving."""
    return len(kube.read(f"api/v1/namespaces/{kube.namespace}/pods?labelSelector={selector}")["items"])
