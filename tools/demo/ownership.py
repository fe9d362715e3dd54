"""What in a person's own cluster did the demo make? It changes and removes nothing else there.

The demo marks the namespaces that it makes. A second operator beside the person's would handle the same pools, and Helm
would upgrade a release of the same name, so the demo does not start where Celeriac is already. Clusters that this
project starts have no other owner, and are not asked.
"""

from __future__ import annotations

from collections.abc import Iterable

from demo import install
from demo.kubernetes import Kube

MARK = "demo.celeriac.dev/made"
OPERATORS = "app.kubernetes.io%2Fpart-of%3Dceleriac,app.kubernetes.io%2Fcomponent%3Doperator"


def mark(*namespaces: Kube) -> None:
    """Make the namespaces that are not there yet, and put the demo's mark on them."""
    for namespace in namespaces:
        install.ensure_namespace(namespace, annotations=[f"{MARK}=true"])


def is_made_here(kube: Kube) -> bool:
    """Whether the demo made this namespace."""
    return MARK in install.annotations_of(kube)


def refuse_others(kube: Kube) -> None:
    """Make sure that the demo would touch only what it made.

    Raises:
        SetUpError: the cluster has a Celeriac, or a namespace with a name that the demo needs, of somebody else.
    """
    system = kube.at(install.OPERATOR_NAMESPACE)
    made_here = {place.namespace for place in (kube, system) if is_made_here(place)}
    found = [f"the namespace {place.namespace}" for place in (kube, system) if _is_foreign(place, made_here)]
    for item in kube.read(f"apis/apps/v1/deployments?labelSelector={OPERATORS}")["items"]:
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        if namespace not in made_here:
            found.append(f"an operator, deployment {name} in namespace {namespace}")
    if not made_here and install.exists(kube, install.DEFINITION_PATH):
        found.append(f"the definition {install.DEFINITION}")
    if found:
        raise install.SetUpError(sentence(found))


def _is_foreign(kube: Kube, made_here: set[str]) -> bool:
    return kube.namespace not in made_here and install.exists(kube, f"api/v1/namespaces/{kube.namespace}")


def sentence(found: Iterable[str]) -> str:
    """(pure) Say what is in the way, and what to do."""
    return (
        f"this cluster has {', '.join(found)}, which the demo did not make, and would upgrade and later remove. Name a "
        "cluster without Celeriac, or unset CELERIAC_USE_CLUSTER: the demo then starts a cluster of its own"
    )
