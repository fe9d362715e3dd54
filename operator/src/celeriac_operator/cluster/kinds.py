"""(pure) Which kinds of objects does the operator read, and under which API paths?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from celeriac_operator import labels
from celeriac_operator.resource import GROUP, KIND, PLURAL, VERSION


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of objects."""

    kind: str
    group: str
    version: str
    plural: str
    label_selector: str = ""
    field_selector: str = ""
    """Which of its objects concern the operator; the API server filters."""

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path under which the API server serves the collection or one object."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = ["namespaces", namespace] if namespace else []
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join([root, *parts])


POOL = Kind(kind=KIND, group=GROUP, version=VERSION, plural=PLURAL)
DEPLOYMENT = Kind(kind="Deployment", group="apps", version="v1", plural="deployments", label_selector=labels.WATCHED)
DISRUPTION_BUDGET = Kind(
    kind="PodDisruptionBudget",
    group="policy",
    version="v1",
    plural="poddisruptionbudgets",
    label_selector=labels.WATCHED,
)
POD = Kind(kind="Pod", group="", version="v1", plural="pods", label_selector=labels.WATCHED)
SECRET = Kind(
    kind="Secret",
    group="",
    version="v1",
    plural="secrets",
    # Helm releases are large and service account tokens numerous; no pool needs either.
    field_selector="type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token",
)
EVENT = Kind(kind="Event", group="", version="v1", plural="events")
LEASE = Kind(kind="Lease", group="coordination.k8s.io", version="v1", plural="leases")

WATCHED = (POOL, DEPLOYMENT, DISRUPTION_BUDGET, POD, SECRET)

OWNED: Mapping[str, Kind] = {kind.kind: kind for kind in (DEPLOYMENT, DISRUPTION_BUDGET, SECRET)}
"""Objects that the operator creates for a pool, by kind."""
