"""(pure) What of an object is kept in memory?"""

from __future__ import annotations

from celeriac_operator import bounded
from celeriac_operator.decide import ownership, references, replicas
from celeriac_operator.manifest import Manifest
from celeriac_operator.resource import CeleryWorkerPool

MAX_SPEC = 2**18
"""Largest spec of a pool in bytes. Every pool, and its Deployment, is kept in memory; Kubernetes itself would store
1.5 MB. Large files belong into a ConfigMap."""

TOO_LARGE = "celeriac.dev/too-large"
"""Key of a cached spec that was too large to be kept."""


def lean(manifest: Manifest) -> Manifest:
    """With the part of managedFields that says who has set the number of workers; the rest is larger than the pool."""
    kept = replicas.keep(manifest["metadata"].get("managedFields") or ())
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "managedFields"}
    return {**manifest, "metadata": {**metadata, "managedFields": kept} if kept else metadata}


def within_bounds(pool: Manifest) -> Manifest:
    """The pool without its spec if that is larger than any that is handled; a pass then reports why."""
    if not bounded.is_larger(pool["spec"], MAX_SPEC):
        return pool
    number = {key: value for key, value in pool["spec"].items() if key == "replicas"}
    return {**pool, "spec": {**number, TOO_LARGE: True}}


def with_managers(manifest: Manifest) -> Manifest:
    """With the part of managedFields that names other managers of the spec; usually there are none."""
    kept = ownership.keep(manifest["metadata"].get("managedFields") or ())
    return {**manifest, "metadata": {**manifest["metadata"], "managedFields": kept}}


def without_status(manifest: Manifest) -> Manifest:
    """Without its status, which no rule uses."""
    return {key: value for key, value in with_managers(manifest).items() if key != "status"}


def unversioned(manifest: Manifest) -> Manifest:
    """Without what changes with every write."""
    return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": ""}}


def secret_names(manifest: Manifest) -> frozenset[str]:
    """Names of the Secrets that a pool names."""
    try:
        return references.secret_names(CeleryWorkerPool.parse(dict(manifest)))
    except ValueError:  # stored under another version of the CRD; the pass reports it in the status
        return frozenset()
